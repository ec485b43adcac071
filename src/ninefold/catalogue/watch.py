"""The source watch: a technique that knows how every source usually delivers and says when that changes.

Each drift is an event of kind ``drift`` about the entity ``source:<name>``, firing when it begins and resolved when it is over or has
become usual: silence, volume, lag, skew, duplicates, severity, cardinality and fields. Ninefold's own sources move the clock (their
metrics come every 15 s) and are not watched; when even they were away for two minutes, it was Ninefold that was silent.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.catalogue import detectors
from ninefold.catalogue.detectors import RULES, Verdict, span
from ninefold.catalogue.models import MODELLED, Model, leaves_of, sampled
from ninefold.catalogue.sketch import hash_of
from ninefold.catalogue.streams import WINDOW, Stream
from ninefold.ground.clock import MINUTE, SECOND, iso
from ninefold.ground.errors import BadData
from ninefold.model.entity import fingerprint
from ninefold.model.signal import Batch, batch_of, event_id

SOURCE = "ninefold.watch"
OWN = "ninefold"
_VERSION = 1
_AWAY, _LOOK = 2 * MINUTE, 15 * SECOND
_SETTLED = 60 * MINUTE
_GIVEN_UP, _FORGET = 7 * 24 * 60 * MINUTE, 40 * 24 * 60 * MINUTE
"""A silence is over after a week, nobody expects the source any more; a source is forgotten after longer than a monthly export is quiet."""
_STREAMS, _MODELS = 5000, 64
"""Streams that are watched (beyond, new ones are not), and models of one source (beyond, records are of the type ``other``)."""
_HOUR = 60 * MINUTE
_SEVERITIES = {"silence": "high"}
_Places = tuple[list[tuple[str, str]], list[tuple[str, str, str]], list[tuple[str, str, str]]]
_ODD, _ODDER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@dataclass(slots=True)
class Episode:
    """One drift: `bad` and `good` windows in a row; it fires once `fired`. `since` in ns."""

    source: str
    signal: str
    what: str
    since: int
    usual: str = ""
    now: str = ""
    text: str = ""
    bad: int = 0
    good: int = 0
    fired: bool = False
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A source as it stands, in copies: its signals, data models, drifts that are not over, and records in quarantine."""

    source: str
    streams: list[Stream]
    models: list[dict[str, Any]]
    drifts: list[dict[str, Any]]
    refused: int


