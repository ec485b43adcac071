"""What state an alert is in, from what its sender says of it and when: pending, firing, resolved, expired.

Pure: no records, no clock. Between what a sender says and what counts lie three filters, in this order: it must have held (`for`,
samples), its end must have lasted (`keep_firing_for`), and it must not go to and fro (flapping; ANSI/ISA-18.2 calls an alarm that does
so chattering, and asks that it is told once). A `Course` is the three of them for tellings in order of event time. A `Condition` keeps the
tellings of the last minutes and folds them again when one comes late, so the same tellings give the same state in whatever order
they came. Deadlines fall when the clock of receipt has reached them.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from ninefold.analytics.alerts.correlate import EXPIRE_NS, LATE_NS
from ninefold.ground.clock import SECOND
from ninefold.store.records.incidents import EXPIRED, FIRING, PENDING, RESOLVED

KEPT = 64
"""How many tellings are kept to be folded again at most."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the rules that fit an alert ask of it; times in ns, 0 where nothing is asked."""

    hold: int = 0
    keep: int = 0
    samples: int = 1
    samples_within: int = 0
    flapping: int = 0
    flapping_within: int = 0
    expire: int = 0
    by: str = ""
    """The names of the rules."""

    @property
    def waits(self) -> bool:
        """Whether an alert is pending first."""
        return self.hold > 0 or self.samples > 1

    def asks(self) -> str:
        """What an alert must do to count."""
        texts = [f"when it has held for {_s(self.hold)}"] if self.hold else []
        within = f" within {_s(self.samples_within)}" if self.samples_within else ""
        texts += [f"when it was told {self.samples} times{within}"] if self.samples > 1 else []
        return f"{' and '.join(texts) or 'at once'}, says {self.by or 'no rule'}"


class Telling(NamedTuple):
    """One time an alert was told of, ordered as tellings count: by time, a beginning before an end.

    `again` is an event told before; its time is when it was received. `heard` is that of any, and never decides the order alone.
    """

    time: int
    ends: bool
    event: str
    again: bool
    heard: int


class Turn(NamedTuple):
    """A change of the state, or of the reason for it; `event` is "" when a deadline fell."""

    time: int
    state: str
    event: str
    text: str


