"""The local engine: threads that follow the journal, each from its own committed position.

Three followers exist. `StoreWriter` fills the telemetry store in large inserts; `techniques.TechniqueRunner` feeds the analytics and
puts what they find back into the journal; `EventFollower` hands events and relations to a consumer that keeps its own
position. A follower that fails waits and tries again from where it stood; it never takes a neighbour down. A batch that makes it
fail again and again, all alone, is put into quarantine with the reason, so that one poisoned batch cannot hold up the rest.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ninefold.ground.errors import NinefoldError, Unavailable
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.model.signal import Batch, quarantine, to_ipc
from ninefold.plugin import Journal, Store

Normalise = Callable[[Batch], list[Batch]]

_log = get("engine")
_POLL_S = 0.5
_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_ALONE_AFTER = 3
_QUARANTINE_AFTER = 6
_FOLDED = ("raw", "event", "relation", "series", "quarantine")
"""Signals of which the store keeps one row however often it comes."""


class Follower:
    """A thread that reads the journal batch by batch; subclasses say what to do with what was read.

    Args:
        name: the reader's name in the journal and in the figures.
        journal: what is followed.
        meter: where lag and errors go.
        signals: only these signals are read; all when empty.
    """

    def __init__(self, name: str, journal: Journal, meter: Meter, signals: Sequence[str] = ()) -> None:
        self.name, self.journal, self.signals = name, journal, tuple(signals)
        self.position = 0
        self.problem = ""
        self._stop = threading.Event()
        self._failures = 0
        self._alone_to = 0
        """Up to this position batches are handled one by one, because a read that reached it failed again and again."""
        self._lag = meter.gauge(f"ninefold_{name}_lag_batches", "Batches between this reader and the journal's head.")
        self._errors = meter.counter(f"ninefold_{name}_errors_total", "Failures; each was retried.")
        self._seconds = meter.histogram(f"ninefold_{name}_seconds", "Time to handle what one read returned.")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin at the committed position."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is in hand and end the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def begin(self) -> int:
        """Take over committed state; returns the position to start behind. Called at start and after a failure."""
        return self.journal.position(self.name)

    def read(self) -> list[Batch]:
        """The next batches behind the position."""
        return self.journal.read(self.position, signals=self.signals)

    def handle(self, batches: list[Batch]) -> None:
        """Deal with batches in order and commit the position."""
        raise NotImplementedError

    def idle(self) -> None:
        """Called when there is nothing to read, and at the end."""

    def settle(self) -> None:
        """Commit what is in hand now; for followers that do not commit with every `handle`."""

    def _run(self) -> None:
        fresh = False
        while not self._stop.is_set():
            try:
                if not fresh:
                    self.position, fresh = self.begin(), True
                self._turn()
            except Exception as error:  # noqa: BLE001 - a follower must outlive any fault of what it drives
                fresh = False
                self._failed(error)
        if not fresh:
            return  # what a failure left in memory must not be committed
        try:
            self.idle()
        except NinefoldError as error:
            _log.warning("%s could not commit its last work, which will be done again at the next start: %s", self.name, error)

    def _turn(self) -> None:
        head = self.journal.head()
        batches = self.read()
        if self._failures >= _ALONE_AFTER and batches:
            self._alone_to = max(self._alone_to, batches[-1].position)
        alone = self.position < self._alone_to
        if alone:
            batches = batches[:1]
        self._lag.set(float(head - (batches[-1].position if batches else head)))
        if batches:
            started = time.monotonic()
            try:
                self.handle(batches)
                if alone:
                    self.settle()
            except Unavailable:
                raise
            except Exception as error:  # whatever it is: alone and again and again, the batch is at fault
                if self._failures < _QUARANTINE_AFTER:
                    raise
                self._quarantine(batches[0], error)
            self._seconds.observe(time.monotonic() - started)
            self._failures, self.problem = 0, ""
            return
        self.position = max(self.position, head) if self.signals else self.position
        self.idle()
        self._failures, self.problem = 0, ""
        self.journal.wait(head, _POLL_S)

    def _failed(self, error: Exception) -> None:
        self._errors.add()
        self.problem = str(error) or type(error).__name__
        wait_s = _BACK_OFF_S[min(self._failures, len(_BACK_OFF_S) - 1)]
        known = isinstance(error, NinefoldError)
        _log.warning("%s failed and tries again in %s s: %s", self.name, wait_s, error, exc_info=None if known else error)
        self._failures += 1
        self._stop.wait(wait_s)

    def _quarantine(self, batch: Batch, error: Exception) -> None:
        reason = f"{self.name} failed on it {_QUARANTINE_AFTER} times: {error}"
        _log.error("batch %d (%s) is put into quarantine: %s", batch.position, batch.signal, reason)
        self.begin()  # whatever state the failure left is replaced by the committed one
        again = "batch" if batch.signal in _FOLDED else self.name  # what the store has and does not fold must not go through it again
        self.journal.commit(self.name, batch.position, None, [in_quarantine(batch, again, reason)]).result()
        self.position = batch.position


def in_quarantine(batch: Batch, format_: str, reason: str) -> Batch:
    """A whole batch as a row of quarantine; `format_` says who may get it again (`batch`: everybody)."""
    return quarantine(batch.source, batch.received, batch.signal, f"{format_}.{batch.signal}", [(reason, "", to_ipc(batch.rows))])


class StoreWriter(Follower):
    """Fills the telemetry store. What a turn will insert is committed as a plan first, so that after a crash exactly the
    same positions are inserted again under the same token, and the store ignores what it has already."""

    def __init__(
        self, journal: Journal, store: Store, normalise: Normalise, meter: Meter, gather_s: float = 0.25, size_bytes: int = 24 << 20
    ) -> None:
        super().__init__("store", journal, meter)
        self._store, self._normalise, self._gather_s, self._size = store, normalise, gather_s, size_bytes
        self._inserting = threading.Lock()
        self._sent = meter.counter("ninefold_store_sent_total", "Rows inserted into the telemetry store.")

    def begin(self) -> int:
        """The committed position, after the insert that was planned when the program ended has been done again."""
        position = self.journal.position(self.name)
        plan = self.journal.state(self.name)
        if plan:
            (planned,) = struct.unpack("<q", plan)
            last = max(planned, position)  # a plan that was carried out already is only dropped
            batches: list[Batch] = []
            while position < last and (more := self.journal.read(position)):
                batches += [batch for batch in more if batch.position <= last]
                position = min(more[-1].position, last)
            self._insert(batches, self.journal.position(self.name), last)
        return self.journal.position(self.name)

    def read(self) -> list[Batch]:
        """Batches of about a quarter of a second or 24 MB, whichever comes first: the store likes few, large inserts."""
        deadline = time.monotonic() + self._gather_s
        batches = self.journal.read(self.position, limit=4096, size_bytes=self._size)
        size = sum(batch.rows.nbytes for batch in batches)
        while batches and size < self._size and (left := deadline - time.monotonic()) > 0 and not self._stop.is_set():
            if not self.journal.wait(batches[-1].position, left):
                break
            more = self.journal.read(batches[-1].position, limit=4096, size_bytes=self._size - size)
            batches += more
            size += sum(batch.rows.nbytes for batch in more)
        return batches

    def handle(self, batches: list[Batch]) -> None:
        """Plan, insert, commit."""
        last = batches[-1].position
        with self._inserting:
            self.journal.commit(self.name, self.position, struct.pack("<q", last)).result()
            self._insert(batches, self.position, last)

    @contextmanager
    def resting(self) -> Iterator[None]:
        """While this holds nothing is inserted, and the store has exactly what lies before the committed position.

        Raises:
            Unavailable: an insert that failed is still to be done again.
        """
        with self._inserting:
            if self.journal.state(self.name):
                raise Unavailable("the store has not taken the last insert yet; try again when it is well", retry_after_s=30)
            yield

    def _insert(self, batches: list[Batch], first: int, last: int) -> None:
        token = f"{self.journal.id}-{first}-{last}"
        bad: list[Batch] = []
        try:
            self._append(batches, token)
        except Unavailable:
            raise
        except Exception:  # whatever it is: when it comes again and again, the batch at fault must be found
            if self._failures < _ALONE_AFTER:
                raise
            bad = [refused for batch in batches if (refused := self._alone(batch, token))]
        self.journal.commit(self.name, last, b"", bad).result()
        self.position = last

    def _append(self, batches: list[Batch], token: str) -> None:
        ready = [normal for batch in batches for normal in self._normalise(batch)]
        if ready:
            self._sent.add(self._store.append(ready, token=token))

    def _alone(self, batch: Batch, token: str) -> Batch | None:
        """Insert one batch of a plan that failed as a whole; when it is the one at fault, what goes into quarantine instead."""
        try:
            self._append([batch], f"{token}.{batch.position}")
        except Unavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it must not stop what lies behind it
            reason = f"the store refuses it: {error}"
            _log.error("batch %d (%s) is put into quarantine: %s", batch.position, batch.signal, reason)
            return in_quarantine(batch, "batch", reason)
        return None


class EventFollower(Follower):
    """Hands normalised events and relations to a consumer that commits its own position with what it writes.

    Args:
        consume: called with batches and the position they reach; must be idempotent by position.
        start: the consumer's own position.
        quiet: called with nothing to do; may look at the watermark.
    """

    def __init__(
        self,
        journal: Journal,
        normalise: Normalise,
        consume: Callable[[list[Batch], int], None],
        start: Callable[[], int],
        quiet: Callable[[], None],
        meter: Meter,
    ) -> None:
        super().__init__("incidents", journal, meter, signals=("raw", "event", "relation"))
        self._normalise, self._consume, self._start, self._quiet = normalise, consume, start, quiet
        self._committed = 0

    def begin(self) -> int:
        """The consumer's position; what the journal knows of it may be older."""
        return max(self._start(), self.journal.position(self.name))

    def read(self) -> list[Batch]:
        """Up to 256 batches of events and relations."""
        return self.journal.read(self.position, limit=256, signals=self.signals, size_bytes=8 << 20)

    def handle(self, batches: list[Batch]) -> None:
        """Normalise, consume, tell the journal."""
        normal = [n for batch in batches for n in self._normalise(batch) if n.signal in ("event", "relation")]
        self._consume(normal, batches[-1].position)
        self.position = batches[-1].position
        self._tell()
        self._quiet()

    def idle(self) -> None:
        """Let the journal forget what other signals brought, and let the consumer look at the time."""
        self._tell()
        self._quiet()

    def _tell(self) -> None:
        if self.position > self._committed:
            self.journal.commit(self.name, self.position).result()
            self._committed = self.position
