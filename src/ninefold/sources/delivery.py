"""Handing batches to the journal and waiting while it is full: what every subscription and poller does before it acknowledges."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from ninefold.ground.errors import Unavailable
from ninefold.model.signal import Batch
from ninefold.plugin import Emit

LONGEST_WAIT_S = 5.0


async def deliver(
    emit: Emit,
    batches: Sequence[Batch],
    meanwhile: Callable[[], Awaitable[None]] | None = None,
    keep: Mapping[str, Any] | None = None,
) -> None:
    """Return once the batches are durable. While the journal is full they are offered again and again.

    Args:
        emit: hands batches to the journal.
        batches: what to hand over; nothing is done when there are none.
        meanwhile: called before each wait, to tell a broker that its messages are still being worked on.
        keep: the source's position behind them, kept in the same transaction; None where somebody else knows how far it came.
    """
    while batches or keep is not None:
        try:
            return await (emit(batches) if keep is None else emit(batches, keep))
        except Unavailable as error:
            if meanwhile is not None:
                await meanwhile()
            await asyncio.sleep(min(error.retry_after_s, LONGEST_WAIT_S))


def heed_cancel() -> None:
    """Raise the cancellation that a library has swallowed: before Python 3.12, `asyncio.wait_for` loses one that comes as it ends."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
