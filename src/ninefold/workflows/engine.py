"""The workflow engine: follows changes, starts runs, drives them, and survives a kill at any moment.

Runs live in the records database because a run is an operational record: it begins in the same transaction as the reader's position
and the reason for it. Nothing is kept in memory that the book does not have.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from sqlalchemy.exc import SQLAlchemyError

from ninefold.config import WorkflowsConfig
from ninefold.ground.errors import ConfigError, Conflict, NinefoldError, NotFound
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.plugin import Connector, Emit
from ninefold.store.records.base import Records
from ninefold.workflows.approvals import Decision, cancel, decide, expire
from ninefold.workflows.binding import faults
from ninefold.workflows.book import LEASE_S, Book, Lease
from ninefold.workflows.dispatch import Dispatcher
from ninefold.workflows.execution import Execution
from ninefold.workflows.language import Workflow
from ninefold.workflows.mask import Mask, secrets_of
from ninefold.workflows.tickets import TicketChanges

_log = get("workflows")
_POLL_S = 0.25
_EXPIRE_EVERY_S = 1.0
_RECONCILE_EVERY_S = 60.0
_KEEP_EVERY_S = 5.0
_DRAIN_S = 10.0
"""How long steps under way may take to end when the program stops."""


class Workflows:
    """All workflows of one program.

    `start`, `decide`, `cancel` and `stop` block and may be called from any thread; `wake` too, and it does not block.

    Args:
        records: the database.
        connectors: the configured connectors by name.
        workflows: read by `language.load_folder`.
        config: the global stop and the number of runs at the same time.
        meter: gets the engine's figures.

    Raises:
        ConfigError: a workflow was not read from YAML.
    """

    def __init__(
        self,
        records: Records,
        connectors: Mapping[str, Connector],
        workflows: Sequence[Workflow],
        config: WorkflowsConfig,
        meter: Meter,
    ) -> None:
        for workflow in workflows:
            if not workflow.source:
                raise ConfigError(f"the workflow {workflow.name} has no text; make workflows with language.parse or load_folder")
        self.workflows = {workflow.name: workflow for workflow in workflows}
        self.connectors = dict(connectors)
        self.problems = {w.name: "; ".join(found) for w in workflows if (found := list(faults(w, connectors)))}
        """Workflow -> why it cannot run; such a workflow starts nothing, and says so for each change."""
        self._records, self._config, self._meter = records, config, meter
        self._book = Book(records, Mask(secrets_of(connectors)))
        self._dispatcher = Dispatcher(records, workflows, self.problems, config.enabled, meter)
        self._concurrency = {workflow.name: workflow.limits.concurrency for workflow in workflows}
        self._tasks: dict[Lease, asyncio.Task[None]] = {}
        self._halt = asyncio.Event()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lag = meter.histogram("ninefold_workflows_lag_seconds", "From a change to the start of its run.")
        self._depth = meter.gauge("ninefold_workflows_queue_depth", "Runs under way in this process.")

    async def run(self) -> None:
        """Drive everything until cancelled; then let steps under way end, for at most ten seconds."""
        for name, problem in self.problems.items():
            _log.warning("workflow %s cannot run: %s", name, problem)
        self._loop = asyncio.get_running_loop()
        self._halt.clear()
        await asyncio.to_thread(self._dispatcher.open)
        try:
            await self._drive()
        finally:
            self._loop = None
            await self._drain()

    async def poll_changes(self, emit: Emit) -> None:
        """Bring in what people do to tickets, until cancelled; each change is an event of its incident."""
        await TicketChanges(self._records, self.connectors, self._meter).run(emit)

    def wake(self) -> None:
        """Look for changes now rather than within a quarter of a second."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed in between
                loop.call_soon_threadsafe(self._woken.set)

    def start(self, name: str, incident: int | None, actor: str) -> int:
        """Start a workflow by hand; returns the run's id.

        Raises:
            NotFound: there is no such workflow or incident.
            Refused: it is switched off, only observes, cannot work, or everything is stopped.
        """
        run = self._dispatcher.start(name, incident, actor)
        self.wake()
        return run

    def decide(self, approval: int, decision: Decision, actor: str, role: str, note: str = "") -> None:
        """Answer an approval: approve, reject, or (a step whose outcome is unknown) skip.

        Raises:
            NotFound: there is no such approval.
            Refused: the role is not enough, or the question cannot be answered so.
            Conflict: it was answered already, or has expired.
        """
        decide(self._records, approval, decision, actor, role, note)
        self.wake()

    def cancel(self, run: int, actor: str) -> None:
        """End a run; an action already sent is not called back.

        Raises:
            NotFound: there is no such run.
            Conflict: it is over.
        """
        cancel(self._records, run, actor)
        loop = self._loop
        for task in [task for lease, task in list(self._tasks.items()) if lease.run == run]:
            if loop is not None:  # else the worker that has it notices when it next renews its leases
                loop.call_soon_threadsafe(task.cancel)

    def stop(self, reason: str, actor: str) -> None:
        """The global stop: nothing starts and no further step begins; "" lifts it. It outlives a restart."""
        self._dispatcher.stop(reason, actor)
        self.wake()

    def stopped(self) -> str:
        """Why everything is stopped, "" when it is not."""
        with self._records.reading() as session:
            return self._dispatcher.stopped(session)

    def workflow(self, name: str) -> Workflow:
        """A workflow by name.

        Raises:
            NotFound: there is none.
        """
        if name not in self.workflows:
            raise NotFound(f"there is no workflow {name!r}")
        return self.workflows[name]

    async def _drive(self) -> None:
        due = {self._reconcile: 0.0, self._expire: 0.0, self._renew: time.monotonic() + LEASE_S / 3, self._keep: 0.0}
        every_s: dict[Callable[[], object], float] = {
            self._reconcile: _RECONCILE_EVERY_S, self._expire: _EXPIRE_EVERY_S, self._renew: LEASE_S / 3, self._keep: _KEEP_EVERY_S,
        }  # fmt: skip
        while True:
            self._woken.clear()
            for work, when in due.items():
                if time.monotonic() >= when:
                    await work()
                    due[work] = time.monotonic() + every_s[work]
            stopped, leases = await asyncio.to_thread(self._look, frozenset(lease.run for lease in self._tasks))
            if stopped:
                self._halt.set()
            else:
                self._halt.clear()
            for lease, lag_s in leases:
                self._lag.observe(lag_s)
                self._tasks[lease] = asyncio.create_task(self._execute(lease), name=f"run {lease.run}")
            self._depth.set(len(self._tasks))
            # asyncio.wait_for of Python 3.11 can swallow a cancellation that comes together with the event
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._woken.wait()

    def _look(self, busy: frozenset[int]) -> tuple[bool, list[tuple[Lease, float]]]:
        """Decide about new changes and take runs that may go on, but for those under work; (everything is stopped, leases with the
        lag of their runs)."""
        self._dispatcher.follow()
        if self.stopped():
            return True, []
        room = self._config.max_runs - len(busy)
        try:
            return False, self._book.claim(room, self._concurrency, busy) if room > 0 else []
        except Conflict:
            return False, []  # another process was faster; the next round sees what is left

    async def _execute(self, lease: Lease) -> None:
        run = lease.run
        try:
            await Execution(lease, self._book, self.connectors, self._halt, self._meter).go()
        except SQLAlchemyError as error:
            _log.error("run %d was interrupted by the records database and goes on when its lease ends: %s", run, error)
        except Exception as error:  # noqa: BLE001 - a defect of the engine ends this run, visibly, and no other
            _log.error("run %d failed inside the engine", run, exc_info=error)
            await asyncio.to_thread(self._book.finish, lease, "failed", f"the engine failed: {type(error).__name__}: {error}")
        finally:
            del self._tasks[lease]
            self._woken.set()

    async def _reconcile(self) -> None:
        await asyncio.to_thread(self._dispatcher.reconcile)

    async def _keep(self) -> None:
        await asyncio.to_thread(self._dispatcher.keep)

    async def _expire(self) -> None:
        await asyncio.to_thread(expire, self._records)

    async def _renew(self) -> None:
        """Prolong the leases of runs under way, and let go of those that are no longer ours (cancelled, or taken over)."""
        if not self._tasks:
            return
        tasks = dict(self._tasks)
        held = await asyncio.to_thread(self._book.renew, tasks)
        for lease, task in tasks.items():
            if lease not in held:
                task.cancel()

    async def _drain(self) -> None:
        self._halt.set()
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with contextlib.suppress(NinefoldError):  # without it the next start reads a few changes again, no more
            await self._keep()
