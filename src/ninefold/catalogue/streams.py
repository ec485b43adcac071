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

WINDOW, _HOUR_NS = 5 * MINUTE, 60 * MINUTE
WEEK = 168
_RECENT, _LEARNED, _SEASONS, _HOUR, _MEANT = 24, 6, 24, 12, 24
_STRANGE = 3
_APART_S = 7200.0
_FOLLOWED, _GAPS, _VANISHED = 8, 15, 12
_REMEMBERED = 1024
_MIX_FADE = 0.98


@dataclass(slots=True)
class Level:
    """What a measurement usually is: the median of the last 24 windows, and a mean for every hour of the week.

    `off` is how far the last 24 windows were from the mean of their hour, so that a level that changed for good keeps its season.
    """

    recent: list[float] = field(default_factory=list)
    season: dict[int, list[float]] = field(default_factory=dict)
    """Hour of the week -> [mean, windows]."""
    off: list[float] = field(default_factory=list)
    doubted: float = 0.0
    """The last value that was not as usual."""
    odd: int = 0
    """How many values in a row were a little strange, in one direction."""

    def usual(self, hour: int) -> float | None:
        """The expected value in an hour of the week; None while too little is known."""
        if self.known(hour):
            return self.season[hour][0] + (median(self.off) if self.off else 0.0)
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

    def away(self, value: float, hour: int) -> float:
        """How far a value is from the nearest one that would be usual, with its sign."""
        usual = self.usual(hour)
        near = [value - other for other in [*([] if usual is None else [usual]), *self.rhythm(hour)]]
        return min(near, key=abs, default=0.0)

    def beside(self, value: float, hour: int) -> float:
        """How far a value is from the level of a known hour itself, as it was and as it lately is, with its sign."""
        mean = self.season[hour][0]
        return min(value - mean, value - mean - (median(self.off) if self.off else 0.0), key=abs)

    def scatter(self, hour: int = -1) -> float:
        """How far recent values lie from their median, in a known hour from the season, as a standard deviation."""
        values = self.off if self.known(hour) else self.recent
        if len(values) < 2:
            return 0.0
        middle = median(values)
        return 1.4826 * median(abs(value - middle) for value in values)

    def learn(self, value: float, hour: int, near: float = math.inf) -> None:
        """Take a value that is usual; where it is not `near` what its hour of the week was, that hour is learned anew."""
        self.recent = [*self.recent, value][-_RECENT:]
        mean, count = self.season.get(hour, (0.0, 0.0))
        if count >= _HOUR and abs(value - mean) > near:
            del self.season[hour]
        elif count >= _HOUR:
            self.off = [*self.off, value - mean][-_RECENT:]
        self._seasonal(value, hour)

    def doubt(self, value: float, hour: int) -> None:
        """Take a value that is not as usual: an hour of the week that was hardly seen hears of it, others once it has lasted."""
        self.doubted = value
        if self.season.get(hour, (0.0, 0.0))[1] < _HOUR:
            self._seasonal(value, hour)

    def renew(self, hour: int) -> None:
        """The doubted level has lasted: it is the recent one, and the season is as far off as it is here."""
        self.recent = [self.doubted] * _LEARNED
        mean, count = self.season.get(hour, (0.0, 0.0))
        self.off = [self.doubted - mean] * _LEARNED if count >= _HOUR else []

    def _seasonal(self, value: float, hour: int) -> None:
        mean, count = self.season.get(hour, (0.0, 0.0))
        self.season[hour] = [mean + (value - mean) / min(count + 1, _MEANT), count + 1]


