"""What people do with alarms steers the thresholds: sensitivity words, verdicts, and times of which nothing is learned.

`Steering` hears events and answers with a factor on the alarm thresholds of every series (`cells.BAR`) and with whether a series is held
(`cells.HOLD`: judged, not learned). A threshold is -log10 of the probability of a point, so a factor on it is an exponent on the rate of
false alarms. The factor is the word of the narrowest scope times what verdicts moved: each move is a record with a step that halves every
60 days; the factor in force is the sum of the steps that were not undone, so to undo one restores exactly what would be without it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.texts import Texts
from ninefold.ground.clock import SECOND, parse
from ninefold.ground.errors import BadData
from ninefold.model.entity import fingerprint
from ninefold.model.signal import Batch

Ids = np.ndarray[Any, np.dtype[np.uint64]]
I32 = np.ndarray[Any, np.dtype[np.int32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Row = dict[str, Any]


class Word(NamedTuple):
    """What a sensitivity word asks for: false alarms a series-week, and the factor on the thresholds that gives about so many."""

    target: float
    factor: float


WORDS = {"calm": Word(0.01, 1.3), "normal": Word(0.07, 1.0), "keen": Word(0.5, 0.86)}
SCOPES = ("everything", "source", "entity", "metric", "series")
"""From the widest to the narrowest; the name of an entity may be a glob, of which the longer is the narrower."""
VERDICTS = ("useful", "noise", "expected")
LEAST, MOST = 0.7, 2.0
"""Bounds of what verdicts can make of a threshold."""
_STEPS = {"useful": -0.15, "noise": 0.25, "expected": 0.15, "acted on": -0.03, "nobody acted": 0.03}
"""Steps of the factor's logarithm; what nobody said, but people did, weighs a tenth."""
_LIKE = 0.2
"""The part of a step that all series of the same metric take."""
_DAY, _HALF_LIFE = 86_400 * SECOND, 60
_WEEK = 7 * _DAY
_HOLD = 7200 * SECOND
"""An open incident, or an anomaly found useful, holds what it is about for so long: then it counts as the way things are now."""
_LONGEST_WINDOW = 2 * _DAY
_OWN = "ninefold"
_KINDS = pa.array(["anomaly", "verdict", "setting", "incident", "change", "maintenance"])
_FROM_ANYBODY = ("change", "maintenance")
_MOVES, _EPISODES, _HOLDS, _SCOPES_MOST = 5000, 20_000, 2000, 500
_TUNED = {"sure": (3.0, 9.0), "alone": (4.0, 14.0), "fatigue": (0.0, 2.0), "rest": (10.0, 5000.0)}
"""Settings of the fold that may be changed while running, and their bounds."""


@dataclass(slots=True)
class Move:
    """One change of thresholds, or of the settings of all (`scope` "settings"), and why; times in ns of receipt."""

    id: int
    time: int
    scope: str
    target: str
    step: float
    before: Any
    after: Any
    why: str
    fingerprint: str
    actor: str
    undone: bool = False


@dataclass(slots=True)
class Hold:
    """An entity (or a series, by its number as text) of which nothing is learned from `begin` to `end`."""

    scope: str
    target: str
    begin: int
    end: int
    why: str


@dataclass(slots=True)
class Episode:
    """One alarm of the last week."""

    time: int
    fingerprint: str
    series: str
    metric: str
    verdict: str = ""


def tuned(given: Mapping[str, float]) -> dict[str, float]:
    """Settings of the fold that somebody wants, checked.

    Raises:
        BadData: one is unknown or out of its bounds.
    """
    for name, value in given.items():
        if name not in _TUNED:
            raise BadData(f"there is no setting {name!r} of detection; there are {', '.join(_TUNED)}", name)
        least, most = _TUNED[name]
        if not least <= value <= most:
            raise BadData(f"the setting {name} cannot be {value:g}; give {least:g} to {most:g}", name)
    return {name: float(value) for name, value in given.items()}


def fingerprint_of(series: str | int) -> str:
    """The fingerprint of the anomalies of a series' baseline."""
    return fingerprint({"technique": "baseline", "series": str(series)})


