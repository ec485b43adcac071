"""`ninefold login` and `ninefold token`."""

from __future__ import annotations

from typing import Annotated

import typer

from ninefold.cli import show
from ninefold.cli.client import DEFAULT_URL, Client, keep_credentials

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API tokens (needs the role admin).")


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
def create(name: str, role: Annotated[str, typer.Option(help="ingest, viewer, operator or admin.")] = "ingest") -> None:
    """Make a token and print its secret, this once."""
    show.thing(Client().post("tokens", {"name": name, "role": role}))


@app.command("revoke")
def revoke(name: str) -> None:
    """Revoke a token."""
    Client().call("DELETE", f"/api/v1/tokens/{name}")
    show.err.print(f"The token {name} is revoked.")
