"""`ninefold source`: what flows in, how freely, and the wizard that adds another source.

What trying a source needs is imported when it is tried: the other commands answer at once.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer
import yaml
from rich.prompt import Confirm, Prompt

from ninefold.cli import show
from ninefold.cli.client import Client
from ninefold.ground.errors import BadData, NinefoldError, NotFound

if TYPE_CHECKING:
    from ninefold.plugin import Source
    from ninefold.stewardship.trying import Attempt

app = typer.Typer(no_args_is_help=True, help="List, show, check and add sources of data.")
ConfigFile = Annotated[Path | None, typer.Option("--config", "-c", help="Path of ninefold.yaml.", envvar="NINEFOLD_CONFIG")]
Given = Annotated[list[str] | None, typer.Option("--set", help="A setting as key=value; the value is YAML. May be repeated.")]
_SURE = 0.5


@app.command("list")
def list_sources() -> None:
    """List the sources that have delivered."""
    show.rows(
        Client().get("sources")["items"],
        ["name", "kind", "state", "score", "drifting", "signals", "delay_p50_s", "delay_p99_s", "quarantined", "last_seen"],
    )


@app.command("show")
def show_source(name: str) -> None:
    """Show one source: its freedom term by term, how it behaves, its data models, what drifted."""
    item = Client().get(f"sources/{quote(name, safe='')}")
    if not sys.stdout.isatty():
        show.thing(item)
        return
    freedom = item["freedom"]
    score = "not known yet" if freedom["score"] is None else f"{freedom['score']:g} of 100"
    show.rows(freedom["terms"], ["name", "points", "most", "measured", "how"], f"{name}: freedom {score}")
    for advice in freedom["advice"]:
        show.out.print(f"[yellow]-{advice['lost']}[/] {advice['term']}: {advice['text']}")
    show.rows(item["streams"], ["signal", "rows", "every_s", "silent_after_s", "delay_p50_s", "delay_p99_s", "variety"], "Signals")
    for model in item["models"]:
        version = f"version {model['version']}" if model["version"] else "learning"
        title = f"{model['signal']} {model['type']}: {version}, {model['sampled']} records sampled"
        show.rows(model["fields"], ["path", "type", "unit", "examples", "distinct", "null_rate"], title)
    show.rows(item["drifts"], ["since", "until", "what", "title", "notice"], "Drifts")


@app.command("check")
def check(name: Annotated[str, typer.Argument(help="One source; all by default.")] = "", config: ConfigFile = None) -> None:
    """Try the connection of the configured sources; nothing is taken away."""
    from ninefold.config import load

    sources = load(config).sources
    if name and name not in sources:
        raise NotFound(f"there is no source {name!r} in the configuration; it has {', '.join(sorted(sources)) or 'none'}")
    rows = [_checked(one, dict(settings)) for one, settings in sources.items() if name in ("", one)]
    show.rows(rows, ["name", "type", "state", "said"])
    if any(row["state"] == "bad" for row in rows):
        raise typer.Exit(1)


def _checked(name: str, settings: dict[str, Any]) -> dict[str, str]:
    from ninefold.stewardship.trying import attempt

    kind = str(settings.pop("type", ""))
    settings.pop("enabled", None)
    try:
        return {"name": name, "type": kind, "state": "ok", "said": asyncio.run(attempt(kind, name, settings)).said}
    except NinefoldError as error:
        return {"name": name, "type": kind, "state": "bad", "said": str(error)}


@app.command("add")
def add(
    kind: Annotated[str, typer.Argument(help="The kind of source; asked for on a terminal.")] = "",
    name: Annotated[str, typer.Argument(help="What to call it; by default as its kind.")] = "",
    given: Given = None,
    config: ConfigFile = None,
    unchecked: Annotated[bool, typer.Option("--no-check", help="Do not try the connection.")] = False,
) -> None:
    """Add a source step by step: choose a kind, fill in its settings, try them, see sample rows, write the YAML.

    On a terminal it asks; elsewhere everything comes from the arguments. Without --config the YAML goes to standard output.
    """
    from ninefold.stewardship import trying

    ask = sys.stdin.isatty()
    kind = kind or _kind(ask)
    cls = trying.kind_of(kind)
    name = name or (Prompt.ask("Name of the source", default=kind, console=show.err) if ask else kind)
    settings = _settings(cls, given or [], ask)
    mappings: dict[str, Any] = {}
    if not unchecked:
        found = _try(kind, name, settings, ask)
        if found is not None:
            _print(found)
            mappings = _take(found, settings, ask)
    part, needed = trying.fragment(kind, name, settings, mappings)
    for variable, setting in needed.items():
        show.err.print(f"Set the environment variable [bold]{variable}[/] to the {setting}; secrets are not written into the file.")
    if config is None:
        typer.echo(trying.dump(part), nl=False)
        return
    text = trying.merged(config.read_text() if config.exists() else "", part)
    config.write_text(text)
    show.err.print(f"{name} is in {config}; restart Ninefold to begin.")


def _kind(ask: bool) -> str:
    from ninefold.stewardship import trying

    if not ask:
        raise BadData("no kind of source is named; give one, e.g. `ninefold source add webhook`", "kind")
    items = trying.kinds()
    show.rows(items, ["kind", "title", "extraction", "signals"])
    return Prompt.ask("Kind of source", choices=[item["kind"] for item in items], show_choices=False, console=show.err)


def _settings(cls: type[Source], given: list[str], ask: bool) -> dict[str, Any]:
    """The settings from ``key=value`` texts (dots go into tables), and what is missing from questions.

    Raises:
        BadData: a text is not of this form, or a setting that is needed is missing and nobody can be asked.
    """
    from ninefold.stewardship import trying

    settings: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadData(f"--set {text!r} is not of the form key=value", "set")
        place = settings
        *tables, last = key.split(".")
        for table in tables:
            place = place.setdefault(table, {})
        place[last] = _value(value)
    for key, info in trying.fields_of(cls).items():
        if key in settings or (not ask and not info.is_required()):
            continue
        if not ask:
            raise BadData(f"the setting {key} is needed: {info.description or key}; give --set {key}=…", key)
        default = "" if info.is_required() else info.get_default(call_default_factory=True)
        told = "" if default in ("", None) or trying.secret(info) else trying.dump({"": default}).partition(":")[2].strip()
        answer = Prompt.ask(
            f"{info.description or key} [bold]{key}[/]",
            default=told,
            console=show.err,
            password=trying.secret(info),
            show_default=bool(told),
        )
        if answer != told:
            settings[key] = answer if trying.secret(info) else _value(answer)
    return settings


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text) if text else ""
    except yaml.YAMLError:
        return text


def _try(kind: str, name: str, settings: dict[str, Any], ask: bool) -> Attempt | None:
    """What trying gave; None when it failed and the settings shall be written all the same."""
    from ninefold.config import parse
    from ninefold.stewardship.trying import attempt

    filled = parse({"sources": {name: settings}}).sources[name]  # references to the environment and to files
    try:
        return asyncio.run(attempt(kind, name, filled))
    except NinefoldError as error:
        show.err.print(f"[red]{error}[/]")
        if ask and Confirm.ask("Write it all the same?", default=False, console=show.err):
            return None
        raise


def _print(found: Attempt) -> None:
    show.err.print(f"[green]{found.said}[/]")
    for sample in found.samples:
        show.err.print(f"{sample['rows']} rows of {sample['signal']}, for example:")
        for row in sample["first"][:3]:
            show.err.print_json(data=row)
    if found.cadence:
        show.err.print(found.cadence)


def _take(found: Attempt, settings: dict[str, Any], ask: bool) -> dict[str, Any]:
    """Put the proposed cadence into the settings, and give the proposed mapping as the section `webhooks`."""
    if found.settings and (not ask or Confirm.ask("Take this cadence?", default=True, console=show.err)):
        settings.update(found.settings)
    fields = {item.target: item.path for item in found.suggestions if item.confidence >= _SURE}
    if not fields or not found.mapping:
        return {}
    show.err.print("Its records would be read so:")
    for item in found.suggestions:
        show.err.print(f"  {item.target}: {item.path}  ({item.confidence:.0%} of the records, e.g. {item.example})", markup=False)
    if ask and not Confirm.ask("Take this mapping?", default=True, console=show.err):
        return {}
    return {found.mapping: {"kind": found.kind or "alert", "fields": fields}}
