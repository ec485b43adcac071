"""What people do with alarms steers the thresholds: sensitivity words, verdicts, and times of which nothing is learned.

`Steering` hears events and answers with a factor on the alarm thresholds of every series (`cells.BAR`) and with whether a series is held
(`cells.HOLD`: judged, not learned). A threshold is -log10 of the probability of a point, so a factor on it is an exponent on the rate of
false alarms. The factor is the word of the narrowest scope times what verdicts moved (`moves`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ninefold.analytics.holds import Holds, fits
from ninefold.analytics.metrics import cells as c
from ninefold.analytics.metrics.moves import DAY, LEAST, MOST, Move, Moves
from ninefold.analytics.metrics.texts import Texts
from ninefold.ground.errors import BadData
from ninefold.model.entity import fingerprint
from ninefold.model.signal import Batch

Ids = np.ndarray[Any, np.dtype[np.uint64]]
I32 = np.ndarray[Any, np.dtype[np.int32]]
F64 = np.ndarray[Any, np.dtype[np.float64]]
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
_STEPS = {"useful": -0.15, "noise": 0.25, "expected": 0.15, "acted on": -0.03, "nobody acted": 0.03}
"""Steps of the factor's logarithm; what nobody said, but people did, weighs a tenth."""
_LIKE = 0.2
"""The part of a step that all series of the same metric take; from an incident as a whole once."""
_WEEK = 7 * DAY
_OWN = "ninefold"
_KINDS = pa.array(["anomaly", "verdict", "setting", "incident"])
_EPISODES, _JUDGED, _SCOPES_MOST = 20_000, 40_000, 500
_TUNED = {"sure": (3.0, 9.0), "alone": (4.0, 14.0), "fatigue": (0.0, 2.0), "rest": (10.0, 5000.0)}
"""Settings of the fold that may be changed while running, and their bounds."""


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
        self.now, self.begun, last = given.get("clock", [0, 0, 0])
        self._moves = Moves(given.get("moves", []), last)
        self._holds = Holds(given.get("holds", ()), self.now)
        self.episodes = deque(Episode(**episode) for episode in given.get("episodes", []))
        self._latest = {episode.fingerprint: episode for episode in self.episodes}
        self.settings: dict[str, float] = dict(given.get("settings", {}))
        self._judged: dict[str, None] = dict.fromkeys(given.get("judged", []))

    def state(self) -> dict[str, Any]:
        """Everything, as plain data."""
        return {
            "words": [[scope, name, word] for (scope, name), word in self.words.items()],
            "moves": self._moves.state(),
            "holds": self._holds.state(),
            "episodes": [asdict(episode) for episode in self.episodes],
            "settings": self.settings,
            "clock": [self.now, self.begun, self._moves.last],
            "judged": list(self._judged),
        }

    @property
    def moves(self) -> Sequence[Move]:
        """What moved thresholds, the oldest first."""
        return self._moves.log

    @property
    def active(self) -> bool:
        """Whether any threshold is moved or any series held."""
        return bool(self.words or self._moves or self._holds)

    def due(self, received: int) -> bool:
        """Take note of the time; whether thresholds or holds are others from now on: a hold begins or ends, a day is over."""
        before, self.now = self.now, max(self.now, received)
        self.begun = self.begun or received
        crossed = self._holds.due(received)
        if not self.active or before == self.now:
            return crossed
        newday = before // DAY != self.now // DAY
        if newday:
            self._moves.forget(self.now)
        return crossed or newday

    def hear(self, batch: Batch) -> bool:
        """Take in a batch of events; whether thresholds, holds or settings may be others now."""
        changed = self.due(batch.received) | self._holds.hear(batch)
        rows = batch.rows.filter(pc.is_in(batch.rows.column("kind"), _KINDS))
        if not rows.num_rows or batch.source.partition(".")[0] != _OWN:
            return changed
        for row in rows.select(["kind", "status", "fingerprint", "attributes"]).to_pylist(maps_as_pydicts="lossy"):
            changed |= _HEARD[row["kind"]](self, row)
        return changed

    def _anomaly(self, row: Row) -> bool:
        said = row["attributes"]
        if said.get("technique") != "baseline" or "series" not in said:
            return False
        if row["status"] == "firing" and "again" not in said:
            self._begins(Episode(self.now, row["fingerprint"], said["series"], said.get("metric", "")))
        return False

    def _begins(self, episode: Episode) -> None:
        self.episodes.append(episode)
        self._latest[episode.fingerprint] = episode
        while len(self.episodes) > _EPISODES or self.now - self.episodes[0].time >= _WEEK:
            gone = self.episodes.popleft()
            if self._latest[gone.fingerprint] is gone:
                del self._latest[gone.fingerprint]

    def _verdict(self, row: Row) -> bool:
        said = row["attributes"]
        mark, verdict = said.get("fingerprint", ""), said.get("verdict", "")
        if verdict not in VERDICTS:
            return False
        known = self._latest.get(mark)
        series, metric = said.get("series") or (known.series if known else ""), said.get("metric") or (known.metric if known else "")
        if not series:
            return False
        if known:
            known.verdict = verdict
        self._move({"series": series, "metric": metric}, verdict, f"verdict: {verdict}", mark, said.get("actor", ""))
        return True

    def _incident(self, row: Row) -> bool:
        said, status = row["attributes"], row["status"]
        key = said.get("ninefold.incident", "")
        outcome = {"useful": "useful", "noise": "noise"}.get(said.get("feedback", "")) if status == "verdict" else None
        outcome = outcome or {"acknowledged": "acted on", "resolved": "acted on" if said.get("handled") else "nobody acted"}.get(status)
        if not outcome or (outcome == "nobody acted" and not said.get("fingerprints")):
            return False
        return self._follows(key, outcome, said.get("fingerprints", "").split(), said.get("actor", ""))

    def _follows(self, key: str, outcome: str, marks: Sequence[str], actor: str) -> bool:
        """What became of an incident speaks of each alarm in it, and of each metric, once."""
        moved, once = False, f"{key} {outcome if outcome in VERDICTS else 'implied'}"
        for mark in marks:
            known = self._latest.get(mark)
            if known is None or not self._first(f"{once} {mark}"):
                continue
            targets = {"series": known.series}
            if known.metric and self._first(f"{once} of {known.metric}"):
                targets["metric"] = known.metric
            if outcome in VERDICTS:
                known.verdict = outcome
            self._move(targets, outcome, f"{key}: {outcome}", mark, actor, followed=True)
            moved = True
        return moved

    def _first(self, judged: str) -> bool:
        """Whether this was not judged before."""
        if judged in self._judged:
            return False
        self._judged[judged] = None
        if len(self._judged) > _JUDGED:
            del self._judged[next(iter(self._judged))]
        return True

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
            self._moves.set(self.now, self.settings, wanted, said.get("why", "set"), actor)
            self.settings = wanted
            return True
        return False

    def _undo(self, number: str) -> bool:
        move = self._moves.undo(number)
        if move is not None and move.scope == "settings":
            self.settings = self._moves.settings()
        return move is not None

    def _move(self, targets: Mapping[str, str], outcome: str, why: str, mark: str, actor: str, *, followed: bool = False) -> None:
        for scope, target in targets.items():
            size = _STEPS[outcome] * (_LIKE if scope == "metric" else 1.0)
            if target:
                self._moves.step(self.now, scope, target, size, why=why, mark=mark, actor=actor, followed=followed)

    def learned(self, scope: str, target: str) -> float:
        """The factor that verdicts make for a series (number as text) or a metric name."""
        return self._moves.factor(scope, target, self.now)

    def scope_of(self, series: str, metric: str, entity: str, source: str) -> tuple[str, str, str]:
        """The scope that decides for a series, its name, and its word; "everything", "" and "normal" when nothing was set."""
        names = {"everything": "", "source": source, "entity": entity, "metric": metric, "series": series}
        chosen = ("everything", "", "normal")
        for scope, name in self._in_order():
            if fits(names[scope], name) if scope == "entity" else names[scope] == name:
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
        learned = self._by_series(ids) * self._by_metric(about, texts)
        return (bars * np.clip(learned, LEAST, MOST)).astype(np.float32)

    def _by_series(self, ids: Ids) -> F64:
        factors = {int(name): factor for name, factor in self._moves.factors("series", self.now).items() if _is_id(name)}
        known = np.array(sorted(factors), np.uint64)
        if not len(known):
            return np.ones(len(ids))
        place = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[place] == ids, np.array([factors[name] for name in known.tolist()])[place], 1.0)

    def _by_metric(self, about: I32, texts: Texts) -> F64:
        factors = self._moves.factors("metric", self.now)
        numbers, place = np.unique(about[:, _COLUMNS["metric"]], return_inverse=True)
        return np.array([factors.get(texts[number], 1.0) for number in numbers.tolist()], np.float64)[place]

    def holds(self, ids: Ids, about: I32, texts: Texts) -> Mask:
        """Which series are judged but not learned now."""
        held = np.zeros(len(ids), bool)
        for hold in self._holds.active:
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
}  # fmt: skip


def covers(scope: str, name: str, ids: Ids, about: I32, texts: Texts) -> Mask:
    """Which series a scope covers."""
    if scope == "everything":
        return np.ones(len(ids), bool)
    if scope == "series":
        return np.equal(ids, np.uint64(int(name))).astype(bool) if _is_id(name) else np.zeros(len(ids), bool)
    numbers = about[:, _COLUMNS[scope]]
    match = fits if scope == "entity" else str.__eq__
    found: Mask = np.isin(numbers, [number for number in np.unique(numbers).tolist() if match(texts[number], name)])
    return found


def _is_id(name: str) -> bool:
    return name.isdecimal() and int(name) < 1 << 64


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
