"""Asking at intervals: what every source that polls shares.

A poller asks page by page until there is nothing more and hands each page to the journal with the position behind it; both are kept in one
transaction, so that after a crash no page is missing and none comes twice. Between rounds it waits `every_s`, a little more or less, so
that many pollers do not ask at the same moment. When the other side cannot be reached, or refuses, it waits twice as long each time, at
most `longest_wait_s` (or as long as the other side asks for), and goes on where it stopped: what was missed is caught up with.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from pydantic import Field

from ninefold.ground.errors import NinefoldError, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.model.signal import Batch
from ninefold.plugin import Emit, Extraction, Reached, Source, Strict
from ninefold.sources.delivery import deliver, heed_cancel

_log = get("polling")
_SHOWN = 5
_PATIENCE = 10


class PollConfig(Strict):
    """How often to ask; part of every poller's settings."""

    every_s: float = Field(60.0, gt=0, le=86400, description="Seconds between two rounds.")
    jitter: float = Field(0.1, ge=0, le=0.5, description="By what part of it the interval varies.")
    longest_wait_s: float = Field(300.0, gt=0, description="Longest wait after failures.")
    timeout_s: float = Field(30.0, gt=0, le=3600, description="Longest time for one question.")


class Page(NamedTuple):
    """What one question gave: batches, the position behind them, and whether there is more to ask for at once."""

    batches: Sequence[Batch]
    position: dict[str, Any]
    more: bool = False


def count_bytes(source: Source, batches: Sequence[Batch]) -> None:
    """Count what a source that is asked has given: its decoded records, since not every client shows what came over the wire."""
    size = sum(batch.rows.nbytes for batch in batches)
    told = "Bytes that polled and scraped sources gave, as decoded columns (not as they came over the wire)."
    source.lent.meter.counter("ninefold_source_bytes_total", told).add(size, source=source.name)


class Poller(Source):
    """A source that asks. Subclasses write `page`, and `forget` if they describe series."""

    extraction: ClassVar[Extraction] = "poll"
    patience: ClassVar[int] = _PATIENCE
    """How many times `timeout_s` a page may take in all: what holds when the other side answers a byte now and then."""

    async def page(self, position: dict[str, Any]) -> Page:
        """Ask once, from this position on (``{}`` the first time).

        Raises:
            Unavailable: the other side is not there, or asks us to wait.
            Refused: it does not let us; asked again later all the same, people change permissions.
        """
        raise NotImplementedError

    def forget(self, batches: Sequence[Batch]) -> None:
        """Told which batches were not kept."""

    async def close(self) -> None:
        """Let go of connections."""

    async def run(self, emit: Emit) -> None:
        """Ask, deliver and keep the position, until cancelled."""
        position = await asyncio.to_thread(self.lent.load)
        failures = 0
        try:
            while True:
                heed_cancel()
                self.lent.meter.counter("ninefold_source_requests_total", "Questions asked of polled sources.").add(source=self.name)
                try:
                    found = await self._page(position)
                except (Unavailable, Refused, OSError) as error:
                    failures += 1
                    await asyncio.sleep(self._after(error, failures))
                    continue
                failures = 0
                count_bytes(self, found.batches)
                await self._take(emit, found, position)
                position = found.position
                if not found.more:
                    await asyncio.sleep(self.config.every_s * random.uniform(1 - self.config.jitter, 1 + self.config.jitter))  # noqa: S311 - no secret
        finally:
            await self.close()

    async def check(self) -> Reached:
        """Ask once and show a few records; the position stays where it is."""
        try:
            found = await self._page(await asyncio.to_thread(self.lent.load))
        finally:
            await self.close()
        self.forget(found.batches)
        count = sum(batch.rows.num_rows for batch in found.batches if batch.signal != "series")
        shown = [Batch(batch.signal, batch.source, batch.received, batch.rows.slice(0, _SHOWN)) for batch in found.batches]
        return Reached(f"{self.title} answered with {count} records{' and has more' if found.more else ''}.", shown)

    async def _page(self, position: dict[str, Any]) -> Page:
        longest = self.patience * float(self.config.timeout_s)
        try:
            async with asyncio.timeout(longest):
                return await self.page(position)
        except TimeoutError as error:
            raise Unavailable(f"{self.title} did not finish its answer within {longest:g} s") from error

    async def _take(self, emit: Emit, found: Page, before: dict[str, Any]) -> None:
        try:
            await deliver(emit, found.batches, keep=found.position if found.position != before else None)
        except BaseException:
            self.forget(found.batches)
            raise

    def _after(self, error: Exception, failures: int) -> float:
        """How long to wait after so many failures in a row."""
        every, longest = float(self.config.every_s), float(self.config.longest_wait_s)
        wait = min(every * 2 ** min(failures - 1, 16), max(longest, every))
        if isinstance(error, Unavailable):
            wait = max(wait, min(error.retry_after_s, longest))
        level = _log.warning if failures == 1 or failures % 10 == 0 else _log.debug
        level("%s: %s; asked again in %.0f s", self.name, error if isinstance(error, NinefoldError) else repr(error), wait)
        return float(wait) * random.uniform(1 - float(self.config.jitter), 1)  # noqa: S311 - spreads load, no secret
