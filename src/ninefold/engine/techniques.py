"""The technique runner: what the analytics find goes back into the journal, in one transaction with their state and their position.

A technique that fails is set aside by itself (`aside`); the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from ninefold.engine.aside import Asides
from ninefold.engine.local import Follower, Normalise, in_quarantine
from ninefold.engine.snapshots import Snapshots, Unkept, empty
from ninefold.ground.errors import NotFound
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.model.signal import Batch
from ninefold.plugin import Journal, Technique

Answer = TypeVar("Answer")

_log = get("engine")
_TRIES, _AFRESH_AFTER = 3, 4
"""How often a technique tries a batch, and after how many batches in a row on which it failed it starts afresh."""


class TechniqueRunner(Follower):
    """Feeds every technique and commits position, state and findings in one transaction: nothing is found twice or not at all.

    A state so large that it is kept in parts is written less often than findings come. Those are then committed alone, with how far
    they go; after a crash what lies before is processed once more for the state's sake, and its findings, being the same, are dropped.

    A technique that fails on a batch is taken back to where it stood before, from its committed state and the journal, and tries again;
    when it cannot do it, it goes on without that batch, which is put into quarantine, and is set aside if that happens again.

    `watermark` is the latest event time seen (ns), never ahead of the time of receipt. A technique that starts afresh is told the
    `settings` in force first: they may have been made long before anything that is still in the journal.
    """

    def __init__(
        self,
        journal: Journal,
        techniques: Sequence[Technique],
        normalise: Normalise,
        meter: Meter,
        commit_s: float = 5.0,
        settings: Callable[[], Sequence[Batch]] = tuple,
    ) -> None:
        super().__init__("techniques", journal, meter)
        self._settings = settings
        self.techniques, self._normalise, self._commit_s = list(techniques), normalise, commit_s
        self.watermark = 0
        self._snapshots = Snapshots(journal, self.name)
        self._told_by = f"{self.name}.told"
        self._told = 0
        """Findings of batches up to this position are in the journal."""
        self._outputs: list[Batch] = []
        self._asides = Asides(meter)
        self._missed: set[tuple[str, int, int]] = set()
        """What techniques went on without since the last commit: technique, position, place within what it was normalised to."""
        self._busy = threading.Lock()
        self._dirty_since = self._told_at = 0.0
        self._found = meter.counter("ninefold_techniques_sent_total", "Rows put out, by technique.")
        self._cpu = meter.counter("ninefold_techniques_cpu_seconds_total", "CPU time, by technique.")

    def begin(self) -> int:
        """Restore every technique from the state committed with the position."""
        with self._busy:
            self._tell_settings(self._snapshots.restore(self.techniques))
        self._missed.clear()
        self._told = self.journal.position(self._told_by)
        self._outputs, self._dirty_since = [], 0.0
        return self.journal.position(self.name)

    def ask(self, name: str, question: Callable[[Any], Answer]) -> Answer:
        """What a technique knows right now, between two batches; `question` looks and changes nothing.

        Args:
            name: the technique's.
            question: called with the technique; what it returns must not be a view of the technique's own arrays.

        Raises:
            NotFound: there is no such technique.
        """
        technique = next((one for one in self.techniques if one.name == name), None)
        if technique is None:
            raise NotFound(f"there is no technique {name!r}; there are {', '.join(one.name for one in self.techniques)}")
        with self._busy:
            return question(technique)

    def notices(self) -> dict[str, str]:
        """Which techniques fail, and on what: component -> what an administrator must know."""
        return self._asides.notices()

    def handle(self, batches: list[Batch]) -> None:
        """Process in order; commit when findings wait or the state has been dirty for long enough."""
        for batch in batches:
            for number, normal in enumerate(self._normalise(batch)):
                self._watch(normal)
                for technique in self.techniques:
                    if normal.signal in technique.signals:
                        self._process(technique, normal, (batch.position, number))
            self.position = batch.position
        self._dirty_since = self._dirty_since or time.monotonic()
        now_s = time.monotonic()
        if now_s - self._dirty_since > self._commit_s:
            self.settle()
        elif self._outputs and now_s - max(self._dirty_since, self._told_at) > 0.2:
            self._tell()

    def idle(self) -> None:
        """Nothing to read: let findings go at once, and the state when it has been dirty for a second, a large one for longer."""
        dirty_s = time.monotonic() - self._dirty_since if self._dirty_since else 0.0
        if self._dirty_since and (self._stop.is_set() or dirty_s > (self._commit_s if self._snapshots.parts else 1.0)):
            self.settle()
        elif self._outputs:
            self._tell()

    def settle(self) -> None:
        """State, position and findings in one transaction."""
        started = time.monotonic()
        state = self._written()
        self.journal.commit(self.name, self.position, state, self._outputs).result()
        self._snapshots.written()
        self._missed.clear()
        self._outputs, self._dirty_since = [], 0.0
        # A large state is written less often, so that snapshots stay below a twentieth of the time.
        self._commit_s = max(5.0, 20 * (time.monotonic() - started))

    def _tell(self) -> None:
        """Findings in one transaction with how far they go; a small state goes with them."""
        if not self._snapshots.parts:
            self.settle()
            return
        self.journal.commit(self._told_by, self.position, None, self._outputs).result()
        self._outputs, self._told, self._told_at = [], self.position, time.monotonic()

    def _written(self) -> bytes:
        """The state to commit; a technique that cannot say its own starts afresh and is not part of it."""
        kept = list(self.techniques)
        while True:
            try:
                return self._snapshots.write(kept)
            except Unkept as failure:
                _log.error("%s and learns afresh", failure, exc_info=failure.__cause__)
                kept.remove(failure.technique)
                with self._busy:
                    empty(failure.technique)
                    self._tell_settings([failure.technique])

    def _process(self, technique: Technique, batch: Batch, place: tuple[int, int]) -> None:
        if self._asides.waits(technique.name, batch):
            self._missed.add((technique.name, *place))
            return
        started = time.thread_time()
        found = self._tried(technique, batch, place)
        self._cpu.add(time.thread_time() - started, technique=technique.name)
        if place[0] <= self._told:
            return
        for output in found:
            self._found.add(output.rows.num_rows, technique=technique.name, signal=output.signal)
        self._outputs += found

    def _tried(self, technique: Technique, batch: Batch, place: tuple[int, int]) -> list[Batch]:
        failure = Exception()
        for _ in range(_TRIES):
            try:
                with self._busy:
                    found = technique.process(batch)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one technique, the others must go on
                failure = error
                self._roll_back(technique, place)
            else:
                return found + self._asides.worked(technique.name, batch)
        self._missed.add((technique.name, *place))
        often, told = self._asides.failed(technique.name, batch, failure)
        if often == _AFRESH_AFTER:
            with self._busy:
                empty(technique)
                self._tell_settings([technique])
        reason = f"{technique.name} failed on it: {failure}"
        return [*told, in_quarantine(batch, self.name, reason)]

    def _roll_back(self, technique: Technique, place: tuple[int, int]) -> None:
        """Take a technique back to what it was before it got what lies at a place; what it does on the way has been told already."""
        with self._busy:
            for _ in range(_TRIES):
                try:
                    self._replay(technique, place)
                    return
                except _FailedAgain as again:
                    _log.warning("the technique %s failed on what it had processed before: %s", technique.name, again.__cause__)
            _log.error("the technique %s learns afresh: it does not come back to where it stood", technique.name)
            empty(technique)
            self._tell_settings([technique])

    def _replay(self, technique: Technique, place: tuple[int, int]) -> None:
        at = self.journal.position(self.name)
        self._tell_settings(self._snapshots.restore([technique]))
        while at < place[0] and (more := self.journal.read(at)):
            for batch in more:
                for number, normal in enumerate(self._normalise(batch) if batch.position <= place[0] else ()):
                    here = (batch.position, number)
                    if here < place and normal.signal in technique.signals and (technique.name, *here) not in self._missed:
                        _again(technique, normal)
            at = more[-1].position

    def _tell_settings(self, afresh: Sequence[Technique]) -> None:
        """Tell techniques that start afresh what people have set."""
        for batch in self._settings() if afresh else ():
            for technique in afresh:
                if batch.signal in technique.signals:
                    try:
                        technique.process(batch)
                    except Exception as error:  # noqa: BLE001 - whatever is wrong with one technique, the others must go on
                        _log.error("the technique %s failed on a setting; set it again", technique.name, exc_info=error)

    def _watch(self, batch: Batch) -> None:
        if "time" in batch.rows.schema.names and batch.signal != "relation" and batch.rows.num_rows:
            latest = pc.max(batch.rows.column("time").cast(pa.int64())).as_py()
            self.watermark = max(self.watermark, min(latest, batch.received))


class _FailedAgain(Exception):
    """A technique failed on what it had processed before."""


def _again(technique: Technique, batch: Batch) -> None:
    try:
        technique.process(batch)
    except Exception as error:  # whatever it is: it is the technique that failed, not the journal
        raise _FailedAgain from error
