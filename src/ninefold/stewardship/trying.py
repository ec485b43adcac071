"""Trying a source before it is configured: what kinds there are, whether the connection works, what would come, how to write it down."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Any, get_args

import jmespath
import orjson
import pyarrow as pa
import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from ninefold.catalogue.masking import masked
from ninefold.ground.clock import SECOND, iso
from ninefold.ground.errors import BadData, ConfigError, NotFound, Unavailable
from ninefold.model.signal import Batch
from ninefold.plugin import Lent, Source, Strict, plugins
from ninefold.sources.reading import time_of
from ninefold.sources.webhook import Reader
from ninefold.stewardship.mapping import Suggestion, suggested

_PATIENCE_S = 20.0
_ROWS, _DEEP = 5, 200
_EVERY = ("interval_s", "every_s", "poll_s", "poll_interval_s", "interval")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What trying gave: a sentence, a few rows by signal as they would come in, paths for a mapping, and how often to ask.

    `mapping` is the name of the mapping that would read its records, "" when none would, and `kind` the kind of events as which they
    are read without one; `cadence` is in words; `settings` are proposed values that differ from what was given.
    """

    said: str
    samples: list[dict[str, Any]] = field(default_factory=list)
    suggestions: list[Suggestion] = field(default_factory=list)
    mapping: str = ""
    cadence: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    kind: str = ""


def kinds() -> list[dict[str, Any]]:
    """Every kind of source, by title: kind, title, extraction, signals, always, docs and the JSON schema of its settings."""
    found = [described(kind, cls) for kind, cls in plugins("sources").items()]
    return sorted(found, key=lambda item: str(item["title"]).lower())


def described(kind: str, cls: type[Source]) -> dict[str, Any]:
    """A kind as people see it; its page is the docstring of its module."""
    return {
        "kind": kind, "title": cls.title, "extraction": cls.extraction, "signals": sorted(cls.signals), "always": cls.always,
        "docs": inspect.cleandoc(sys.modules[cls.__module__].__doc__ or ""),
        "schema": {"type": "object", "properties": {}} if cls.Config is Strict else cls.Config.model_json_schema(),
    }  # fmt: skip


def kind_of(kind: str) -> type[Source]:
    """The class of a kind.

    Raises:
        NotFound: there is no such kind.
    """
    found: dict[str, type[Source]] = plugins("sources")
    if kind not in found:
        raise NotFound(f"there is no kind of source {kind!r}; they are {', '.join(sorted(found))}")
    return found[kind]


def fields_of(cls: type[Source]) -> dict[str, FieldInfo]:
    """The settings of a kind by name."""
    return dict(cls.Config.model_fields)


def secret(info: FieldInfo) -> bool:
    """Whether a setting holds a secret."""
    return info.annotation is SecretStr or SecretStr in get_args(info.annotation)


async def attempt(kind: str, name: str, settings: Mapping[str, Any]) -> Attempt:
    """Try a source with these settings; nothing is taken away from it and nothing is kept.

    Raises:
        NotFound: there is no such kind.
        BadData: a setting is wrong; secrets are not repeated.
        Unavailable, Refused, ConfigError: as `Source.check`.
    """
    cls = kind_of(kind)
    try:
        config = cls.Config.model_validate(dict(settings))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise BadData(f"the settings are wrong: {problems}", "settings") from None
    source = cls(name, config, Lent())
    try:
        reached = await asyncio.wait_for(source.check(), _PATIENCE_S)
    except TimeoutError:
        raise Unavailable(f"{cls.title} did not answer within {_PATIENCE_S:.0f} s; check its address") from None
    except OSError as error:
        raise Unavailable(f"{cls.title} cannot be reached: {error}") from error
    suggestions, mapping, read_as, times = _mapped(reached.batches)
    cadence, proposed = _cadence(cls, settings, [times, *_times(reached.batches)])
    samples = [_sample(batch) for batch in reached.batches if batch.rows.num_rows]
    return Attempt(reached.said, samples, suggestions, mapping, cadence, proposed, read_as)


def _sample(batch: Batch) -> dict[str, Any]:
    rows = batch.rows.slice(0, _ROWS)
    plain = [column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column for column in rows.columns]
    shown = pa.RecordBatch.from_arrays(plain, rows.schema.names).to_pylist(maps_as_pydicts="lossy")
    return {"signal": batch.signal, "rows": batch.rows.num_rows, "first": [_readable(row) for row in shown]}


