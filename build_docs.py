"""Write the reference pages of the documentation from the code: one page a source below ``docs/sources``.

``make docs`` runs it; a test keeps the pages in step.
"""

from __future__ import annotations

import re
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from ninefold.plugin import Source, plugins

FOLDER = Path(__file__).resolve().parent / "docs" / "sources"
_HOW = {
    "push": "It is pushed to Ninefold as it happens.",
    "stream": "Ninefold subscribes and receives it as it happens.",
    "poll": "Ninefold asks for it from time to time.",
    "file": "Ninefold reads it from files.",
}
_SHARED = {"payload": "What messages hold", "rows": "What rows become", "postgresql_log": "PostgreSQL's log"}
"""Modules that several sources' pages speak of."""
_SIGNALS = {"metric": "metrics", "log": "logs", "span": "traces", "event": "events", "relation": "relations"}


def pages() -> dict[str, str]:
    """Every page by file name."""
    kinds: dict[str, type[Source]] = dict(sorted(plugins("sources").items()))
    made = {f"{kind}.md": _page(kind, source) for kind, source in kinds.items()}
    shared = {f"{name}.md": f"# {title}\n\n{_prose(f'ninefold.sources.{name}')}\n" for name, title in _SHARED.items()}
    return {**made, **shared, "README.md": _index(kinds)}


def _index(kinds: dict[str, type[Source]]) -> str:
    rows = [
        f"| [{source.title}]({kind}.md) | {_words(source)} | {source.extraction} | {'always' if source.always else 'when configured'} |"
        for kind, source in sorted(kinds.items(), key=lambda pair: pair[1].title.lower())
    ]
    head = (
        "# Sources\n\nWhat Ninefold takes in, a page each. All of it passes the same front door: checked, made durable, only then"
        "\nacknowledged; what cannot be understood is kept in quarantine with the reason. Written by `make docs` from the code.\n\n"
        "| source | brings | how | runs |\n|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def _words(source: type[Source]) -> str:
    return ", ".join(word for signal, word in _SIGNALS.items() if signal in source.signals)


def _page(kind: str, source: type[Source]) -> str:
    about = _prose(source.__module__)
    runs = "It runs without being configured." if source.always else "It runs when it is configured."
    parts = [f"# {source.title}", about, f"Brings {_words(source)}. {_HOW[source.extraction]} {runs}"]
    parts += [
        "## Settings",
        f"```yaml\n# ninefold.yaml\nsources:\n  {kind.replace('_', '-')}:\n    type: {kind}\n{_example(source.Config)}```",
    ]
    table = _table(source.Config, "")
    parts.append("| key | type | default | |\n|---|---|---|---|\n" + "\n".join(table) if table else "There is nothing to set.")
    return "\n\n".join(parts) + "\n"


def _prose(module: str) -> str:
    """A module's docstring as Markdown: its double backquotes are single ones there."""
    text = textwrap.dedent(import_module(module).__doc__ or "").strip()
    return re.sub(r"^```yaml\n(?!# )", "```yaml\n# ninefold.yaml\n", re.sub(r"(?<!`)``(?!`)", "`", text), flags=re.MULTILINE)


def _example(model: type[BaseModel]) -> str:
    """The settings one must give, with a value of their type."""
    lines = []
    for name, field in model.model_fields.items():
        if field.is_required():
            given = field.examples[0] if field.examples else _sample(field)
            lines.append(f"    {name}: {given}\n")
    return "".join(lines)


def _sample(field: FieldInfo) -> Any:
    kind = field.annotation
    if kind is int or kind is float:
        return 1
    if kind is SecretStr:
        return "${SECRET}"
    return "[]" if "list" in str(kind) or "tuple" in str(kind) else "…"


def _table(model: type[BaseModel], before: str) -> list[str]:
    rows: list[str] = []
    for name, field in model.model_fields.items():
        inner = next(
            (kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type) and issubclass(kind, BaseModel)),
            None,
        )
        default = "needed" if field.is_required() else _default(field)
        rows.append(f"| `{before}{name}` | {_type(field.annotation)} | {default} | {_cell(field.description or '')} |")
        if inner is not None:
            rows += _table(inner, f"{before}{name}.")
    return rows


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value in (None, "", PydanticUndefined) or isinstance(value, BaseModel | SecretStr):
        return ""
    return _cell(f"`{value}`") if value not in ((), [], {}) else ""


def _type(annotation: Any) -> str:
    kinds = {SecretStr: "secret", str: "text", int: "number", float: "number", bool: "true or false", Path: "path", type(None): ""}
    if annotation in kinds:
        return kinds[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "settings"
    parts = [part if isinstance(part, str) else _type(part) for part in get_args(annotation)]
    name = getattr(annotation, "__name__", "") or str(annotation)
    if name in ("list", "tuple"):
        return f"list of {parts[0] if parts else 'texts'}"
    if name == "dict":
        return "map"
    return " or ".join(dict.fromkeys(part for part in parts if part and part != "Ellipsis")) or name


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Write all pages and remove those of sources that are gone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = pages()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text)
    for page in FOLDER.glob("*.md"):
        if page.name not in wanted:
            page.unlink()


if __name__ == "__main__":
    main()