class Steering:
    """What was set and learned about thresholds. Its clock is the time of receipt of the batches it is given.

    Args:
        state: what `state()` gave, to continue there.
    """

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        given = state or {}
        self.words: dict[tuple[str, str], str] = {(scope, name): word for scope, name, word in given.get("words", [])}
        self.moves = [Move(**move) for move in given.get("moves", [])]
        self.holding = [Hold(**hold) for hold in given.get("holds", [])]
        self.episodes = [Episode(**episode) for episode in given.get("episodes", [])]
        self.settings: dict[str, float] = dict(given.get("settings", {}))
        self.now, self.begun, self._last = given.get("clock", [0, 0, 0])
        self._judged: dict[str, None] = dict.fromkeys(given.get("judged", []))

    def state(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {
            "words": [[scope, name, word] for (scope, name), word in self.words.items()],
            "moves": [asdict(move) for move in self.moves],
            "holds": [asdict(hold) for hold in self.holding],
            "episodes": [asdict(episode) for episode in self.episodes],
            "settings": self.settings,
            "clock": [self.now, self.begun, self._last],
            "judged": list(self._judged),
        }

    @property
    def active(self) -> bool:
        """Whether any threshold is moved or any series held."""
        return bool(self.words or self.moves or self.holding)

    def due(self, received: int) -> bool:
        """Take note of the time; whether thresholds or holds are others from now on: a hold begins or ends, a day is over."""
        before, self.now = self.now, max(self.now, received)
        self.begun = self.begun or received
        if not self.active or before == self.now:
            return False
        crossed = any(before < at <= self.now for hold in self.holding for at in (hold.begin, hold.end))
        if crossed:
            self.holding = [hold for hold in self.holding if hold.end > self.now]
        newday = before // _DAY != self.now // _DAY
        if newday:
            self.moves = [move for move in self.moves if self.now - move.time < 6 * _HALF_LIFE * _DAY]
        return crossed or newday

    def hear(self, batch: Batch) -> bool:
        """Take in a batch of events; whether thresholds, holds or settings may be others now."""
        changed = self.due(batch.received)
        rows = batch.rows.filter(pc.is_in(batch.rows.column("kind"), _KINDS))
        if not rows.num_rows:
            return changed
        ours = batch.source.partition(".")[0] == _OWN
        rows = rows.set_column(rows.schema.get_field_index("time"), "time", rows.column("time").cast(pa.int64()))
        for row in rows.drop_columns(["received"]).to_pylist(maps_as_pydicts="lossy"):
            taken = _HEARD.get(row["kind"]) if ours or row["kind"] in _FROM_ANYBODY else None
            changed |= bool(taken and taken(self, row))
        return changed

    def _anomaly(self, row: Row) -> bool:
        said = row["attributes"]
        if said.get("technique") != "baseline" or "series" not in said:
            return False
        if row["status"] == "firing":
            if "again" in said:
                return False
            self.episodes.append(Episode(self.now, row["fingerprint"], said["series"], said.get("metric", "")))
            self.episodes = [episode for episode in self.episodes[-_EPISODES:] if self.now - episode.time < _WEEK]
            return False
        return self._release("series", said["series"])

    def _verdict(self, row: Row) -> bool:
        said = row["attributes"]
        mark, verdict = said.get("fingerprint", ""), said.get("verdict", "")
        if verdict not in VERDICTS:
            return False
        known = self._last_of(mark)
        series, metric = said.get("series") or (known.series if known else ""), said.get("metric") or (known.metric if known else "")
        if not series:
            return False
        if known:
            known.verdict = verdict
        if verdict == "useful" and said.get("status") == "firing":
            self._hold(Hold("series", series, self.now, self.now + _HOLD, "an anomaly found useful lasts"))
        return self._move(series, metric, verdict, f"verdict: {verdict}", mark, said.get("actor", ""))

    def _incident(self, row: Row) -> bool:
        said, status = row["attributes"], row["status"]
        key = said.get("ninefold.incident", "")
        if status in ("opened", "reopened"):
            return self._hold(Hold("entity", row["entity"], self.now, self.now + _HOLD, f"{key} is open"))
        changed = status in ("resolved", "merged") and self._release("entity", row["entity"], f"{key} is open")
        outcome = {"useful": "useful", "noise": "noise"}.get(said.get("feedback", "")) if status == "verdict" else None
        outcome = outcome or {"acknowledged": "acted on", "resolved": "acted on" if said.get("handled") else "nobody acted"}.get(status)
        if not outcome or (outcome == "nobody acted" and not said.get("fingerprints")):
            return changed
        marks = said.get("fingerprints", "").split()
        for mark in marks:
            known, once = self._last_of(mark), f"{key} {mark} {'implied' if outcome in ('acted on', 'nobody acted') else outcome}"
            if known is None or once in self._judged:
                continue
            self._judged[once] = None
            if len(self._judged) > _MOVES:
                del self._judged[next(iter(self._judged))]
            if outcome in VERDICTS:
                known.verdict = outcome
            changed |= self._move(known.series, known.metric, outcome, f"{key}: {outcome}", mark, said.get("actor", ""))
        return changed

    def _change(self, row: Row) -> bool:
        """A maintenance window: from `start`, else its time, to `end` or `until` (RFC 3339); two hours of what has no end but says it is
        one by its kind or by the attribute `maintenance`."""
        said, time = row["attributes"], row["time"]
        ends = said.get("end") or said.get("until", "")
        if not row["entity"] or not (ends or "maintenance" in said or row["kind"] == "maintenance"):
            return False
        try:
            begin = parse(said["start"]) if "start" in said else time
            end = parse(ends) if ends else begin + _HOLD
        except ValueError:
            return False  # whoever sent it wrote no time there: it names no window
        # Lengths count, not dates: a history that is played in has its windows, too. What is announced for later counts from now.
        told = min(time, self.now) if self.now else time
        first = self.now + max(0, begin - told)
        last = min(self.now + end - told, first + _LONGEST_WINDOW)
        return last > first and self._hold(Hold("entity", row["entity"], first, last, row["title"] or "maintenance"))

    def _setting(self, row: Row) -> bool:
        said = row["attributes"]
        what, actor = said.get("detection", ""), said.get("actor", "")
        if what == "sensitivity":
            place = (said.get("scope", ""), said.get("name", ""))
            if said.get("word") in WORDS and place[0] in SCOPES and (place in self.words or len(self.words) < _SCOPES_MOST):
                self.words[place] = said["word"]
                return True
            return self.words.pop(place, None) is not None
        if what == "undo":
            return self._undo(said.get("move", ""))
        if what == "settings":
            try:
                wanted = tuned({name: float(said[name]) for name in _TUNED if name in said})
            except (BadData, ValueError):
                return False
            self._log("settings", "", 0.0, dict(self.settings), wanted, said.get("why", "set"), "", actor)
            self.settings = wanted
            return True
        return False

    def _undo(self, number: str) -> bool:
        move = next((move for move in self.moves if str(move.id) == number and not move.undone), None)
        if move is None:
            return False
        move.undone = True
        if move.scope == "settings":
            left = [other.after for other in self.moves if other.scope == "settings" and not other.undone]
            self.settings = dict(left[-1]) if left else {}
        return True

    def _move(self, series: str, metric: str, outcome: str, why: str, mark: str, actor: str) -> bool:
        step = _STEPS[outcome]
        for scope, target, size in (("series", series, step), ("metric", metric, step * _LIKE)):
            if target:
                before = self.learned(scope, target)
                after = min(max(before * math.exp(size), LEAST), MOST)
                self._log(scope, target, math.log(after / before), round(before, 4), round(after, 4), why, mark, actor)
        return True

    def _log(self, scope: str, target: str, step: float, before: Any, after: Any, why: str, mark: str, actor: str) -> None:
        self._last += 1
        self.moves = self.moves[-_MOVES + 1 :]
        self.moves.append(Move(self._last, self.now, scope, target, step, before, after, why, mark, actor))

    def _hold(self, hold: Hold) -> bool:
        same = [other for other in self.holding if (other.scope, other.target, other.why) == (hold.scope, hold.target, hold.why)]
        if same or len(self.holding) >= _HOLDS or not hold.target:
            return False
        self.holding.append(hold)
        return bool(hold.begin <= self.now)

    def _release(self, scope: str, target: str, why: str = "") -> bool:
        left = [hold for hold in self.holding if (hold.scope, hold.target) != (scope, target) or (why and hold.why != why)]
        gone, self.holding = len(left) != len(self.holding), left
        return gone

    def _last_of(self, mark: str) -> Episode | None:
        return next((episode for episode in reversed(self.episodes) if episode.fingerprint == mark), None)

    def learned(self, scope: str, target: str) -> float:
        """The factor that verdicts make for a series (number as text) or a metric name."""
        return self._factors(scope, lambda name: name == target).get(target, 1.0)

    def _factors(self, scope: str, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, float]:
        today, sums = self.now // _DAY, defaultdict[str, float](float)
        for move in self.moves:
            if move.scope == scope and not move.undone and wanted(move.target):
                sums[move.target] += move.step * 0.5 ** ((today - move.time // _DAY) / _HALF_LIFE)
        return {target: min(max(math.exp(total), LEAST), MOST) for target, total in sums.items()}

    def scope_of(self, series: str, metric: str, entity: str, source: str) -> tuple[str, str, str]:
        """The scope that decides for a series, its name, and its word; "everything", "" and "normal" when nothing was set."""
        names = {"everything": "", "source": source, "entity": entity, "metric": metric, "series": series}
        chosen = ("everything", "", "normal")
        for scope, name in self._in_order():
            if _fits(names[scope], name) if scope == "entity" else names[scope] == name:
                chosen = (scope, name, self.words[scope, name])
        return chosen

    def _in_order(self) -> list[tuple[str, str]]:
        def rank(place: tuple[str, str]) -> tuple[int, bool, int, str]:
            scope, name = place
            return SCOPES.index(scope), "*" not in name, len(name), name

        return sorted(self.words, key=rank)

    def bars(self, ids: Ids, about: I32, texts: Texts) -> c.F32:
        """The factor on the thresholds of each series; `about` as `baseline.About`, in numbers of `texts`."""
        bars = np.ones(len(ids), np.float32)
        for scope, name in self._in_order():
            bars[covers(scope, name, ids, about, texts)] = WORDS[self.words[scope, name]].factor
        learned = np.ones(len(ids))
        for scope in ("metric", "series"):
            for target, factor in self._factors(scope).items():
                learned[covers(scope, target, ids, about, texts)] *= factor
        return (bars * np.clip(learned, LEAST, MOST)).astype(np.float32)

    def holds(self, ids: Ids, about: I32, texts: Texts) -> Mask:
        """Which series are judged but not learned now."""
        held = np.zeros(len(ids), bool)
        for hold in self.holding:
            if hold.begin <= self.now < hold.end:
                held |= covers(hold.scope, hold.target, ids, about, texts)
        return held

    def explain(self, series: str, about: Sequence[str], cells: c.F32, settings: c.F64) -> dict[str, Any]:
        """The threshold of a series (`about` as `baseline.About`), its factors, and the moves behind them, the latest first."""
        metric, entity, source = (about[_COLUMNS[scope]] for scope in ("metric", "entity", "source"))
        scope, name, word = self.scope_of(series, metric, entity, source)
        base, fatigue = float(settings[c.S_SURE]), 1.0 + float(settings[c.S_FATIGUE] * cells[c.FATIGUE])
        moves = [move for move in self.moves if (move.scope, move.target) in (("series", series), ("metric", metric))]
        learned = min(max(self.learned("metric", metric) * self.learned("series", series), LEAST), MOST)
        return {
            "threshold": base * (float(cells[c.BAR]) or 1.0) * fatigue, "base": base, "scope": scope, "scope_name": name, "word": word,
            "word_factor": WORDS[word].factor, "verdict_factor": learned, "fatigue_factor": fatigue, "held": bool(cells[c.HOLD]),
            "moves": [asdict(move) for move in reversed(moves)],
        }  # fmt: skip

    def measured(self, ids: Ids) -> tuple[int, int, float]:
        """Alarms of these series in the last week, those of them found useful, and the series-weeks they were watched."""
        among = set(ids.tolist())
        here = [episode for episode in self.episodes if int(episode.series) in among and self.now - episode.time < _WEEK]
        weeks = len(ids) * min(self.now - self.begun, _WEEK) / _WEEK if self.begun else 0.0
        return len(here), sum(episode.verdict == "useful" for episode in here), weeks


_HEARD: dict[str, Callable[[Steering, Row], bool]] = {
    "anomaly": Steering._anomaly, "verdict": Steering._verdict, "setting": Steering._setting, "incident": Steering._incident,
    "change": Steering._change, "maintenance": Steering._change,
}  # fmt: skip


def covers(scope: str, name: str, ids: Ids, about: I32, texts: Texts) -> Mask:
    """Which series a scope covers."""
    if scope == "everything":
        return np.ones(len(ids), bool)
    if scope == "series":
        number = int(name) if name.isdecimal() else 1 << 64
        return np.equal(ids, np.uint64(number)).astype(bool) if number < 1 << 64 else np.zeros(len(ids), bool)
    numbers = about[:, _COLUMNS[scope]]
    match = _fits if scope == "entity" else str.__eq__
    found: Mask = np.isin(numbers, [number for number in np.unique(numbers).tolist() if match(texts[number], name)])
    return found


def _fits(entity: str, name: str) -> bool:
    """A name is a glob, or the entity itself, which may have brackets."""
    return entity == name or fnmatchcase(entity, name)


_COLUMNS = {"metric": 0, "entity": 4, "source": 5}


def experts(cells: c.F32) -> dict[str, int]:
    """How many series believe which expert just now: the slow level, the fast level, the course of the day; or still learn."""
    level, fast, daily = cells[:, c.ERR_LEVEL], cells[:, c.ERR_FAST], cells[:, c.ERR_DAILY]
    learning = cells[:, c.COUNT] <= c.WARM_UP
    quick = fast < 0.5 * level
    by_day = (daily < 0.8 * np.where(quick, fast, level)) & (daily > 0)
    judged = ~learning & (cells[:, c.KIND] != c.PART)
    found = {"daily": judged & by_day, "fast": judged & quick & ~by_day, "level": judged & ~quick & ~by_day, "learning": learning}
    return {name: int(np.count_nonzero(mask)) for name, mask in found.items()}