@dataclass(slots=True)
class Course:
    """What tellings in order of time come to; times in ns."""

    state: str = ""
    since: int = 0
    fires: bool = False
    """What its sender said last."""
    heard: int = 0
    began: int = 0
    ready: int = 0
    """When it had enough samples."""
    samples: list[int] = field(default_factory=list)
    keep_until: int = 0
    turns: list[int] = field(default_factory=list)
    calm_at: int = 0
    """Not 0: it is flapping, until then if it does not change again."""

    def copy(self) -> Course:
        """Another one that is as far."""
        return replace(self, samples=list(self.samples), turns=list(self.turns))

    def take(self, telling: Telling, limits: Limits, patience: int, turns: list[Turn]) -> bool:
        """Take in a telling; says whether it tells of a state that goes on, and so counts as it is."""
        self.until(telling.time, limits, patience, turns)
        if telling.again and not self.fires and self.state != EXPIRED:
            return False  # the beginning delivered once more, after the end
        self.heard = max(self.heard, telling.heard)
        counts = self._ends(telling, limits, turns) if telling.ends else self._fires(telling, limits, turns)
        self.until(telling.time, limits, patience, turns, telling.event)
        return counts

    def until(self, at: int, limits: Limits, patience: int, turns: list[Turn], event: str = "") -> None:
        """Let the deadlines up to `at` fall; `event` is what brought them."""
        while True:
            time, what = min(self.deadlines(limits, patience), default=(at + 1, ""))
            if time > at:
                return
            getattr(self, f"_{what}")(time, limits, turns, event)

    def deadlines(self, limits: Limits, patience: int) -> Iterator[tuple[int, str]]:
        """When the state may change by itself, and what falls then."""
        if self.state == PENDING and self.ready:
            yield max(self.began + limits.hold, self.ready), "count"
        if self.keep_until:
            yield self.keep_until, "keep"
        if self.calm_at:
            yield self.calm_at, "calm"
        if self.fires:
            yield self.heard + patience, "expire"

    def _fires(self, telling: Telling, limits: Limits, turns: list[Turn]) -> bool:
        before, self.fires = self.fires, True
        if self.state == FIRING:
            if self.calm_at and not before:
                self.calm_at = telling.time + limits.flapping_within
            self.keep_until = 0
            return not self.calm_at
        if not limits.waits:
            self._begin(telling.time, limits, turns, telling.event, "its sender says so")
            return False
        if self.state != PENDING:
            self.began, self.ready, self.samples = telling.time, 0, []
            self._to(PENDING, telling.time, turns, telling.event, f"it counts {limits.asks()}")
        within = limits.samples_within
        self.samples = [time for time in (*self.samples, telling.time) if not within or time > telling.time - within][-limits.samples :]
        if not self.ready and len(self.samples) >= limits.samples:
            self.ready = telling.time
        return False

    def _ends(self, telling: Telling, limits: Limits, turns: list[Turn]) -> bool:
        before, self.fires = self.fires, False
        if self.state == FIRING:
            if self.calm_at:
                self.calm_at = telling.time + limits.flapping_within if before else self.calm_at
            elif limits.keep and before:
                self.keep_until = telling.time + limits.keep
            elif before:
                self._end(telling.time, limits, turns, telling.event, "its sender says that it ended")
            return False
        if self.state == RESOLVED:
            return True
        text = "its sender says that it ended"
        if self.state == PENDING:
            text = f"it ended after {_s(telling.time - self.began)}; it would have counted {limits.asks()}"
        self._to(RESOLVED, telling.time, turns, telling.event, text)
        return False

    def _begin(self, at: int, limits: Limits, turns: list[Turn], event: str, text: str) -> None:
        self._to(FIRING, at, turns, event, text)
        self._turn(at, limits, turns, event)

    def _end(self, at: int, limits: Limits, turns: list[Turn], event: str, text: str) -> None:
        self._turn(at, limits, turns, event)
        if not self.calm_at:
            self._to(RESOLVED, at, turns, event, text)

    def _turn(self, at: int, limits: Limits, turns: list[Turn], event: str) -> None:
        if not limits.flapping:
            return
        self.turns = [*(time for time in self.turns if time > at - limits.flapping_within), at][-limits.flapping - 1 :]
        if len(self.turns) > limits.flapping:
            self.calm_at = at + limits.flapping_within
            often = f"more than {limits.flapping} times within {_s(limits.flapping_within)}"
            text = f"flapping: it changed {often}; it is held until it was calm for as long, says {limits.by}"
            turns.append(Turn(at, self.state, event, text))

    def _count(self, at: int, limits: Limits, turns: list[Turn], event: str) -> None:
        self.samples = []
        self._begin(at, limits, turns, event, f"it counts now; it was to count {limits.asks()}")

    def _keep(self, at: int, limits: Limits, turns: list[Turn], event: str) -> None:
        self.keep_until = 0
        self._end(at, limits, turns, event, f"its end lasted for {_s(limits.keep)}, as {limits.by or 'no rule'} asks")

    def _calm(self, at: int, limits: Limits, turns: list[Turn], event: str) -> None:
        self.calm_at, self.turns = 0, []
        text = f"calm: it has not changed for {_s(limits.flapping_within)}"
        if self.fires:
            turns.append(Turn(at, self.state, event, text))
        else:
            self._to(RESOLVED, at, turns, event, f"{text}, and it had ended")

    def _expire(self, at: int, limits: Limits, turns: list[Turn], event: str) -> None:
        silent = _s(at - self.heard)
        self.fires, self.calm_at, self.turns, self.samples, self.keep_until = False, 0, [], [], 0
        self._to(EXPIRED, at, turns, event, f"nobody has told of it for {silent}, and nobody said that it ended")

    def _to(self, state: str, at: int, turns: list[Turn], event: str, text: str) -> None:
        self.state, self.since = state, at
        turns.append(Turn(at, state, event, text))


