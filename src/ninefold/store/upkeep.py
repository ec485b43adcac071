"""What the store needs now and then: rows that are too old for their source deleted, yesterday exported."""

from __future__ import annotations

import asyncio
from pathlib import Path

from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import ConfigError
from ninefold.ground.log import get
from ninefold.store.export import DAILY, export
from ninefold.store.schema import KEPT
from ninefold.store.telemetry import Telemetry

_log = get("upkeep")
_EVERY_S = 3600.0
_DAY = 86400 * SECOND


class Upkeep:
    """Runs every hour, the first time a while after the start.

    Args:
        store: the open store.
        to: where days are exported to; None exports nothing.
        older_than_days: how old a day must be.

    Raises:
        ConfigError: days would be deleted before they are exported.
    """

    def __init__(self, store: Telemetry, to: Path | None = None, older_than_days: int = 1) -> None:
        days, what = store.retention.shortest({KEPT[signal][0] for signal in DAILY})
        if to is not None and older_than_days >= days:
            raise ConfigError(
                f"store.export.older_than_days is {older_than_days} and {what} is kept for {days} days, so it would be deleted before "
                f"it is exported; export after fewer than {days} days or keep it longer"
            )
        self._store, self._to, self._older = store, to, older_than_days

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            Unavailable: the store or the export's folder does not work now.
        """
        while True:
            await asyncio.sleep(_EVERY_S)
            await asyncio.to_thread(self.once)

    def once(self) -> None:
        """One round.

        Raises:
            Unavailable: as `run`.
        """
        if self._to is not None:  # before anything is deleted: what could not be exported must stay
            written = export(self._store, self._to, now() - (self._older - 1) * _DAY)
            _log.info("%d files with %d rows were exported to %s", len(written), sum(file.rows for file in written), self._to)
        for table in self._store.expire():
            _log.info("rows of %s that are too old for their source were deleted", table)
