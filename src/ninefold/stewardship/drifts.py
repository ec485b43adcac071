"""What happens when a source drifts: it is written down with its blast radius, others see the change, administrators hear of it.

The store is followed, so a drift is seen once it is kept; each is one record by the id of its event, however often it is read. A notice
goes out for warnings and worse through the configured `notify` connectors, at most one for a source and kind of drift within the
cool-down (one that lasts beyond it is told then); the end is told to whoever was told of the beginning.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import func, select

from ninefold.ground.clock import MINUTE, SECOND, iso, now, parse
from ninefold.ground.errors import BadData, NinefoldError
from ninefold.ground.log import get
from ninefold.plugin import Connector, Store
from ninefold.stewardship.radius import Radius, sentence
from ninefold.store.records.base import Outbox, Records, Setting
from ninefold.store.records.sources import SourceDrift

_log = get("stewardship")
_EVERY_S = 5.0
_OVERLAP = 10 * MINUTE
_POSITION = "stewardship:drifts"
_NEW = """
SELECT id, toUnixTimestamp64Nano(e.time) AS time, toUnixTimestamp64Nano(e.received) AS received, source_id, title, severity,
       status, attributes
FROM event AS e WHERE kind = 'drift' AND source = {source:String} AND e.received > fromUnixTimestamp64Nano({after:Int64})
ORDER BY e.received, status, id LIMIT 100000
"""
_TOLD_BY = ("ninefold.watch", "ninefold.limits")
"""Whose events are believed. Each is followed by itself: the watch may lag behind the limits."""
_LOUD = ("critical", "high", "warning")


class Drifts:
    """Follows drift events.

    Args:
        store, records: what is followed, and where it is written down.
        radius: says what depends on a source.
        notify: the connectors that reach administrators, by name.
        cool_down_s: no second notice of the same kind for a source within this time.
    """

    def __init__(
        self, store: Store, records: Records, radius: Radius, notify: Mapping[str, Connector], cool_down_s: float = 3600.0
    ) -> None:
        self._store, self._records, self._radius, self._notify = store, records, radius, notify
        self._cool_down = round(cool_down_s * SECOND)
        self._told: dict[tuple[str, str], int] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await asyncio.to_thread(self.follow)
            await self.tell()
            await asyncio.sleep(_EVERY_S)

    def follow(self) -> int:
        """Write down what is new; returns how many changes that were.

        Raises:
            Unavailable: the store or the records cannot be used now.
        """
        return sum(self._follow(source) for source in _TOLD_BY)

    def _follow(self, source: str) -> int:
        position = f"{_POSITION}:{source}"
        with self._records.reading() as session:
            kept = session.get(Setting, position)
            after = int(kept.value["received"]) if kept else 0
        rows = self._store.query(_NEW, {"source": source, "after": max(0, after - _OVERLAP)}).to_pylist(maps_as_pydicts="lossy")
        written = sum(map(self._read, rows))
        if rows and rows[-1]["received"] > after:
            with self._records.session() as session:
                session.merge(Setting(key=position, value={"received": rows[-1]["received"]}))
        return written

    def _read(self, row: Mapping[str, Any]) -> int:
        try:
            if row["status"] == "firing":
                return self._begun(row)
            if row["status"] == "resolved":
                return self._ended(row)
        except (KeyError, ValueError, BadData) as error:
            _log.warning("the drift event %s cannot be read and is passed over: %r", row["id"], error)
            return 0
        _log.warning("the drift event %s is neither firing nor resolved and is passed over", row["id"])
        return 0

    def _begun(self, row: Mapping[str, Any]) -> int:
        with self._records.reading() as session:
            if session.get(SourceDrift, row["id"]) is not None:
                return 0
        told = row["attributes"]
        radius = self._radius.of(told["source"], row["time"])
        drift = SourceDrift(
            id=row["id"], mark=row["source_id"], source=told["source"], signal=told["signal"], what=told["what"], title=row["title"],
            severity=row["severity"], usual=told["usual"], now=told["now"], since=parse(told["since"]), radius=radius,
            notice="waiting" if self._notify and row["severity"] in _LOUD else "none",
        )  # fmt: skip
        with self._records.session() as session:
            session.add(drift)
            session.add(_change("drifted", drift, radius=radius))
        return 1

    def _ended(self, row: Mapping[str, Any]) -> int:
        with self._records.session() as session:
            drift = session.scalars(select(SourceDrift).where(SourceDrift.mark == row["source_id"]).limit(1)).one_or_none()
            if drift is None or drift.until is not None:
                return 0
            drift.until, drift.ending = row["time"], row["title"]
            if drift.notice == "waiting":
                drift.notice = "none"  # over before anybody was told
            session.add(_change("recovered", drift))
        return 1

    async def tell(self) -> int:
        """Send the notices that wait; returns how many were taken. One that nobody took waits for the next time."""
        sent = 0
        for drift, body, ended in await asyncio.to_thread(self._waiting):
            if await self._send(drift, body, ended):
                if not ended:
                    self._told[drift.source, drift.what] = now()
                sent += 1
                await asyncio.to_thread(self._noted, drift.id, "recovered" if ended else "sent")
        return sent

    def _waiting(self) -> list[tuple[SourceDrift, str, bool]]:
        found: list[tuple[SourceDrift, str, bool]] = []
        with self._records.session() as session:
            latest: dict[tuple[str, str], int] = {
                (source, what): since
                for source, what, since in session.execute(
                    select(SourceDrift.source, SourceDrift.what, func.max(SourceDrift.since))
                    .where(SourceDrift.notice.in_(("sent", "recovered")))
                    .group_by(SourceDrift.source, SourceDrift.what)
                )
            }
            at = now()
            latest |= self._told
            for drift in session.scalars(select(SourceDrift).where(SourceDrift.notice == "waiting").order_by(SourceDrift.since)):
                if at - latest.get((drift.source, drift.what), at - self._cool_down) < self._cool_down:
                    continue  # it waits until then, and is dropped only when it is over by then
                latest[drift.source, drift.what] = at
                found.append((drift, f"{drift.title}, since {iso(drift.since)}. {sentence(drift.radius)}", False))
            over = select(SourceDrift).where(SourceDrift.notice == "sent", SourceDrift.until.is_not(None))
            found += [(drift, f"{drift.ending}, at {iso(drift.until or 0)}.", True) for drift in session.scalars(over)]
        return found

    async def _send(self, drift: SourceDrift, body: str, ended: bool) -> bool:
        title = f"Source {drift.source}: {drift.what}{' is over' if ended else ''}"
        urgency = "success" if ended else "failure" if drift.severity in ("critical", "high") else "warning"
        taken = False
        for name, connector in self._notify.items():
            send = connector.actions()["send"]
            try:
                await send.call(connector, send.ask.model_validate({"title": title, "body": body, "severity": urgency}))
                taken = True
            except NinefoldError as error:
                _log.warning("the notice %r did not reach %s: %s", title, name, error)
        return taken

    def _noted(self, identity: str, notice: str) -> None:
        with self._records.session() as session:
            drift = session.get(SourceDrift, identity)
            if drift is not None:
                drift.notice = notice

    def history(self, source: str, limit: int = 100) -> list[dict[str, Any]]:
        """The drifts of a source, newest first, as the API gives them."""
        with self._records.reading() as session:
            chosen = select(SourceDrift).where(SourceDrift.source == source).order_by(SourceDrift.since.desc()).limit(limit)
            return [
                {
                    "id": row.id, "signal": row.signal, "what": row.what, "title": row.title, "severity": row.severity, "usual": row.usual,
                    "now": row.now, "since": iso(row.since), "until": None if row.until is None else iso(row.until), "ending": row.ending,
                    "radius": row.radius, "notice": row.notice,
                }
                for row in session.scalars(chosen)
            ]  # fmt: skip


def _change(kind: str, drift: SourceDrift, **more: Any) -> Outbox:
    data = {
        "source": drift.source, "signal": drift.signal, "what": drift.what, "title": drift.title if kind == "drifted" else drift.ending,
        "severity": drift.severity, "entity": f"source:{drift.source}", **more,
    }  # fmt: skip
    return Outbox(time=now(), topic="source", kind=kind, key=drift.source, data=orjson.loads(orjson.dumps(data)))


def notifiers(connectors: Mapping[str, Connector], names: Sequence[str] = ()) -> dict[str, Connector]:
    """The connectors of kind `notify`: those named, or all."""
    return {name: found for name, found in connectors.items() if found.kind == "notify" and (not names or name in names)}
