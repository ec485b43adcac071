"""The command line: `ninefold serve`, `demo`, `query`, `incident`, `workflow`, `replay`, `export`, `backup`,
`restore`, `check`, `token`, `login`.

Tables and colours on a terminal, JSON when piped. Commands that talk to a running server use `NINEFOLD_URL` and
`NINEFOLD_TOKEN`, or what `ninefold login` kept.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ninefold import __version__
from ninefold.cli import access, data, incidents, run, sources, workflows
from ninefold.ground.errors import NinefoldError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="AIOps in one program.")
app.command()(run.serve)
app.command()(run.demo)
app.command()(run.check)
app.command()(data.query)
app.command()(data.replay)
app.command()(data.export)
app.command()(data.backup)
app.command()(data.restore)
app.command()(access.login)
app.add_typer(incidents.app, name="incident")
app.add_typer(workflows.app, name="workflow")
app.add_typer(sources.app, name="source")
app.add_typer(access.app, name="token")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ninefold {__version__}")
        raise typer.Exit


@app.callback()
def _root(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    """AIOps in one program: every signal in, few explained incidents out."""


def main() -> None:
    """The entry point: errors are one sentence on standard error and exit status 1."""
    try:
        app()
    except NinefoldError as error:
        typer.secho(f"ninefold: {error}", err=True, fg=typer.colors.RED)
        sys.exit(1)
