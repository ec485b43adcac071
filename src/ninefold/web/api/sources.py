"""Where data comes from, how it flows, and what could not be understood."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from ninefold.ground.clock import iso, now
from ninefold.ground.errors import BadData
from ninefold.web.api import source as one
from ninefold.web.auth import Operator, Viewer, tell
from ninefold.web.state import TheApp

router = APIRouter(tags=["sources"])
router.include_router(one.router)
_PREVIEW_BYTES = 4096
_REPLAY_ROWS = 10_000
_REPLAYING = asyncio.Lock()
"""One replay at a time: two would both send what waits."""


class SignalFlow(BaseModel):
    """Rows since the source was first seen, and rows a second over the last minute."""

    rows: int
    rate_per_s: float


class SourceInfo(BaseModel):
    """A source as it stands. Delays run from a record's own time to its receipt."""

    name: str
    kind: str = Field(description="push, poll, file or own")
    signals: dict[str, SignalFlow]
    first_seen: str
    last_seen: str
    delay_p50_s: float | None
    delay_p99_s: float | None
    quarantined: int = Field(description="Records waiting in quarantine.")
    state: Literal["flowing", "quiet", "silent"]
    score: float | None = Field(description="Its freedom, 0 to 100, as last measured; None while it is not known.")
    drifting: int = Field(description="How many of its drifts are not over, as last measured.")


class SourceList(BaseModel):
    """All sources, by name."""

    items: list[SourceInfo]


class QuarantineInfo(BaseModel):
    """A record that could not be understood; `payload` is its beginning, as hex when it is not text."""

    id: str
    time: str
    source: str
    signal: str
    format: str
    reason: str
    where: str
    payload: str
    state: Literal["waiting", "replayed"]


class QuarantineList(BaseModel):
    """Records in quarantine, waiting ones first, then the newest; `total` counts all that were asked for."""

    items: list[QuarantineInfo]
    total: int


class Replay(BaseModel):
    """What to send through again: some records by id, or all that wait (of one source)."""

    ids: list[str] = Field(default_factory=list, max_length=_REPLAY_ROWS)
    source: str | None = None


class Replayed(BaseModel):
    """How many records went through again, and how many of their pieces are in quarantine anew."""

    replayed: int
    still_bad: int


@router.get("/sources")
def sources(actor: Viewer, app: TheApp) -> SourceList:
    """Every source that has delivered, with its figures."""
    counted = app.store.query("SELECT source, count() AS waiting FROM quarantine WHERE state = 'waiting' GROUP BY source")
    waiting = dict(zip(counted["source"].to_pylist(), counted["waiting"].to_pylist(), strict=True))
    kept = app.stewardship.kept()
    return SourceList(
        items=[
            SourceInfo(
                name=source.name,
                kind=source.kind,
                signals={name: SignalFlow(rows=s.rows, rate_per_s=round(s.rate_per_s, 3)) for name, s in source.signals.items()},
                first_seen=iso(source.first_seen),
                last_seen=iso(source.last_seen),
                delay_p50_s=source.delay_p50_s,
                delay_p99_s=source.delay_p99_s,
                quarantined=waiting.get(source.name, 0),
                state=source.state,
                score=kept.get(source.name, {}).get("score"),
                drifting=kept.get(source.name, {}).get("drifting", 0),
            )
            for source in app.traffic.table()
        ]
    )


@router.get("/quarantine")
def quarantine(
    actor: Viewer,
    app: TheApp,
    source: Annotated[str, Query(max_length=300)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> QuarantineList:
    """What could not be understood, and why."""
    wanted = {"source": source}
    found = app.store.query(
        """SELECT id, toUnixTimestamp64Nano(received) AS time, source, signal, format, reason, q.where AS where, state,
            substring(q.payload, 1, {bytes:UInt32}) AS payload FROM quarantine AS q
        WHERE source = {source:String} OR {source:String} = '' ORDER BY replayed > 0, received DESC, id LIMIT {limit:UInt32}""",
        {**wanted, "limit": limit, "bytes": _PREVIEW_BYTES},
    ).to_pylist()
    (total,) = app.store.query("SELECT count() AS total FROM quarantine WHERE source = {source:String} OR {source:String} = ''", wanted)[
        "total"
    ].to_pylist()
    items = [QuarantineInfo(**{**row, "time": iso(row["time"]), "payload": _readable(row["payload"])}) for row in found]
    return QuarantineList(items=items, total=total)


@router.post("/quarantine/replay")
async def replay(wanted: Replay, actor: Operator, app: TheApp, request: Request) -> Replayed:
    """Send quarantined records through the front door again; what is still wrong comes back with its new reason."""
    if wanted.ids and wanted.source is not None:
        raise BadData("ids and source cannot be combined; send one of them", "ids")
    tell(request, "quarantine replayed", wanted.source or "", ids=wanted.ids)
    async with _REPLAYING:
        rows = await asyncio.to_thread(
            app.store.query,
            """SELECT id, source, signal, format, payload FROM quarantine WHERE state = 'waiting'
            AND (id IN {ids:Array(String)} OR ({all:UInt8} AND (source = {source:String} OR {source:String} = '')))
            ORDER BY received, id LIMIT {limit:UInt32}""",
            {"ids": wanted.ids, "all": int(not wanted.ids), "source": wanted.source or "", "limit": _REPLAY_ROWS},
        )
        if not rows.num_rows:
            return Replayed(replayed=0, still_bad=0)
        batches = await asyncio.to_thread(app.normaliser.replay, rows, now())
        await app.emit(batches, "own")
        await asyncio.to_thread(app.store.mark_replayed, rows.column("id").to_pylist())
        judged = [piece for batch in batches for piece in await asyncio.to_thread(app.normaliser.normalise, batch)]
        return Replayed(replayed=rows.num_rows, still_bad=sum(piece.rows.num_rows for piece in judged if piece.signal == "quarantine"))


def _readable(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError as error:
        if error.start >= len(payload) - 3 and len(payload) == _PREVIEW_BYTES:  # the preview ends inside a character
            return payload[: error.start].decode()
        return payload.hex(" ")
