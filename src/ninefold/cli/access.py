"""`ninefold login` and `ninefold token`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from ninefold.cli import show
from ninefold.cli.client import DEFAULT_URL, Client, keep_credentials
from ninefold.ground.errors import ConfigError, Refused

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API tokens (needs the role admin, or the data folder).")


def login(url: Annotated[str, typer.Option(help="The server's address.", envvar="NINEFOLD_URL")] = DEFAULT_URL) -> None:
    """Keep the address and the token of a server for the other commands."""
    secret = typer.prompt("Token", hide_input=True)
    me = Client(url, secret).get("me")
    path = keep_credentials(url, secret)
    show.err.print(f"Logged in to {url} as [bold]{me['name']}[/] ({me['role']}); kept in {path}.")


@app.command("list")
def list_tokens() -> None:
    """List tokens, without their secrets."""
    show.rows(Client().get("tokens"), ["name", "role", "created", "revoked"])


@app.command("create")
def create(
    name: str,
    role: Annotated[str, typer.Option(help="ingest, viewer, operator or admin.")] = "ingest",
    data: Annotated[
        Path | None, typer.Option("--data", help="Write into this data folder, on the machine Ninefold runs on: that needs no token.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="Likewise, for the data that this ninefold.yaml names.")] = None,
) -> None:
    """Make a token and print its secret, this once."""
    if data is None and config is None:
        show.thing(Client().post("tokens", {"name": name, "role": role}))
    else:
        show.thing({"name": name, "role": role, "token": _make_here(name, role, config, data)})


@app.command("revoke")
def revoke(name: str) -> None:
    """Revoke a token."""
    Client().call("DELETE", f"/api/v1/tokens/{quote(name, safe='')}")
    show.err.print(f"The token {name} is revoked.")


def _make_here(name: str, role: str, config: Path | None, data: Path | None) -> str:
    """The secret of a new token in the records themselves; a running server knows it at once.

    Raises:
        ConfigError: there is no such data folder.
        Refused, Conflict: the role, or the name, cannot be.
    """
    from ninefold.cli.running import settings_of  # here, because the other commands answer at once without it
    from ninefold.store.records.access import ROLES, make_token
    from ninefold.store.records.base import Records
    from ninefold.store.records.migrate import upgrade

    settings = settings_of(config, data)
    if not settings.records.url and not settings.data.is_dir():
        raise ConfigError(f"the data folder {settings.data} does not exist; name the one that `ninefold serve` uses")
    if role not in ROLES:
        raise Refused(f"the role {role!r} is not one of {', '.join(ROLES)}")
    records = Records(settings.records_url)
    try:
        upgrade(records)
        with records.session() as session:
            return make_token(session, name, role, "local")
    finally:
        records.close()
