"""Mappings of sources to the common model: suggested from the data, saved in versions, tried on stored records, applied to the past.

A mapping is the small declarative table of `config.WebhookConfig`: JMESPath over one record. A saved mapping is in force at once and
overrides the one in ninefold.yaml. Applied to stored records, it reads each record's kept text again: the new reading takes the old id
wherever the content allows (the id is made of the text, and of the receipt when no time is found in it), so it replaces the old one; a
reading that has to have another id is stored beside the old one, which becomes an event of kind ``superseded`` that names its
successor. What cannot be read any more stays as it was and is counted. Incidents that were made of the old readings are history and stay.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jmespath
import orjson
from jmespath.exceptions import JMESPathError
from pydantic import ValidationError
from sqlalchemy import select

from ninefold.config import WebhookConfig
from ninefold.ground.clock import iso, now
from ninefold.ground.errors import BadData, NinefoldError
from ninefold.model.signal import Batch
from ninefold.plugin import Store
from ninefold.sources.guessing import FIELDS, guess
from ninefold.sources.reading import leaves, text_of
from ninefold.sources.webhook import Reader
from ninefold.store.records.base import Audit, Records
from ninefold.store.records.sources import Mapping as Saved
from ninefold.store.records.sources import newest_mappings

TARGETS = ("title", "body", "time", "severity", "status", "source_id", "entity")
_ENTITIES = (("service", "service"), ("pod", "pod"), ("host", "host"))
_PAGE = 1000
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
_SHOWN = ("kind", "title", "body", "time", "severity", "status", "source_id", "entity", "attributes")
_STORED = """
SELECT id, toUnixTimestamp64Nano(e.time) AS time, toUnixTimestamp64Nano(e.received) AS received, kind, source, source_id, entity, title,
       body, severity, severity_raw, status, fingerprint, attributes, raw
FROM event AS e WHERE raw != '' AND kind != 'superseded' AND endsWith(attributes['ninefold.normaliser'], {format:String})
"""
_AGAIN = """ AND e.received <= fromUnixTimestamp64Nano({until:Int64}) AND (source = {source:String} OR {source:String} = '')
AND attributes['ninefold.mapping'] != {version:String} AND (toUnixTimestamp64Nano(e.received), id) > ({since:Int64}, {after:String})
ORDER BY e.received, id LIMIT {limit:UInt32}"""


class Reads(Protocol):
    """The part of the normaliser that is needed."""

    def remap(self, name: str, config: WebhookConfig, version: int) -> None:
        """Read by another mapping from now on."""

    def read(self, format_: str, payload: bytes, received: int) -> dict[str, Any]:
        """One record as it is read now."""

    def event_batch(self, rows: Sequence[Mapping[str, Any]], source: str, received: int) -> Batch:
        """Rows as a batch."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A field of the common model and the path that fills it: `confidence` is the share of samples in which it gives what was found."""

    target: str
    path: str
    confidence: float
    example: str


@dataclass(frozen=True, slots=True)
class Tried:
    """One stored record, read before and read now; `error` instead when it cannot be read so."""

    id: str
    raw: str
    before: dict[str, Any]
    after: dict[str, Any] | None
    changed: list[str]
    error: str = ""


@dataclass(slots=True)
class Applied:
    """What reading stored records again did."""

    read: int = 0
    replaced: int = 0
    superseded: int = 0
    unreadable: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