class SourceWatch:
    """The technique over all sources; its views may be read from other threads."""

    name: ClassVar[str] = "watch"
    signals: ClassVar[frozenset[str]] = frozenset({"metric", "series", "log", "span", "event", "quarantine"})

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._streams: dict[tuple[str, str], Stream] = {}
        self._models: dict[tuple[str, str, str], Model] = {}
        self._episodes: dict[tuple[str, str, str], Episode] = {}
        self._refused: dict[str, int] = {}
        self._clock = self._window = self._looked = 0

    def process(self, batch: Batch) -> list[Batch]:
        """Learn from a batch; returns at most one batch of drift events."""
        if not batch.rows.num_rows:
            return []
        with self._lock:
            rows = self._advance(batch.received)
            if batch.source.partition(".")[0] != OWN and batch.source:
                self._take(batch)
                rows += self._heard(batch)
        return [batch_of("event", SOURCE, batch.received, rows)] if rows else []

    def snapshot(self) -> bytes:
        """All state."""
        with self._lock:
            kept = {
                "version": _VERSION, "clock": [self._clock, self._window, self._looked], "refused": self._refused,
                "streams": [stream.state() for stream in self._streams.values()],
                "models": [model.state() for model in self._models.values()],
                "episodes": [asdict(episode) for episode in self._episodes.values()],
            }  # fmt: skip
            return orjson.dumps(kept, option=orjson.OPT_NON_STR_KEYS)

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; empty bytes start afresh.

        Raises:
            BadData: it is of another version.
        """
        with self._lock:
            self._reset()
            if not state:
                return
            kept = orjson.loads(state)
            if kept.get("version") != _VERSION:
                raise BadData(f"the snapshot is of version {kept.get('version')}, expected watch version {_VERSION}; start afresh")
            self._clock, self._window, self._looked = kept["clock"]
            self._refused = kept["refused"]
            for stream in map(Stream.of, kept["streams"]):
                self._streams[stream.source, stream.signal] = stream
            for model in map(Model.of, kept["models"]):
                self._models[model.source, model.signal, model.type] = model
            for episode in (Episode(**found) for found in kept["episodes"]):
                self._episodes[episode.source, episode.signal, episode.what] = episode

    def sources(self) -> list[str]:
        """The names of all sources known, sorted."""
        with self._lock:
            return sorted({source for source, _ in self._streams})

    def known(self) -> Iterator[Known]:
        """Every source as it stands, by name; nothing waits for longer than one source takes to copy."""
        places: dict[str, _Places] = defaultdict(lambda: ([], [], []))
        with self._lock:
            for stream in self._streams:
                places[stream[0]][0].append(stream)
            for model in self._models:
                places[model[0]][1].append(model)
            for drift in self._episodes:
                places[drift[0]][2].append(drift)
        for source in sorted(places):
            yield self._known(source, places[source])

    def of(self, source: str) -> Known:
        """A source as it stands; empty when it is not known."""
        with self._lock:
            places: _Places = (
                [place for place in self._streams if place[0] == source],
                [place for place in self._models if place[0] == source],
                [place for place in self._episodes if place[0] == source],
            )
        return self._known(source, places)

    def _known(self, source: str, places: _Places) -> Known:
        with self._lock:  # a place may be forgotten by now
            streams = [self._streams[place] for place in sorted(places[0]) if place in self._streams]
            states = [orjson.dumps(stream.state(), option=orjson.OPT_NON_STR_KEYS) for stream in streams]
            models = [
                {
                    "signal": model.signal, "type": model.type, "version": model.version, "learning": not model.version,
                    "sampled": round(model.rows), "first_seen": model.first, "last_seen": model.last, "fields": model.table(),
                    "overflow": model.overflow, "versions": list(model.versions),
                }
                for model in (self._models[place] for place in sorted(places[1]) if place in self._models)
            ]  # fmt: skip
            drifts = [asdict(episode) for place in places[2] if (episode := self._episodes.get(place)) and episode.fired]
            refused = self._refused.get(source, 0)
        return Known(source, [Stream.of(orjson.loads(state)) for state in states], models, drifts, refused)

    def streams(self, source: str) -> list[Stream]:
        """The signals of a source as they stand; copies."""
        return self.of(source).streams

    def models(self, source: str) -> list[dict[str, Any]]:
        """The models of a source: signal, type, version, rows sampled, fields, versions."""
        return self.of(source).models

    def drifts(self, source: str) -> list[dict[str, Any]]:
        """What has drifted and is not over, of a source."""
        return self.of(source).drifts

    def refused(self, source: str) -> int:
        """How many records of a source went to quarantine."""
        with self._lock:
            return self._refused.get(source, 0)

    @property
    def clock(self) -> int:
        """The latest receipt seen, in ns."""
        return self._clock

    def _advance(self, received: int) -> list[dict[str, Any]]:
        """Let time pass: close windows, look for silence."""
        if received <= self._clock:
            return []
        jump, self._clock = received - (self._clock or received), received
        if jump > _AWAY:
            for stream in self._streams.values():
                stream.last += jump
                stream.turn()  # what the open window has is too little to be judged
            self._window = received // WINDOW
        rows: list[dict[str, Any]] = []
        if received // WINDOW > self._window:
            if self._window:
                rows += self._close(received // WINDOW * WINDOW)
            self._window = received // WINDOW
        if received - self._looked >= _LOOK:
            self._looked = received
            rows += self._silent(received)
        return rows

    def _close(self, at: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        hour = at // _HOUR % 168
        for stream in self._streams.values():
            for what, rule in RULES.items():
                if (verdict := rule.judge(stream, hour)) is not None:
                    rows += self._judged(stream, what, verdict, at)
            if not stream.rows and stream.span() == 1:
                self._undoubted(stream)
            if at % _HOUR == 0:
                stream.hours.over((at - 1) // _HOUR % 168, stream.last, at)
            stream.turn()
        for model in self._models.values():
            if changes := model.close(at):
                rows.append(self._changed(model, changes, at))
        for key, episode in list(self._episodes.items()):
            if episode.what.startswith("fields") and at - episode.since >= _SETTLED:
                rows.append(drift_event(self._episodes.pop(key), at, firing=False, text=f"{episode.text}; taken as its model now"))
        return rows

    def _undoubted(self, stream: Stream) -> None:
        """What was too few or too many rows in the last window of rows only, was so because that was not a whole one."""
        episode = self._episodes.get((stream.source, stream.signal, "volume"))
        if episode is not None and not episode.fired:
            del self._episodes[stream.source, stream.signal, "volume"]

    def _judged(self, stream: Stream, what: str, verdict: Verdict, at: int) -> list[dict[str, Any]]:
        key, rule = (stream.source, stream.signal, what), RULES[what]
        episode = self._episodes.get(key)
        if verdict.bad:
            if episode is None:
                episode = self._episodes[key] = Episode(*key, since=at - WINDOW)
            episode.usual, episode.now, episode.text = verdict.usual, verdict.now, verdict.text
            episode.bad, episode.good = episode.bad + 1, 0
            if not episode.fired and episode.bad >= rule.fires:
                episode.fired = True
                return [drift_event(episode, at, firing=True)]
            lasted = episode.bad - rule.fires
            if lasted >= rule.relearns and detectors.relearn(stream, what, at // _HOUR % 168, lasted):
                return [drift_event(self._episodes.pop(key), at, firing=False, text=f"{verdict.text}; this is taken as usual now")]
            return []
        if episode is None:
            return []
        episode.good += 1
        if not episode.fired:
            del self._episodes[key]
        elif episode.good >= rule.recovers:
            episode.now = verdict.now
            return [
                drift_event(self._episodes.pop(key), at, firing=False, text=f"{what} of {stream.source} is as usual again: {verdict.now}")
            ]
        return []

    def _changed(self, model: Model, changes: list[dict[str, str]], at: int) -> dict[str, Any]:
        what = f"fields {model.type} {model.version}".replace("  ", " ")
        told = ", ".join(_told(change) for change in changes[:3]) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")
        episode = Episode(
            model.source, model.signal, what, at, f"version {model.version - 1}", f"version {model.version}",
            f"records of {model.source} have changed: {told}", fired=True, detail=orjson.dumps(changes).decode(),
        )  # fmt: skip
        self._episodes[model.source, model.signal, what] = episode
        return drift_event(episode, at, firing=True)

    def _silent(self, at: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for key, stream in list(self._streams.items()):
            limit, quiet = stream.limit_s(), (at - stream.last) / SECOND
            place = (*key, "silence")
            if at - stream.last > _FORGET:
                rows += self._forgotten(key, at)
            elif place in self._episodes:
                if at - stream.last > _GIVEN_UP:
                    stream.expected = False
                    rows.append(drift_event(self._episodes.pop(place), at, firing=False, text=f"{stream.source} is not expected any more"))
            elif limit is not None and stream.expected and quiet > limit and stream.silent_s(at) > limit:
                usual = span(float(f"{stream.cadence.quantile(0.5) or 0.0:.2g}"))
                text = f"{stream.source} has sent no {detectors.ROWS[stream.signal]} for {span(quiet)}, usually every {usual}"
                found = self._episodes[place] = Episode(
                    *place, stream.last, f"every {usual}", f"nothing for {span(quiet)}", text, fired=True
                )
                rows.append(drift_event(found, at, firing=True))
        return rows

    def _forgotten(self, key: tuple[str, str], at: int) -> list[dict[str, Any]]:
        """A stream that has been quiet for longer than a month."""
        source, signal = key
        del self._streams[key]
        for model in [
            place for place in self._models if place[0] == source and (place[1] == signal or (place[1], signal) == ("series", "metric"))
        ]:
            del self._models[model]
        gone = [self._episodes.pop(place) for place in list(self._episodes) if place[:2] == key]
        return [drift_event(found, at, firing=False, text=f"{source} is not expected any more") for found in gone if found.fired]

    def _heard(self, batch: Batch) -> list[dict[str, Any]]:
        """A source that was silent speaks again."""
        place = (batch.source, "metric" if batch.signal == "series" else batch.signal, "silence")
        if place not in self._episodes:
            return []
        episode = self._episodes.pop(place)
        episode.now = "back"
        text = f"{batch.source} sends {detectors.ROWS[place[1]]} again after {span((batch.received - episode.since) / SECOND)}"
        return [drift_event(episode, batch.received, firing=False, text=text)]

    def _take(self, batch: Batch) -> None:
        if batch.signal == "quarantine":
            self._refused[batch.source] = self._refused.get(batch.source, 0) + batch.rows.num_rows
            return
        signal = "metric" if batch.signal == "series" else batch.signal
        stream = self._streams.get((batch.source, signal))
        if stream is None:
            if len(self._streams) >= _STREAMS:
                return
            stream = self._streams[batch.source, signal] = Stream(batch.source, signal, batch.received, batch.received)
        rows = batch.rows
        if batch.signal == "series":
            before, count = stream.fresh, rows.num_rows
            stream.fresh += count
            stream.variety.add_hashes(rows.column("series").to_numpy(zero_copy_only=False))
        else:
            before, count = stream.rows, rows.num_rows
            stream.arrived(batch.received, count)
            _measure(stream, batch, before)
        if batch.signal in MODELLED:
            places = sampled(before, count)
            if places:
                self._learn(batch, rows.take(pa.array(places, pa.int64())) if len(places) < count else rows)

    def _learn(self, batch: Batch, rows: pa.RecordBatch) -> None:
        for kind, leaves in leaves_of(batch, rows):
            key = batch.source, batch.signal, kind
            model = self._models.get(key)
            if model is None:
                if sum(place[0] == batch.source for place in self._models) >= _MODELS:
                    key = batch.source, batch.signal, "other"
                model = self._models.get(key) or self._models.setdefault(key, Model(*key, first=batch.received))
            model.learn(leaves, batch.received)


def _measure(stream: Stream, batch: Batch, before: int) -> None:
    rows = batch.rows
    times = rows.column("time").cast(pa.int64()).to_numpy(zero_copy_only=False)
    places = sampled(before, len(times))
    if places:
        stream.timed(times[places] if len(places) < len(times) else times, batch.received)
    if batch.signal == "metric":
        series = rows.column("series").to_numpy(zero_copy_only=False)
        stream.steps.learn(series, times)
        keys = (series ^ (times.view(np.uint64) * _ODD)) * _ODDER
    elif batch.signal == "event":
        keys = np.array([hash_of(identity) for identity in rows.column("id").to_pylist()], np.uint64)
        stream.variety.add_hashes(np.array([hash_of(mark) for mark in rows.column("fingerprint").to_pylist()], np.uint64))
        stream.repeated(keys)
        _mixed(stream, np.array([_PLACES.get(word, 3) for word in rows.column("severity").to_pylist()]), 4)
        return
    elif batch.signal == "log":
        patterns = rows.column("pattern").to_numpy(zero_copy_only=False)
        keys = (patterns ^ (times.view(np.uint64) * _ODD)) * _ODDER
        stream.variety.add_hashes(patterns)
        _mixed(stream, np.searchsorted([1, 9, 13, 17], rows.column("severity_number").to_numpy(zero_copy_only=False), "right"), 5)
    else:
        lengths = rows.column("duration").to_numpy(zero_copy_only=False).view(np.uint64)
        keys = (lengths ^ (times.view(np.uint64) * _ODD)) * _ODDER
        names = pc.unique(rows.column("name")).to_pylist()
        stream.variety.add_hashes(np.array([hash_of(name) for name in names], np.uint64))
        coded = rows.column("status").dictionary_encode()
        table = np.array([_STATUSES.get(word, 0) for word in coded.dictionary.to_pylist()])
        _mixed(stream, table[coded.indices.to_numpy(zero_copy_only=False)], 3)
    stream.repeated(keys[(keys >> np.uint64(stream.thin)) == 0])


_PLACES = {word: place for place, word in enumerate(detectors.CLASSES["event"])}
_STATUSES = {word: place for place, word in enumerate(detectors.CLASSES["span"])}


def _mixed(stream: Stream, classes: np.ndarray[Any, Any], width: int) -> None:
    counts = np.bincount(classes, minlength=width)[:width].tolist()
    stream.mix = [float(a + b) for a, b in zip(stream.mix or [0.0] * width, counts, strict=True)]


def _told(change: dict[str, str]) -> str:
    types = f" ({change['was']} -> {change['now']})" if change["change"] == "retyped" else ""
    return f"{change['field']} {'is new' if change['change'] == 'new' else change['change']}{types}"


def drift_event(episode: Episode, at: int, *, firing: bool, text: str = "") -> dict[str, Any]:
    """The event row (for `batch_of`) of an episode that begins or ends at a time (ns)."""
    status = "firing" if firing else "resolved"
    identity = {"source": episode.source, "signal": episode.signal, "what": episode.what}
    mark = fingerprint({"technique": SourceWatch.name, **identity})
    severity = "warning" if not episode.what.startswith("fields") else "info"
    severity = _SEVERITIES.get(episode.what, severity)
    attributes = {**identity, "technique": SourceWatch.name, "since": iso(episode.since), "usual": episode.usual, "now": episode.now}
    if episode.detail:
        attributes["changes"] = episode.detail
    return {
        "id": event_id(SourceWatch.name, mark, str(episode.since), status), "time": at, "kind": "drift",
        "source_id": f"{mark}-{episode.since}", "entity": f"source:{episode.source}", "title": text or episode.text,
        "severity": severity, "severity_raw": severity, "status": status, "fingerprint": mark, "attributes": attributes,
    }  # fmt: skip
