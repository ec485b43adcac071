"""A candidate beside the current detection: other settings on a sample of the series, compared on what both would have said.

While a candidate is set, two fresh baselines hear every 16th series by its id (ids are hashes): one with the current settings, one with
the candidate's. Both start afresh, but with the sensitivity words, moves and holds in force and with what is known of the series, and hear
all that people say as the current detection does: so like is compared with like, at the cost of an eighth of the current one. Nothing the
shadow finds is an alarm; it answers when asked. Rates have exact Poisson intervals (Garwood 1936); the difference is a binomial test of
who raised the alarms that only one of them raised (a sign test), for that is what the two disagree about.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import bdtr, gammaincinv

from ninefold.analytics import keeping
from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.baseline import Baseline
from ninefold.analytics.metrics.steering import Steering, tuned
from ninefold.ground.clock import MINUTE, SECOND, parse
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, from_ipc, to_ipc

_VERSION = 2
SAMPLE = 16
"""One series in so many is compared."""
_NEAR = 30 * MINUTE
"""Alarms of both about one series that overlap, or lie no further apart, are the same."""
_MOST, _DESCRIBED = 20_000, 65_536
_WEEK = 7 * 86_400 * SECOND
_SIDES = ("current", "candidate_side")


@dataclass(slots=True)
class Alarm:
    """One episode that a side would have announced; `until` is 0 while it lasts."""

    series: str
    fingerprint: str
    told: int
    since: int
    until: int
    high: bool


class Shadow:
    """The technique; off until a `setting` event sets a candidate: until then it only notes what was set and how series are described."""

    name: ClassVar[str] = "shadow"
    signals: ClassVar[frozenset[str]] = frozenset({"metric", "series", "event"})

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self.candidate: dict[str, float] = {}
        self._steering = Steering()
        self._described: list[pa.RecordBatch] = []
        self._kept = 0
        self._reset()

    def _reset(self) -> None:
        self._sides: list[Baseline] = []
        self._alarms: tuple[list[Alarm], list[Alarm]] = ([], [])
        self._verdicts: dict[str, str] = {}
        self._begun = self._now = 0
        if self.candidate:
            given = self._steering.state()
            # The settings in force are the first side's own, and to take them back is a new comparison.
            moves = [move for move in given["moves"] if move["scope"] != "settings"]
            base, steering = c.tuned(c.settings(), given["settings"]), given | {"settings": {}, "moves": moves}
            self._sides = [Baseline(base, steering), Baseline(c.tuned(base, self.candidate), steering)]
            for rows in self._compacted():
                for side in self._sides:
                    side.process(Batch("series", "", self._steering.now, rows))

    def process(self, batch: Batch) -> list[Batch]:
        """Hear the sample, settings and verdicts; nothing is put out."""
        if batch.signal == "event":
            self._events(batch)
            return []
        if not self._sides and batch.signal != "series":
            return []
        rows = batch.rows.filter(pa.array(batch.rows.column("series").to_numpy(zero_copy_only=False) % np.uint64(SAMPLE) == 0))
        if batch.signal == "series" and rows.num_rows:
            self._describe(rows)
        if self._sides:
            self._begun, self._now = self._begun or batch.received, max(self._now, batch.received)
            if rows.num_rows:
                self._compare(Batch(batch.signal, batch.source, batch.received, rows))
        return []

    def _describe(self, rows: pa.RecordBatch) -> None:
        self._described.append(rows)
        if sum(one.num_rows for one in self._described) > 2 * self._kept + 1024:
            self._compacted()

    def _compacted(self) -> list[pa.RecordBatch]:
        """The latest description of each series of the sample, in the order they came."""
        if self._described:
            table = pa.Table.from_batches(self._described)
            ids = table.column("series").to_numpy()[::-1]
            last = np.sort(len(ids) - 1 - np.unique(ids, return_index=True)[1])[-_DESCRIBED:]
            self._described = table.take(pa.array(last)).combine_chunks().to_batches()
            self._kept = len(last)
        return self._described

    def _compare(self, batch: Batch) -> None:
        for side, alarms in zip(self._sides, self._alarms, strict=True):
            for found in side.process(batch):
                rows = found.rows.set_column(found.rows.schema.get_field_index("time"), "time", found.rows.column("time").cast(pa.int64()))
                for row in rows.drop_columns(["received"]).to_pylist(maps_as_pydicts="lossy"):
                    self._note(alarms, row)

    def _note(self, alarms: list[Alarm], row: dict[str, Any]) -> None:
        series, time = row["attributes"]["series"], row["time"]
        if row["status"] == "firing":
            if "again" in row["attributes"]:
                return
            since = parse(row["attributes"]["since"])
            alarms.append(Alarm(series, row["fingerprint"], time, since, 0, row["severity"] == "high"))
            del alarms[:-_MOST]
            return
        last = next((alarm for alarm in reversed(alarms) if alarm.series == series), None)
        if last is not None and not last.until:
            last.until, last.high = time, last.high or row["severity"] == "high"

    def _events(self, batch: Batch) -> None:
        before = self._steering.settings
        self._steering.hear(batch)
        heard = self._said(batch) if batch.source.partition(".")[0] == "ninefold" else False
        if self._steering.settings != before or heard:
            self._reset()
            return
        for side in self._sides:
            side.process(batch)

    def _said(self, batch: Batch) -> bool:
        """Take note of verdicts and of candidates; whether there is another one now."""
        rows, other = batch.rows.filter(pc.is_in(batch.rows.column("kind"), pa.array(["setting", "verdict", "incident"]))), False
        for said in (dict(pairs) for pairs in rows.column("attributes").to_pylist()):
            other |= said.get("detection") in ("shadow", "settings") and self._set(said)
            for mark in said.get("fingerprint", "").split() + said.get("fingerprints", "").split():
                word = said.get("verdict") or said.get("feedback")
                if self._sides and word:
                    self._verdicts[mark] = word
        if len(self._verdicts) > _MOST:
            self._verdicts = dict(list(self._verdicts.items())[-_MOST:])
        return other

    def _set(self, said: dict[str, str]) -> bool:
        try:
            wanted = tuned({name: float(said[name]) for name in said if name in ("sure", "alone", "fatigue", "rest")})
        except (BadData, ValueError):
            return False
        self.candidate = wanted if said["detection"] == "shadow" else {}
        return True

    def comparison(self) -> dict[str, Any] | None:
        """What both would have said so far; None without a candidate. Rates are alarms a series-week with 95 % intervals."""
        if not self._sides:
            return None
        weeks = len(self._sides[0]) * max(self._now - self._begun, 0) / _WEEK
        ours, theirs = self._alarms
        pairs = _pairs(ours, theirs)
        matched, found = {i for i, _ in pairs}, {j for _, j in pairs}
        only = (sum(i not in matched for i in range(len(ours))), sum(j not in found for j in range(len(theirs))))
        leads = [ours[i].told - theirs[j].told for i, j in pairs]
        return {
            "candidate": dict(self.candidate), "since": self._begun, "series": len(self._sides[0]), "series_weeks": weeks,
            "both": len(pairs), "only_current": only[0], "only_candidate": only[1],
            "earlier": sum(lead > 0 for lead in leads), "later": sum(lead < 0 for lead in leads),
            "pages_saved": sum(a.high for i, a in enumerate(ours) if i not in matched),
            "pages_added": sum(a.high for j, a in enumerate(theirs) if j not in found),
            "chance": min(1.0, 2.0 * float(bdtr(min(only), sum(only), 0.5))),
        } | {name: self._side(alarms, weeks) for name, alarms in zip(_SIDES, self._alarms, strict=True)}  # fmt: skip

    def _side(self, alarms: list[Alarm], weeks: float) -> dict[str, Any]:
        words = [self._verdicts.get(mark, "") for mark in {alarm.fingerprint for alarm in alarms}]
        noise = words.count("noise") + words.count("expected")
        low, high = interval(len(alarms))
        return {
            "alarms": len(alarms), "rate": len(alarms) / weeks if weeks else None, "low": low / weeks if weeks else None,
            "high": high / weeks if weeks else None, "useful": words.count("useful"), "noise": noise,
        }  # fmt: skip

    def snapshot(self) -> bytes:
        """All state."""
        alarms = [[asdict(alarm) for alarm in side] for side in self._alarms]
        texts = {
            "candidate": self.candidate, "steering": self._steering.state(), "verdicts": self._verdicts, "alarms": alarms,
            "clock": [self._begun, self._now],
        }  # fmt: skip
        parts = dict(zip(_SIDES, [side.snapshot() for side in self._sides], strict=False))
        if described := self._compacted():
            parts["described"] = to_ipc(described[0])
        return keeping.pack(self.name, _VERSION, texts, **{name: np.frombuffer(part, np.uint8) for name, part in parts.items()})

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; empty bytes start afresh.

        Raises:
            BadData: it is of another version.
        """
        self._forget()
        if not state:
            return
        texts, arrays = keeping.unpack(self.name, _VERSION, state)
        self.candidate, self._steering = texts["candidate"], Steering(texts["steering"])
        self._described = [from_ipc(arrays["described"].tobytes())] if "described" in arrays else []
        self._kept = sum(rows.num_rows for rows in self._described)
        self._reset()
        self._verdicts, (self._begun, self._now) = texts["verdicts"], texts["clock"]
        ours, theirs = ([Alarm(**alarm) for alarm in side] for side in texts["alarms"])
        self._alarms = (ours, theirs)
        for side, name in zip(self._sides, _SIDES, strict=False):
            side.restore(arrays[name].tobytes())


def interval(count: int) -> tuple[float, float]:
    """The exact 95 % interval of the mean of a Poisson count (Garwood 1936, Biometrika 28, doi:10.1093/biomet/28.3-4.437)."""
    low = float(gammaincinv(count, 0.025)) if count else 0.0
    return low, float(gammaincinv(count + 1, 0.975))


def _pairs(ours: list[Alarm], theirs: list[Alarm]) -> list[tuple[int, int]]:
    """Alarms of both sides that are the same, each used once, in order of time."""
    by_series: dict[str, list[int]] = {}
    for j, alarm in enumerate(theirs):
        by_series.setdefault(alarm.series, []).append(j)
    found = []
    for i, alarm in enumerate(ours):
        free = by_series.get(alarm.series, [])
        match = next((j for j in free if _same(alarm, theirs[j])), None)
        if match is not None:
            free.remove(match)
            found.append((i, match))
    return found


def _same(a: Alarm, b: Alarm) -> bool:
    first, second = (a, b) if a.told <= b.told else (b, a)
    return second.told - max(first.told, first.until or first.told) <= _NEAR or (not first.until and second.told - first.told <= 48 * _NEAR)