@dataclass(slots=True)
class Verdict:
    """What came of tellings: changes of the state that were not told before, which of the tellings count as they are, which came too
    late to be folded again."""

    turns: list[Turn]
    counts: list[Telling]
    late: list[Telling]


@dataclass(slots=True)
class Condition:
    """One alert: its course up to `floor`, and the tellings since."""

    base: Course = field(default_factory=Course)
    floor: int = 0
    tellings: list[Telling] = field(default_factory=list)
    turned: list[tuple[int, str]] = field(default_factory=list)
    """The changes among the tellings that were told."""
    at: int = 0
    """How far the clock of receipt has come for it."""
    heard: int = 0
    course: Course = field(default_factory=Course)
    """The base and the tellings together, as they were folded last."""

    @property
    def memory(self) -> dict[str, Any]:
        """What `recall` needs, as JSON."""
        base = {name: getattr(self.base, name) for name in Course.__slots__}
        tellings = list(map(list, self.tellings))
        return {
            "base": base, "floor": self.floor, "tellings": tellings, "turned": self.turned, "at": self.at, "heard": self.heard,
        }  # fmt: skip

    @classmethod
    def recall(cls, memory: dict[str, Any]) -> Condition:
        """What `memory` gave."""
        base, tellings = Course(**memory["base"]), [Telling(*each) for each in memory["tellings"]]
        turned = [(time, state) for time, state in memory["turned"]]
        return cls(base, memory["floor"], tellings, turned, memory["at"], memory["heard"])

    def due(self, limits: Limits, patience: int) -> int | None:
        """Its next deadline."""
        return min((time for time, _ in self.course.deadlines(limits, patience)), default=None)

    def tell(self, told: Sequence[Telling], at: int, limits: Limits, patience: int = EXPIRE_NS) -> Verdict:
        """Take in tellings, in any order, at the time `at` of the clock of receipt; without any, let deadlines fall."""
        late = [telling for telling in told if telling.time < self.floor]
        fresh = {telling for telling in told if telling.time >= self.floor} - set(self.tellings)
        for telling in fresh:
            insort(self.tellings, telling)
        self.at = max(self.at, at)
        self.heard = max([self.heard, *(telling.heard for telling in told)])
        verdict = self._fold(fresh, limits, patience)
        verdict.late = late
        return verdict

    def _fold(self, fresh: set[Telling], limits: Limits, patience: int) -> Verdict:
        course, turns, counts = self.base.copy(), list[Turn](), list[Telling]()
        newest = self.tellings[-1].time if self.tellings else 0
        settled = sum(telling.time < newest - LATE_NS for telling in self.tellings)
        settled, gone = max(settled, len(self.tellings) - KEPT), 0
        for number, telling in enumerate(self.tellings):
            if course.take(telling, limits, patience, turns) and telling in fresh:
                counts.append(telling)
            if number + 1 == settled:
                self.base, self.floor, gone = course.copy(), telling.time + 1, len(turns)
        course.heard = max(course.heard, self.heard)
        course.until(self.at, limits, patience, turns)
        self.course, self.tellings = course, self.tellings[settled:] if settled > 0 else self.tellings
        marks = [(turn.time, turn.state) for turn in turns]
        same = next(
            (i for i, (old, new) in enumerate(zip(self.turned, marks, strict=False)) if old != new), min(len(self.turned), len(marks))
        )
        self.turned = marks[gone:]
        return Verdict(turns[same:], counts, [])


def _s(ns: int) -> str:
    return f"{ns / SECOND:g} s"