def _readable(row: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key == "vnode" or value in ("", b"", {}, None):
            continue
        if isinstance(value, dict):
            found[key] = {inner: masked(inner, str(text), 200) for inner, text in value.items()}
        elif isinstance(value, str | bytes):
            found[key] = masked(key, value.decode("utf-8", "replace") if isinstance(value, bytes) else value, 2000)
        else:
            found[key] = iso(value) if key in ("time", "received", "seen") else value
    return found


def _mapped(batches: Sequence[Batch]) -> tuple[list[Suggestion], str, str, list[int]]:
    """Suggestions for raw records, the name of their mapping, the kind as which most are read now, and their times (ns) by it."""
    records: list[Any] = []
    kinds_read: Counter[str] = Counter()
    name = ""
    for batch in batches:
        format_ = str(batch.rows.column("format")[0]) if batch.signal == "raw" and batch.rows.num_rows else ""
        if format_.startswith("webhook:"):
            name = format_.removeprefix("webhook:")
            payloads = batch.rows.column("payload").slice(0, _DEEP).to_pylist()
            records += [orjson.loads(payload) for payload in payloads]
            kinds_read.update(_kinds_read(Reader(name), payloads, batch.received))
    found = suggested(records)
    path = next((suggestion.path for suggestion in found if suggestion.target == "time"), "")
    times = [time_of(jmespath.search(path, record)) for record in records] if path else []
    read_as = max(kinds_read, key=kinds_read.__getitem__, default="alert")
    return found, name, read_as if name else "", [time for time in times if time is not None]


def _kinds_read(reader: Reader, payloads: Sequence[bytes], received: int) -> Iterator[str]:
    for payload in payloads:
        with suppress(BadData):  # what cannot be read yet is of no kind
            yield reader.to_event(payload, received)["kind"]


def _times(batches: Sequence[Batch]) -> list[list[int]]:
    return [batch.rows.column("time").cast(pa.int64()).to_pylist() for batch in batches if "time" in batch.rows.schema.names]


def _cadence(cls: type[Source], settings: Mapping[str, Any], times: Sequence[list[int]]) -> tuple[str, dict[str, Any]]:
    """How often to ask: half the usual distance of the records seen, for sources that are polled."""
    setting = next((name for name in _EVERY if name in cls.Config.model_fields), "")
    if cls.extraction != "poll" or not setting:
        return ("It is pushed: nothing has to be asked." if cls.extraction in ("push", "stream") else ""), {}
    gaps = [after - before for found in times for before, after in itertools.pairwise(sorted(set(found)))]
    if not gaps or setting in settings:
        return f"Its {setting} is {settings.get(setting, cls.Config.model_fields[setting].default)}.", {}
    apart = median(gaps) / SECOND
    every = round(min(300.0, max(5.0, apart / 2)))
    return f"Its records are {apart:.3g} s apart: asking every {every} s sees each one soon.", {setting: every}


def fragment(
    kind: str, name: str, settings: Mapping[str, Any], mappings: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """What to write into ninefold.yaml, and the environment variables that have to hold its secrets (name -> setting)."""
    needed: dict[str, str] = {}
    try:
        checked = kind_of(kind).Config.model_validate(settings)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigError(f"the settings of {name} are wrong: {problems}") from None
    whole: dict[str, Any] = {"sources": {name: {"type": kind, **_hidden(checked, dict(settings), name, "", needed)}}}
    if mappings:
        whole["webhooks"] = dict(mappings)
    return whole, needed


def _hidden(checked: Any, given: Any, name: str, path: str, needed: dict[str, str]) -> Any:
    """What was given with every secret in it, however deep, in an environment variable's place; the variables go into `needed`."""
    if isinstance(checked, SecretStr):
        if not isinstance(given, str) or given.startswith("${"):
            return given
        variable = re.sub(r"\W", "_", f"{name}_{path}").upper()
        needed[variable] = path
        return f"${{{variable}}}"
    if isinstance(given, dict) and isinstance(checked, BaseModel | dict):
        parts = {key: getattr(checked, key, None) if isinstance(checked, BaseModel) else checked.get(key) for key in given}
        return {key: _hidden(parts[key], value, name, f"{path}.{key}".strip("."), needed) for key, value in given.items()}
    if isinstance(given, list | tuple) and isinstance(checked, list | tuple) and len(given) == len(checked):
        pairs = enumerate(zip(checked, given, strict=True))
        return [_hidden(part, value, name, f"{path}.{place}".strip("."), needed) for place, (part, value) in pairs]
    return given


def merged(text: str, part: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a ninefold.yaml with sections' entries added at their ends; comments and order stay.

    Raises:
        ConfigError: the file is not YAML, has such an entry already, or is written in a way that cannot be added to.
    """
    try:
        before = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"the configuration is not YAML: {error}") from error
    for section, entries in part.items():
        for name in entries:
            if name in (before.get(section) or {}):
                raise ConfigError(f"{section}.{name} is there already; choose another name or edit the file")
        text = _with(text, section, entries)
        before = {**before, section: {**(before.get(section) or {}), **entries}}
    try:
        if yaml.safe_load(text) == before:
            return text
    except yaml.YAMLError:
        pass  # an entry in a form that lines cannot be added to
    raise ConfigError("the configuration is written in a way that cannot be added to; add the lines by hand")


def _with(text: str, section: str, entries: Mapping[str, Any]) -> str:
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    begin = next((i for i, line in enumerate(lines) if line.startswith(f"{section}:")), None)
    if begin is None:
        return ("\n".join(lines) + "\n\n" if lines else "") + dump({section: entries})
    lines[begin] = re.sub(r"^(\w+:)\s*\{\}", r"\1", lines[begin])
    inside = [i for i in range(begin + 1, len(lines)) if lines[i][:1] == " " and lines[i].strip()[:1] not in ("", "#")]
    end = next((i for i in range(begin + 1, len(lines)) if lines[i][:1] not in (" ", "", "#")), len(lines))
    inside = [i for i in inside if i < end]
    indent = len(lines[inside[0]]) - len(lines[inside[0]].lstrip()) if inside else 2
    added = [" " * indent + line for line in dump(entries).rstrip("\n").split("\n")]
    place = inside[-1] + 1 if inside else begin + 1
    return "\n".join([*lines[:place], *added, *lines[place:]]) + "\n"


def dump(part: Mapping[str, Any]) -> str:
    """YAML of plain data, in its order."""
    plain = orjson.dumps(part, default=str)
    readable = "\x85".encode() not in plain  # YAML would write this line break as it is, and read it as a space
    text: str = yaml.safe_dump(orjson.loads(plain), sort_keys=False, allow_unicode=readable)
    return text
