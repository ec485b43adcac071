"""StatsD and DogStatsD over UDP and TCP: ``name:value|type|@rate|#tag:value``, summed up over an interval before it is kept.

Point any StatsD client at port 8125. Of an interval (10 s) become, at its end, one point each:

- counter ``c``: the sum, corrected by the sample rate, as a delta.
- gauge ``g``: the last value; ``+5`` and ``-5`` change it.
- timer ``ms``, histogram ``h``, distribution ``d``: ``<name>.count`` and ``<name>.sum`` as deltas, ``<name>.min``, ``<name>.max`` and the
  percentiles, ``<name>.p95``, which are exact to 0.3 %.
- set ``s``: how many different values there were.

Tags become attributes. Events (``_e{…}``) and service checks (``_sc|…``) become events at once: checks, and events of type error, warning
or success, are alerts. Lines that cannot be read, and a last one over TCP without a newline, are in
quarantine. Not kept: a line's own time (``|T``) and container (``|c:``).
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from pydantic import Field

from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import BadData
from ninefold.model.entity import entity_of, series_id
from ninefold.model.signal import Batch, Decoded, batch_of, quarantine
from ninefold.plugin import Emit, Lent
from ninefold.sources.listening import Lines, Listen, Listener, Listening, Port, deliver, whole
from ninefold.sources.series import points
from ninefold.sources.statsd_events import event_of, tags_of

FORMAT = "statsd"
_STEPS = 128
"""Buckets a doubling: a percentile is at most 0.27 % off."""
_MEMBERS = 1_000_000
"""Different values of sets, and buckets of timers, that are held in an interval."""
_IDLE = 360
"""Intervals (an hour of 10 s) after which a gauge that was not sent makes room when there is none."""
_UNITS = {b"ms": "ms"}

Row = dict[str, Any]


class StatsdConfig(Listen):
    """Where StatsD is received, and how it is summed up."""

    port: int = Field(8125, ge=0, le=65535, description="Port for UDP and TCP; 0 takes a free one.")
    interval_s: float = Field(10.0, gt=0, description="How long values are summed up.")
    percentiles: tuple[float, ...] = Field((50, 95, 99), description="Percentiles of timers, histograms and distributions.")
    series_limit: int = Field(100_000, ge=1, description="Names with tags that are held; lines of more are dropped and counted.")


class _Slot:
    """What one name with its tags has gathered: a number, the members of a set, or the buckets of a timer."""

    __slots__ = ("attributes", "buckets", "count", "high", "idle", "low", "members", "name", "numbers", "touched", "type", "value")

    def __init__(self, name: str, type_: bytes, attributes: dict[str, str]) -> None:
        self.name, self.type, self.attributes = name, type_, attributes
        self.numbers: dict[str, int] = {}
        self.value, self.idle = 0.0, 0
        self.reset()

    def reset(self) -> None:
        """Begin a new interval; a gauge stays where it is."""
        self.touched = False
        self.count, self.low, self.high = 0.0, math.inf, -math.inf
        self.members: set[int] = set()
        self.buckets: dict[tuple[int, int], float] = {}
        if self.type != b"g":
            self.value = 0.0

    def time(self, value: float, weight: float) -> None:
        """Add a measured duration or size."""
        self.count += weight
        self.value += value * weight
        self.low, self.high = min(self.low, value), max(self.high, value)
        sign = (value > 0) - (value < 0)
        bucket = (sign, sign * math.floor(math.log2(abs(value)) * _STEPS) if sign else 0)
        self.buckets[bucket] = self.buckets.get(bucket, 0.0) + weight

    def percentile(self, percent: float) -> float:
        """The value below which that share of all values lies, to the width of a bucket."""
        left = self.count * percent / 100
        for sign, index in sorted(self.buckets):
            left -= self.buckets[sign, index]
            if left <= 1e-9:
                return float(min(max(sign * 2 ** ((sign * index + 0.5) / _STEPS), self.low), self.high))
        return self.high


class Aggregator:
    """Sums lines up. Thread-safe.

    Args:
        source: the name of the source.
        percentiles: of timers.
        limit: how many names with tags are held.

    Attributes:
        dropped: lines that found no room.
        forgotten: gauges that were forgotten to make room; ``+1`` to one of them begins at 0 again.
    """

    def __init__(self, source: str, percentiles: Sequence[float] = (50, 95, 99), limit: int = 100_000) -> None:
        self.dropped = self.forgotten = 0
        self._source, self._limit = source, limit
        self._percentiles = [(f"p{percent:g}", percent) for percent in percentiles]
        self._slots: dict[tuple[bytes, bytes, bytes], _Slot] = {}
        self._held = 0
        self._swept = False
        self._lock = threading.Lock()

    def fold(self, block: bytes, received: int, rest: Sequence[bytes] = ()) -> Decoded:
        """Take a block of lines in; the batches are events and what could not be read, which the `rest` is too."""
        events: list[Row] = []
        bad: dict[str, list[bytes]] = {"the line is cut short or too long": [*rest]} if rest else {}
        with self._lock:
            for line in filter(None, (line.strip(b"\r\0 ") for line in block.split(b"\n"))):
                try:
                    if line[:1] == b"_" and line.startswith((b"_e{", b"_sc|")):
                        events.append(event_of(line, received))
                    else:
                        self._fold(line)
                except BadData as error:
                    bad.setdefault(error.reason, []).append(line)
        batches = [batch_of("event", self._source, received, events)] if events else []
        if bad:
            told = [(f"{reason} ({len(lines)} lines)", "", b"\n".join(lines)) for reason, lines in bad.items()]
            batches.append(quarantine(self._source, received, "metric", FORMAT, told))
        return Decoded(batches, sum(map(len, bad.values())), "; ".join(bad))

    def _fold(self, line: bytes) -> None:
        head, *parts = line.split(b"|")
        name, *values = head.split(b":")
        if not parts or not values or not name:
            raise BadData("a line is `name:value|type`")
        rate, tags = 1.0, b""
        for part in parts[1:]:
            if part[:1] == b"@":
                rate = _number(part[1:])
            elif part[:1] == b"#":
                tags = part[1:]
        if not 0 < rate <= 1:
            raise BadData("the sample rate is not between 0 and 1")
        type_ = parts[0]
        numbers = [] if type_ == b"s" else [_number(value) for value in values]
        slot = self._slots.get((name, type_, tags)) or self._open(name, type_, tags)
        if slot is None or (self._held > _MEMBERS and type_ not in (b"c", b"g")):
            self.dropped += 1
            return
        slot.touched = True
        held = len(slot.members) + len(slot.buckets)
        if type_ == b"c":
            slot.value += sum(numbers) / rate
        elif type_ == b"g":
            for value, number in zip(values, numbers, strict=True):
                slot.value = slot.value + number if value[:1] in b"+-" else number
        elif type_ == b"s":
            slot.members.update(map(hash, values))
        else:
            for number in numbers:
                slot.time(number, 1 / rate)
        self._held += len(slot.members) + len(slot.buckets) - held

    def _open(self, name: bytes, type_: bytes, tags: bytes) -> _Slot | None:
        """A slot for a name with tags not seen before; None when there is no room.

        Raises:
            BadData: the type is not known, or the name or a tag is not UTF-8.
        """
        if type_ not in (b"c", b"g", b"s", b"ms", b"h", b"d"):
            raise BadData("the type is none of c, g, s, ms, h, d")
        try:
            slot = _Slot(name.decode(), type_, tags_of(tags.decode()))
        except UnicodeDecodeError:
            raise BadData("the name or a tag is not UTF-8") from None
        if len(self._slots) >= self._limit:
            self._sweep()
            if len(self._slots) >= self._limit:
                return None
        self._slots[name, type_, tags] = slot
        return slot

    def _sweep(self) -> None:
        """Make room, once an interval: what was not sent in it goes, but gauges, which hold a value, only when they are silent for long."""
        if self._swept:
            return
        self._swept = True
        kept = {key: slot for key, slot in self._slots.items() if slot.touched or slot.type == b"g"}
        if len(kept) >= self._limit:
            gauges = len(kept)
            kept = {key: slot for key, slot in kept.items() if slot.touched or slot.idle < _IDLE}
            self.forgotten += gauges - len(kept)
        self._slots = kept

    def flush(self, time: int, received: int) -> list[Batch]:
        """The points of the interval that ends at `time`, with the series they are the first of; then a new interval begins."""
        with self._lock:
            found: list[tuple[int, float]] = []
            new: list[Row] = []
            for slot in self._slots.values():
                slot.idle += 1
                if slot.touched:
                    found += self._points(slot, received, new)
                    slot.reset()
                    slot.idle = 0
            self._held, self._swept = 0, False
        if not found:
            return []
        series, values = zip(*sorted(found), strict=True)
        batches = [batch_of("series", self._source, received, new)] if new else []
        columns = np.array(series, np.uint64), np.full(len(series), time), np.array(values, np.float64)
        return [*batches, points(self._source, received, *columns)]

    def _points(self, slot: _Slot, received: int, new: list[Row]) -> list[tuple[int, float]]:
        if slot.type in (b"c", b"g", b"s"):
            values = {"": (float(len(slot.members)) if slot.type == b"s" else slot.value, "delta" if slot.type == b"c" else "gauge")}
        else:
            values = {
                ".count": (slot.count, "delta"), ".sum": (slot.value, "delta"), ".min": (slot.low, "gauge"), ".max": (slot.high, "gauge"),
            }  # fmt: skip
            values |= {f".{name}": (slot.percentile(percent), "gauge") for name, percent in self._percentiles}
        if not slot.numbers:
            for ending, (_, kind) in values.items():
                name, unit = slot.name + ending, "" if ending == ".count" else _UNITS.get(slot.type, "")
                number = slot.numbers[ending] = series_id(name, slot.attributes)
                about = {"name": name, "unit": unit, "kind": kind, "attributes": slot.attributes, "entity": entity_of(slot.attributes)}
                new.append({"series": number, "seen": received, **about})
        return [(slot.numbers[ending], value) for ending, (value, _) in values.items()]


def _number(text: bytes) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found) or b"_" in text:
        raise BadData("the value is not a number")
    return found


class Statsd(Listening):
    """StatsD and DogStatsD over UDP and TCP."""

    kind = "statsd"
    title = "StatsD"
    extraction = "push"
    signals = frozenset(("event", "metric"))
    Config = StatsdConfig

    def __init__(self, name: str, config: StatsdConfig, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self.aggregator = Aggregator(name, config.percentiles, config.series_limit)
        self.listener = Listener(self, config.host, [Port(config.port)], self._decode, reader=lambda write: Lines(), datagram=whole)
        self._left_out = lent.meter.counter("ninefold_statsd_left_out_total", "StatsD: lines beyond the limits of an interval.")
        self._forgotten = lent.meter.counter("ninefold_statsd_forgotten_total", "StatsD: gauges forgotten to make room.")

    async def run(self, emit: Emit) -> None:
        """Listen until cancelled; what was summed up by then is still delivered."""
        end = asyncio.Event()
        flushing = asyncio.create_task(self._flush_until(end, emit))
        try:
            await super().run(emit)
        finally:
            end.set()
            await flushing

    def _decode(self, blocks: Sequence[bytes], rest: Sequence[bytes], received: int) -> Decoded:
        return self.aggregator.fold(b"\n".join(blocks), received, rest)

    async def _flush_until(self, end: asyncio.Event, emit: Emit) -> None:
        """Flush at every multiple of the interval, and once more at the end."""
        interval = int(self.config.interval_s * SECOND)
        while not end.is_set():
            due = (now() // interval + 1) * interval
            with suppress(TimeoutError):
                await asyncio.wait_for(end.wait(), (due - now()) / SECOND)
            received = now()
            batches = await asyncio.to_thread(self.aggregator.flush, min(due, received), received)
            if batches and not await deliver(emit, batches, end.is_set):
                self.listener.log.error("the last interval is lost: the journal did not take it before the end")
            if left_out := self.aggregator.dropped:
                self.aggregator.dropped = 0
                self._left_out.add(left_out)
                self.listener.log.error("%d lines were dropped: there are more than %d series", left_out, self.config.series_limit)
            if forgotten := self.aggregator.forgotten:
                self.aggregator.forgotten = 0
                self._forgotten.add(forgotten)
                self.listener.log.error("%d gauges, silent for %d intervals, were forgotten to make room", forgotten, _IDLE)
