"""How one signal of one source behaves: cadence, volume, delay, clock, duplicates, severities, variety, gaps; all of it learned.

Rows are counted in windows of five minutes of receipt time. A measurement of a window is compared with the median of the last two hours or,
once two weeks of that hour of the week are known, with that hour's mean (the seasonal baseline).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from ninefold.catalogue.sketch import Distinct, Spread
from ninefold.ground.clock import MINUTE, SECOND

I64 = np.ndarray[Any, np.dtype[np.int64]]
U64 = np.ndarray[Any, np.dtype[np.uint64]]

WINDOW = 5 * MINUTE
WEEK = 168
_RECENT, _LEARNED, _SEASONS, _HOUR = 24, 6, 24, 12
_STRANGE = 3
_CLIP = math.log(2)
_FOLLOWED, _GAPS = 8, 15
_REMEMBERED = 1024
_MIX_FADE = 0.98


@dataclass(slots=True)
class Level:
    """What a measurement usually is: the median of the last 24 windows, and a mean for every hour of the week."""

    recent: list[float] = field(default_factory=list)
    season: dict[int, list[float]] = field(default_factory=dict)
    """Hour of the week -> [mean, windows]."""
    doubted: float = 0.0
    """The last value that was not as usual."""

    def usual(self, hour: int) -> float | None:
        """The expected value in an hour of the week; None while too little is known."""
        mean, count = self.season.get(hour, (0.0, 0.0))
        if count >= _SEASONS:
            return mean
        return median(self.recent) if len(self.recent) >= _LEARNED else None

    def known(self, hour: int) -> bool:
        """Whether an hour of the week has been seen for two weeks."""
        return self.season.get(hour, (0.0, 0.0))[1] >= _SEASONS

    def rhythm(self, hour: int) -> list[float]:
        """What else may be usual in an hour of the week, because a source has a rhythm of the day: the level of that hour and of its
        neighbours a week before and, while the hour is not known, a day before."""
        first = hour - 1 if self.known(hour) else hour  # the hour before an unknown one has heard only of the change in question
        week = [self.season[near % WEEK] for near in range(first, hour + 2) if near % WEEK in self.season]
        found = [mean for mean, count in week if count >= _HOUR]
        if not self.known(hour):
            found += [self.season[near % WEEK][0] for near in (hour - 25, hour - 24, hour - 23) if near % WEEK in self.season]
        return found

    def scatter(self) -> float:
        """How far recent values lie from their median, as a standard deviation."""
        if len(self.recent) < 2:
            return 0.0
        middle = median(self.recent)
        return 1.4826 * median(abs(value - middle) for value in self.recent)

    def learn(self, value: float, hour: int) -> None:
        """Take a value."""
        self.recent = [*self.recent, value][-_RECENT:]
        self._seasonal(value, hour)

    def doubt(self, value: float, hour: int) -> None:
        """Take a logarithm that is not as usual: the hour of the week hears of it, but a known hour is moved only a little."""
        self.doubted = value
        mean, count = self.season.get(hour, (0.0, 0.0))
        self._seasonal(min(max(value, mean - _CLIP), mean + _CLIP) if count >= _HOUR else value, hour)

    def renew(self, hour: int) -> None:
        """The doubted level has lasted: a known season moves with it, of an unknown one only a hint of each hour stays."""
        self.recent = []
        mean = self.season.get(hour, (0.0, 0.0))[0]
        if self.known(hour):
            self.season = {place: [old + self.doubted - mean, count] for place, (old, count) in self.season.items()}
        else:
            self.season = {place: [old, min(count, 1)] for place, (old, count) in self.season.items()}

    def _seasonal(self, value: float, hour: int) -> None:
        mean, count = self.season.get(hour, (0.0, 0.0))
        self.season[hour] = [mean + (value - mean) / min(count + 1, 6 * 12), count + 1]


@dataclass(slots=True)
class Steps:
    """A few series followed point by point: how far apart their points are, and how many are missing between them."""

    last: dict[int, int] = field(default_factory=dict)
    gaps: dict[int, list[int]] = field(default_factory=dict)
    points: int = 0
    missing: int = 0
    step: Spread = field(default_factory=Spread)
    off: Spread = field(default_factory=Spread)
    """How far (s) a gap is from the usual one of its series: the jitter."""

    def learn(self, series: U64, times: I64) -> None:
        """Take points in the order of their arrival."""
        if len(self.last) < _FOLLOWED:
            new, places = np.unique(series, return_index=True)
            for number in new[np.argsort(places)].tolist():
                if len(self.last) == _FOLLOWED:
                    break
                self.last.setdefault(number, 0)
        for number in self.last:
            for time in times[series == np.uint64(number)].tolist():
                self._point(number, time)

    def _point(self, number: int, time: int) -> None:
        before = self.last[number]
        if time <= before:
            return
        self.last[number] = time
        self.points += 1
        if not before:
            return
        gaps = self.gaps.setdefault(number, [])
        gap = time - before
        if len(gaps) >= 3:
            usual = median(gaps)
            lacking = round(gap / usual) - 1
            self.missing += max(0, lacking)
            self.off.add(abs(gap - (lacking + 1) * usual) / SECOND)
        self.step.add(gap / SECOND)
        self.gaps[number] = [*gaps, gap][-_GAPS:]


@dataclass(slots=True)
class Stream:
    """One signal of one source. Times in ns of receipt; `oldest` and `newest` are the records' own times; delays in seconds.

    What is counted in the open window: `rows`, `sample` (delays of sampled rows), `again` of `keys` content samples that came before, `mix`
    by severity, `fresh` descriptions of series; `gathered` rows over `waiting` windows are judged together.
    """

    source: str
    signal: str
    first: int
    last: int
    oldest: int = 1 << 62
    newest: int = 0
    total: int = 0
    deliveries: int = 0
    windows: int = 0
    empty: int = 0
    cadence: Spread = field(default_factory=Spread)
    longest: float = 0.0
    strange: int = 0
    """Gaps in a row that were silences; they are learned only when they are the new rhythm."""
    delay: Spread = field(default_factory=Spread)
    rows: int = 0
    sample: list[float] = field(default_factory=list)
    keys: int = 0
    again: int = 0
    mix: list[float] = field(default_factory=list)
    fresh: int = 0
    gathered: int = 0
    waiting: int = 0
    volume: Level = field(default_factory=Level)
    lag: Level = field(default_factory=Level)
    repeats: Level = field(default_factory=Level)
    usual_mix: list[float] = field(default_factory=list)
    recent_mix: list[list[float]] = field(default_factory=list)
    variety: Distinct = field(default_factory=Distinct)
    grown: list[int] = field(default_factory=list)
    """How many different series or templates were known at the end of each of the last 13 windows."""
    thin: int = 60
    """Records are remembered whose key has only zeros above these bits: a sixteenth, and of more than 8,192 a window about 512."""
    remembered: list[set[int]] = field(default_factory=lambda: [set(), set()])
    steps: Steps = field(default_factory=Steps)

    @property
    def regular(self) -> bool:
        """Whether it comes at a rhythm, so that silence and less of it mean something."""
        middle, rare = self.cadence.quantile(0.5), self.cadence.quantile(0.99)
        return self.cadence.weight >= 12 and middle is not None and rare is not None and rare <= 12 * max(middle, 1.0)

    def limit_s(self) -> float | None:
        """How long (s) it may be quiet before that is silence: learned from its own gaps. None while they are too few."""
        rare = self.cadence.quantile(0.99)
        if rare is None or self.cadence.weight < 12:
            return None
        return max(120.0, 4 * rare, 2 * self.longest) if self.regular else max(3600.0, 10 * rare, 4 * self.longest)

    def arrived(self, received: int, rows: int) -> None:
        """Rows came; a delivery is everything of one receipt."""
        if self.deliveries and received > self.last:
            gap = (received - self.last) / SECOND
            limit = self.limit_s()
            self.strange = self.strange + 1 if limit is not None and gap > limit else 0
            if not 0 < self.strange < _STRANGE:
                self.cadence.add(gap)
                self.longest = max(gap, self.longest * 0.999)
        if received > self.last or not self.deliveries:
            self.deliveries += 1
        self.last = max(self.last, received)
        self.rows += rows
        self.total += rows

    def timed(self, times: I64, received: int) -> None:
        """The times of sampled rows."""
        self.oldest, self.newest = min(self.oldest, int(times.min())), max(self.newest, int(times.max()))
        for behind in ((received - times) / SECOND).tolist():
            self.sample.append(behind)
            self.delay.add(max(0.0, behind))

    def repeated(self, keys: U64) -> None:
        """Keys of records chosen by their content: how many of them were seen in this window or the one before."""
        before, here = self.remembered
        for key in keys.tolist():
            self.keys += 1
            if key in here or key in before:
                self.again += 1
            elif len(here) < _REMEMBERED:
                here.add(key)

    def span(self) -> int:
        """Over how many windows rows are gathered, so that a slow source's volume is not a comb."""
        middle = self.cadence.quantile(0.5) or 0.0
        return max(1, min(288, math.ceil(4 * middle * SECOND / WINDOW)))

    def turn(self) -> None:
        """Begin a new window; what detectors need is remembered."""
        self.windows += 1
        self.empty += self.rows == 0
        if self.mix:
            self.recent_mix = [*self.recent_mix, self.mix][-6:]
            self.usual_mix = [old * _MIX_FADE + new for old, new in zip(self.usual_mix or [0.0] * len(self.mix), self.mix, strict=True)]
        self.grown = [*self.grown, len(self.variety)][-13:]
        self.thin = 64 - min(24, max(4, (self.rows // 512).bit_length()))
        self.remembered = [self.remembered[1], set()]
        self.rows, self.sample, self.keys, self.again, self.mix, self.fresh = 0, [], 0, 0, [], 0

    def state(self) -> dict[str, Any]:
        """Everything, as plain data."""
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return kept | {"variety": self.variety.state(), "remembered": [sorted(keys) for keys in self.remembered]}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Stream:
        """Continue from what orjson made of a state."""
        steps = state["steps"]
        made = {
            "cadence": Spread.of(state["cadence"]), "delay": Spread.of(state["delay"]), "variety": Distinct(**state["variety"]),
            "remembered": [set(keys) for keys in state["remembered"]],
            **{name: _level(state[name]) for name in ("volume", "lag", "repeats")},
            "steps": Steps(
                {int(k): v for k, v in steps["last"].items()}, {int(k): v for k, v in steps["gaps"].items()}, steps["points"],
                steps["missing"], Spread.of(steps["step"]), Spread.of(steps["off"]),
            ),
        }  # fmt: skip
        return cls(**{**state, **made})


def _level(state: dict[str, Any]) -> Level:
    return Level(state["recent"], {int(hour): value for hour, value in state["season"].items()}, state.get("doubted", 0.0))


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """The total variation distance of two distributions given as counts: 0 the same, 1 nothing in common."""
    if not sum(one) or not sum(other):
        return 0.0
    return sum(abs(a / sum(one) - b / sum(other)) for a, b in zip(one, other, strict=True)) / 2