class Mappings:
    """The mappings of a running program.

    Args:
        records: where they are saved.
        store: the stored events.
        normaliser: is told of new versions.
        configured: those of ninefold.yaml.
    """

    def __init__(self, records: Records, store: Store, normaliser: Reads, configured: Mapping[str, WebhookConfig]) -> None:
        self._records, self._store, self._normaliser = records, store, normaliser
        self._configured = dict(configured)
        self._saved: dict[str, tuple[int, WebhookConfig]] = {}

    def load(self) -> None:
        """Put every saved mapping in force; called at start, before anything is read."""
        with self._records.reading() as session:
            for row in newest_mappings(session):
                self._enforce(row.name, WebhookConfig.model_validate(row.definition), row.version)

    def current(self, name: str) -> WebhookConfig | None:
        """The mapping in force of a name, None when there is none."""
        return self._saved[name][1] if name in self._saved else self._configured.get(name)

    def version(self, name: str) -> int:
        """The saved version in force; 0 for one of ninefold.yaml or none."""
        return self._saved[name][0] if name in self._saved else 0

    def versions(self, name: str) -> list[dict[str, Any]]:
        """Every saved version of a name, newest first."""
        with self._records.reading() as session:
            rows = session.scalars(select(Saved).where(Saved.name == name).order_by(Saved.version.desc()))
            return [
                {"version": row.version, "author": row.author, "note": row.note, "time": iso(row.time), "mapping": row.definition}
                for row in rows
            ]

    def save(self, name: str, config: WebhookConfig, author: str, note: str = "") -> int:
        """Keep a new version and put it in force; returns its number.

        Raises:
            ConfigError: a path is not JMESPath, or a field has an unknown name.
        """
        Reader(name, config)
        with self._records.session() as session:
            before = session.scalar(select(Saved).where(Saved.name == name).order_by(Saved.version.desc()).limit(1))
            version, after = (before.version if before else 0) + 1, config.model_dump(mode="json")
            session.add(Saved(name=name, version=version, definition=after, author=author, note=note))
            detail = {"before": before.definition if before else None, "after": after, "version": version, "note": note}
            session.add(Audit(actor=author, action="mapping saved", target=name, detail=detail))
        self._enforce(name, config, version)
        return version

    def suggest(self, name: str, samples: int = 200) -> list[Suggestion]:
        """Paths for the fields of the common model, from the newest stored records of a name."""
        stored = self._rows(name, " ORDER BY e.received DESC LIMIT {limit:UInt32}", limit=samples)
        return suggested([orjson.loads(row["raw"]) for row in stored])

    def preview(self, name: str, config: WebhookConfig, count: int = 50) -> list[Tried]:
        """The newest stored records, as they were read and as this mapping reads them; nothing is kept.

        Raises:
            ConfigError: a path is not JMESPath, or a field has an unknown name.
        """
        reader = Reader(name, config)
        stored = self._rows(name, " ORDER BY e.received DESC LIMIT {limit:UInt32}", limit=count)
        return [_tried(reader, row) for row in stored]

    def apply(self, name: str, since: int, until: int, source: str = "") -> Applied:
        """Read the stored records of a time of receipt (ns) again by the mapping in force, oldest first.

        What this version has read already is passed over, so it can be repeated.

        Raises:
            Unavailable: the store cannot answer or take more; what was done stays, and it can be repeated.
        """
        done, after = Applied(), (since, "")
        started = now()  # marks its inserts as its own: the engine would ignore a mapping that comes back after another one
        version = f"{name} v{self.version(name)}"
        while rows := self._rows(name, _AGAIN, version=version, until=until, source=source, since=after[0], after=after[1], limit=_PAGE):
            self._apply(name, rows, started, done)
            after = rows[-1]["received"], rows[-1]["id"]
        return done

    def _apply(self, name: str, rows: Sequence[Mapping[str, Any]], started: int, done: Applied) -> None:
        made: list[dict[str, Any]] = []
        for row in rows:
            done.read += 1
            try:
                event = self._normaliser.read(f"webhook:{name}", row["raw"].encode(), row["received"])
            except BadData as error:
                done.unreadable += 1
                done.reasons[error.reason] = done.reasons.get(error.reason, 0) + 1
                continue
            made.append(event | {"received": row["received"], "source": row["source"]})
            if event["id"] == row["id"]:
                done.replaced += 1
            else:
                done.superseded += 1
                told = {**dict(row["attributes"]), "ninefold.superseded_by": event["id"]}
                made.append({**row, "kind": "superseded", "status": "", "attributes": told})
        if made:
            batch = self._normaliser.event_batch(made, rows[0]["source"], rows[0]["received"])
            self._store.append([batch], f"reread-{name}-{started}-{rows[0]['id']}")

    def _enforce(self, name: str, config: WebhookConfig, version: int) -> None:
        self._normaliser.remap(name, config, version)
        self._saved[name] = version, config

    def _rows(self, name: str, more: str, **parameters: Any) -> list[dict[str, Any]]:
        found = self._store.query(_STORED + more, {"format": f" webhook:{name}", **parameters})
        return found.to_pylist(maps_as_pydicts="lossy")  # type: ignore[no-any-return]


