"""The room of on-call: follows incidents, takes escalation steps, sends pages, keeps calendars fresh."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import select

from ninefold.config import OnCallConfig
from ninefold.ground.clock import now
from ninefold.ground.errors import NinefoldError
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.oncall.escalation import Escalations
from ninefold.oncall.fetching import Fetching
from ninefold.oncall.paging import Job, Paging
from ninefold.plugin import Connector
from ninefold.store.records.base import Records
from ninefold.store.records.incidents import OPEN, Incident, incident_key
from ninefold.store.records.oncall import RUNNING, Escalation

_log = get("oncall")
_POLL_S = 0.5
_KEEP_EVERY_S = 5.0
_DRAIN_S = 10.0


class OnCall:
    """Pages people about incidents. `wake` may be called from any thread.

    Args:
        records: the database.
        connectors: by name.
        config: who is told when nobody can be paged, where calendars may be, the console's address.
        mask: takes secrets out of texts.
        meter: gets the room's figures.
        clock: the time in ns.

    Attributes:
        paging: sends test pages, and pages once more.
        fetching: reads calendars by URL.
        notice: what an administrator must know, "" when there is nothing.
    """

    def __init__(
        self,
        records: Records,
        connectors: Mapping[str, Connector],
        config: OnCallConfig,
        mask: Callable[[Any], Any],
        meter: Meter,
        clock: Callable[[], int] = now,
    ) -> None:
        fallback = [
            name for name, found in connectors.items() if found.kind == "notify" and (not config.fallback or name in config.fallback)
        ]
        self._records, self._clock = records, clock
        self._escalations = Escalations(records, fallback, clock)
        self.paging = Paging(records, connectors, self._escalations, mask, config.console_url, meter, clock)
        self.fetching = Fetching(records, config, clock)
        self.notice = ""
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> None:
        """Page until cancelled; pages on their way may end, for at most ten seconds."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._escalations.open)
        keep_at = 0.0
        try:
            while True:
                self._woken.clear()
                for job in await asyncio.to_thread(self.turn):
                    task = asyncio.create_task(self.paging.send(job), name=f"page {job.page}")
                    self._tasks.add(task)
                    task.add_done_callback(self._sent)
                if self._loop.time() >= keep_at:
                    await asyncio.to_thread(self._keep)
                    keep_at = self._loop.time() + _KEEP_EVERY_S
                # asyncio.wait_for of Python 3.11 can swallow a cancellation that comes together with the event
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._woken.wait()
        finally:
            self._loop = None
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_DRAIN_S)
            with contextlib.suppress(NinefoldError):  # without it the next start reads a few changes again, no more
                await asyncio.to_thread(self._escalations.keep)

    def open(self) -> None:
        """Begin where the last run ended; `run` does it by itself."""
        self._escalations.open()

    def turn(self) -> list[Job]:
        """Follow the incidents, take the steps that are due, and mark the pages to send. Blocks."""
        while self._escalations.follow():
            pass
        self._escalations.advance()
        self.paging.lapsed()
        return self.paging.claim()

    def wake(self) -> None:
        """Look for changes now rather than within half a second."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has been closed in between
                loop.call_soon_threadsafe(self._woken.set)

    def _keep(self) -> None:
        self._escalations.keep()
        unanswered = self.unanswered()
        self.notice = f"nobody acknowledges {', '.join(unanswered)}, and everybody was paged" if unanswered else ""

    def unanswered(self) -> list[str]:
        """Open incidents whose escalation ended without anybody's answer."""
        later = select(Escalation.incident).where(Escalation.status == RUNNING)
        with self._records.reading() as session:
            wanted = select(Escalation.incident).join(Incident, Incident.id == Escalation.incident)
            open_ = wanted.where(Escalation.status == "unanswered", Incident.status == OPEN, Incident.id.not_in(later))
            return [incident_key(number) for number in session.scalars(open_.distinct().order_by(Escalation.incident))]

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # What could not be written down stays marked, and is looked at when its lease is over.
            _log.error("what became of %s could not be written down", task.get_name(), exc_info=task.exception())
        self._woken.set()