@dataclass(slots=True)
class Steps:
    """A few series followed point by point: how far apart their points are, and how many are missing between them.

    One that is heard no more, while its source is, makes room for another."""

    last: dict[int, int] = field(default_factory=dict)
    gaps: dict[int, list[int]] = field(default_factory=dict)
    points: int = 0
    missing: int = 0
    step: Spread = field(default_factory=Spread)
    off: Spread = field(default_factory=Spread)
    """How far (s) a gap is from the usual one of its series: the jitter."""
    quiet: dict[int, int] = field(default_factory=dict)
    """Windows in which the source spoke since the last point of a series."""

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

    def turn(self) -> None:
        """A window in which the source spoke is over."""
        allowed = max(_VANISHED, math.ceil(_VANISHED * (self.step.quantile(0.5) or 0.0) * SECOND / WINDOW))
        for number in list(self.last):
            self.quiet[number] = self.quiet.get(number, 0) + 1
            if self.quiet[number] > allowed:
                del self.last[number], self.quiet[number]
                self.gaps.pop(number, None)

    def lately(self) -> list[float]:
        """The newest gaps (s) of the series followed, of each as many, the newest last."""
        known = [gaps for gaps in self.gaps.values() if len(gaps) == _GAPS]
        return [median(gaps[place] for gaps in known) / SECOND for place in range(_GAPS)] if known else []

    def renew(self) -> None:
        """The newest gaps are the usual ones from now on."""
        self.step, self.off = Spread(), Spread()
        for gap in self.lately():
            self.step.add(gap)

    def _point(self, number: int, time: int) -> None:
        self.quiet[number] = 0
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
class Hours:
    """In which hours of the week a source usually speaks, from the last four weeks; an hour not known is taken like the day before.

    `waited` is how long (s) it has been quiet while it usually speaks. The first and the last hour of a time of work may begin late and
    end early, so they count only once they and an hour more have passed without a word, and only where a word was always heard.
    """

    marks: bytearray = field(default_factory=lambda: bytearray(WEEK))
    """Of every hour of the week four bits of weeks seen above four bits of weeks heard, the newest lowest."""
    waited: float = 0.0

    def quiet(self, hour: int) -> bool:
        """Whether nothing is to be expected in an hour of the week."""
        mark = self.marks[hour % WEEK] or self.marks[(hour - 24) % WEEK]
        return mark > 0 and 2 * (mark & 15).bit_count() < (mark >> 4).bit_count()

    def inner(self, hour: int) -> bool:
        """Whether it speaks in an hour and in both beside it."""
        return not (self.quiet(hour - 1) or self.quiet(hour) or self.quiet(hour + 1))

    def over(self, hour: int, last: int, end: int) -> None:
        """An hour of the week has ended at `end`, when the last word was at `last` (both ns)."""
        if end - last >= 2 * _HOUR_NS and not self.inner(hour - 1) and self.marks[(hour - 1) % WEEK] & 0xEE == 0xEE:
            self.waited += 3600  # an appointment was not kept: by now its own mark has a zero below three weeks that were heard
        if self.inner(hour):
            self.waited += min(3600, (end - last) / SECOND)
        mark = self.marks[hour % WEEK]
        self.marks[hour % WEEK] = (mark >> 4 << 1 | 1) % 16 << 4 | (mark % 16 << 1 | (end - last < _HOUR_NS)) % 16

    def silent_s(self, last: int, at: int) -> float:
        """How long (s) it has been quiet at `at` while it usually speaks."""
        return self.waited + (min(at % _HOUR_NS, at - last) / SECOND if self.inner(at // _HOUR_NS % WEEK) else 0.0)


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
    idle: bool = True
    """Nothing came in the window before."""
    volume: Level = field(default_factory=Level)
    lag: Level = field(default_factory=Level)
    repeats: Level = field(default_factory=Level)
    usual_mix: list[float] = field(default_factory=list)
    recent_mix: list[list[float]] = field(default_factory=list)
    odd_mix: bool = False
    """The recent mix is not as usual, and nothing is learned from it."""
    variety: Distinct = field(default_factory=Distinct)
    grown: list[int] = field(default_factory=list)
    """How many different series or templates were known at the end of each of the last 13 windows."""
    thin: int = 60
    """Records are remembered whose key has only zeros above these bits: a sixteenth, and of more than 8,192 a window about 512."""
    remembered: list[set[int]] = field(default_factory=lambda: [set(), set()])
    steps: Steps = field(default_factory=Steps)
    hours: Hours = field(default_factory=Hours)
    expected: bool = True
    """Not any more, once its silence was given up."""
    gaps: list[float] = field(default_factory=list)
    """The newest gaps between deliveries, in seconds."""
    shift: float = 0.0
    """The logarithm of how much more often than usually it came lately, while that is new."""

    @property
    def regular(self) -> bool:
        """Whether it comes at a rhythm, so that silence and less of it mean something; nobody can tell within its first hour."""
        middle, rare = self.cadence.quantile(0.5), self.cadence.quantile(0.99)
        return self._experienced and middle is not None and rare is not None and rare <= 12 * max(middle, 1.0)

    @property
    def _experienced(self) -> bool:
        return self.cadence.weight >= 12 and self.last - self.first >= _HOUR_NS

    def limit_s(self) -> float | None:
        """How long (s) it may be quiet, in hours in which it usually speaks, before that is silence: learned from its own gaps.

        None while they are too few. After a silence it may be quiet twice as long as it was, until it comes as usual."""
        rare = self.cadence.quantile(0.99)
        if rare is None or not self._experienced:
            return None
        last = 2 * self.gaps[-1] if self.strange else 0.0
        return max(last, 120.0, 4 * rare, 2 * self.longest) if self.regular else max(last, 3600.0, 10 * rare, 4 * self.longest)

    def silent_s(self, at: int) -> float:
        """How long (s) it has been quiet at `at` (ns) in hours in which it usually speaks; all of the time, when it keeps appointments so
        far apart that whole hours say nothing of it."""
        if self.regular and (self.cadence.quantile(0.5) or 0.0) >= _APART_S:
            return (at - self.last) / SECOND
        return self.hours.silent_s(self.last, at)

    def arrived(self, received: int, rows: int) -> None:
        """Rows came; a delivery is everything of one receipt."""
        if self.deliveries and received > self.last:
            gap = (received - self.last) / SECOND
            limit = self.limit_s()
            self.strange = self.strange + 1 if limit is not None and gap > limit else 0
            self.gaps = [*self.gaps, gap][-_GAPS:]
            if not 0 < self.strange < _STRANGE:
                self.cadence.add(gap)
                self.longest = max(gap, self.longest * 0.999)
        if received > self.last or not self.deliveries:
            self.deliveries += 1
            self.hours.waited, self.expected = 0.0, True
        self.last = max(self.last, received)
        self.rows += rows
        self.total += rows

    def rhythm(self) -> tuple[list[float], Spread]:
        """The newest gaps (s) and all of them: of the points of its series, where they are followed, else of its deliveries."""
        newest = self.steps.lately()
        return (newest, self.steps.step) if newest else (self.gaps, self.cadence)

    def renew(self) -> None:
        """The newest rhythm is the usual one from now on."""
        if self.steps.lately():
            self.steps.renew()
        self.cadence = Spread()
        for gap in self.gaps:
            self.cadence.add(gap)
        self.longest, self.strange, self.shift = max(self.gaps), 0, 0.0

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
        self.idle = not self.rows
        if self.rows and self.signal == "metric":
            self.steps.turn()
        if self.mix:
            self.recent_mix = [*self.recent_mix, self.mix][-6:]
            if not self.odd_mix:
                self.usual_mix = [old * _MIX_FADE + new for old, new in zip(self.usual_mix or [0.0] * len(self.mix), self.mix, strict=True)]
        self.grown = [*self.grown, len(self.variety)][-13:]
        self.thin = 64 - min(24, max(4, (self.rows // 512).bit_length()))
        self.remembered = [self.remembered[1], set()]
        self.rows, self.sample, self.keys, self.again, self.mix, self.fresh = 0, [], 0, 0, [], 0

    def state(self) -> dict[str, Any]:
        """Everything, as plain data."""
        kept = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return kept | {
            "variety": self.variety.state(),
            "remembered": [sorted(keys) for keys in self.remembered],
            "hours": [self.hours.marks.hex(), self.hours.waited],
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> Stream:
        """Continue from what orjson made of a state."""
        steps = state["steps"]
        marks, waited = state.get("hours", ("", 0.0))
        made = {
            "hours": Hours(bytearray.fromhex(marks) or bytearray(WEEK), waited),
            "cadence": Spread.of(state["cadence"]), "delay": Spread.of(state["delay"]), "variety": Distinct(**state["variety"]),
            "remembered": [set(keys) for keys in state["remembered"]],
            **{name: _level(state[name]) for name in ("volume", "lag", "repeats")},
            "steps": Steps(
                {int(k): v for k, v in steps["last"].items()}, {int(k): v for k, v in steps["gaps"].items()}, steps["points"],
                steps["missing"], Spread.of(steps["step"]), Spread.of(steps["off"]),
                {int(k): v for k, v in steps.get("quiet", {}).items()},
            ),
        }  # fmt: skip
        return cls(**{**state, **made})


def _level(state: dict[str, Any]) -> Level:
    season = {int(hour): value for hour, value in state["season"].items()}
    return Level(state["recent"], season, state.get("off", []), state.get("doubted", 0.0), state.get("odd", 0))


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """The total variation distance of two distributions given as counts: 0 the same, 1 nothing in common."""
    if not sum(one) or not sum(other):
        return 0.0
    return sum(abs(a / sum(one) - b / sum(other)) for a, b in zip(one, other, strict=True)) / 2