def checked(table: Mapping[str, Any]) -> WebhookConfig:
    """A mapping from plain data.

    Raises:
        BadData: a key is unknown or a value wrong.
    """
    try:
        return WebhookConfig.model_validate(table)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise BadData(f"the mapping is wrong: {problems}", "mapping") from None


def _tried(reader: Reader, row: Mapping[str, Any]) -> Tried:
    before = _shown(row)
    try:
        event = reader.to_event(row["raw"].encode(), row["received"])
    except NinefoldError as error:
        return Tried(row["id"], row["raw"], before, None, [], str(error))
    after = _shown(event)
    return Tried(row["id"], row["raw"], before, after, [key for key in _SHOWN if before[key] != after[key]])


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {key: row[key] for key in _SHOWN} | {"time": iso(row["time"])}
    shown["attributes"] = {key: value for key, value in dict(row["attributes"]).items() if not key.startswith("ninefold.")}
    return shown


def suggested(records: Sequence[Any]) -> list[Suggestion]:
    """Paths for the common model's fields, each with the share of these records for which it gives the value that was found there.

    A time that no usual key names is looked for in every text that is written as one; it is believed a little less.
    """
    documents = [leaves(record) for record in records if isinstance(record, dict)]
    guesses = [guess(found) for found in documents]
    made: list[Suggestion] = []
    for target in TARGETS:
        for name, prefix in _ENTITIES if target == "entity" else ((target, ""),):
            paths = Counter(seen.paths[name] for seen in guesses if name in seen.paths)
            told = [title.path for title in made if target == "body"]  # the same text twice says nothing more
            tried = (_suggestion(target, name, prefix, path, records) for path, _ in paths.most_common(3))
            found = next((s for s in tried if s and s.path not in told), None)
            if found is None and target == "time":
                written = Counter(leaf.path for document in documents for leaf in document if _TIME.match(str(leaf.value)[:40]))
                found = next((s for path, _ in written.most_common(1) if (s := _suggestion(target, name, prefix, path, records))), None)
                found = replace(found, confidence=round(0.8 * found.confidence, 3)) if found else None
            if found is not None:
                made.append(found)
                break
    return made


def _suggestion(target: str, name: str, prefix: str, path: str, records: Sequence[Any]) -> Suggestion | None:
    for expression in _expressions(path):
        compiled = jmespath.compile(expression)
        good, example = 0, ""
        for record in records:
            try:
                value = compiled.search(record)
            except JMESPathError:
                continue
            if value is not None and value != "" and not isinstance(value, dict | list) and FIELDS[name].read(value):
                good, example = good + 1, example or text_of(value)[:80]
        if good:
            whole = f"join('', ['{prefix}:', {expression}])" if prefix and prefix != "service" else expression
            return Suggestion(target, whole, round(good / len(records), 3), f"{prefix}:{example}" if prefix else example)
    return None


def _expressions(path: str) -> Iterator[str]:
    """JMESPaths of a leaf's dotted path: keys may hold dots themselves, so every way to join neighbours is tried, shortest keys first."""
    parts = path.split(".")
    for joined in range(len(parts)):
        for start in range(len(parts) - joined):
            keys = [*parts[:start], ".".join(parts[start : start + joined + 1]), *parts[start + joined + 1 :]]
            yield "".join(_step(key, place) for place, key in enumerate(keys))
            if not joined:
                break


def _step(key: str, place: int) -> str:
    if key.isdigit() and place:
        return f"[{key}]"
    name = key if re.fullmatch(r"[A-Za-z_]\w*", key) else orjson.dumps(key).decode()
    return f".{name}" if place else name
