"""Operations seen in traces: how often, how wrong and how slow they are beside what is usual, and what whole traces spend their time on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from ninefold.ground.clock import iso
from ninefold.ground.errors import NotFound
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["operations"])


class ErrorKind(BaseModel):
    """One kind of error of an operation; shares are of its calls."""

    kind: str = Field(description="What was thrown, the code it ended with, or its message without numbers.")
    share: float = Field(description="In the last window.")
    usual_share: float
    first_seen: str
    last_seen: str | None
    since: str | None = Field(description="Since when it is new or surging; null when it is as usual.")


class Operation(BaseModel):
    """One operation; latencies are in ms, and null until there were calls enough to know."""

    entity: str
    operation: str = Field(description="The span's name; `(on the way)` is the time between callers' client spans and the entity's own.")
    calls_per_min: float
    usual_calls_per_min: float
    error_share: float = Field(description="In the last window.")
    usual_error_share: float = Field(description="Of all kinds of errors together.")
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    usual_p50_ms: float | None
    usual_p95_ms: float | None
    usual_p99_ms: float | None
    errors: list[ErrorKind]
    first_seen: str
    last_seen: str
    shifted_since: str | None = Field(description="Since when its latency is not as usual; null when it is.")


class OperationList(BaseModel):
    """Operations, those that changed first, then the busiest."""

    items: list[Operation]


class Contributor(BaseModel):
    """What a part of the critical path is; shares are means over traces of the part of their duration."""

    entity: str
    operation: str
    in_transit: bool = Field(description="The way to the operation, not the operation itself.")
    share: float = Field(description="In the last window.")
    usual_share: float
    usual_ms: float
    first_seen: str
    since: str | None = Field(description="Since when it takes more than usual; null when it does not.")


class CriticalPath(BaseModel):
    """What the time of traces that begin with one operation is spent on."""

    entity: str
    operation: str
    traces: float = Field(description="How many traces it was learned from, old ones counting less.")
    contributors: list[Contributor]


@router.get("/operations")
def operations(
    actor: Viewer,
    app: TheApp,
    entity: Annotated[str, Query(max_length=300, description="Only those of this entity.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> OperationList:
    """Every operation with what it does now and usually."""
    rows = app.runner.ask("operations", lambda technique: technique.table(entity, limit))
    return OperationList(items=[_operation(row) for row in rows])


@router.get("/operations/critical-path")
def critical_path(
    actor: Viewer,
    app: TheApp,
    entity: Annotated[str, Query(max_length=300, description="The entity where the traces begin.")],
    operation: Annotated[str, Query(max_length=500, description="The name of their first span.")],
) -> CriticalPath:
    """What the time of whole traces is spent on, the largest share first."""
    found = app.runner.ask("operations", lambda technique: technique.critical_path(entity, operation))
    if found is None:
        raise NotFound(f"there is no operation {operation!r} of {entity}; GET /api/v1/operations lists those there are")
    rows = [Contributor(**{**row, "first_seen": iso(row["first_seen"]), "since": _time(row["since"])}) for row in found["contributors"]]
    return CriticalPath(entity=entity, operation=operation, traces=found["traces"], contributors=rows)


def _operation(row: dict[str, Any]) -> Operation:
    now, usual = (dict(zip(("p50_ms", "p95_ms", "p99_ms"), row[side] or (None,) * 3, strict=True)) for side in ("now", "usual"))
    errors = [
        ErrorKind(**{**kind, "first_seen": iso(kind["first_seen"]), "last_seen": _time(kind["last_seen"]), "since": _time(kind["since"])})
        for kind in row["errors"]
    ]
    plain = {key: row[key] for key in ("entity", "operation", "calls_per_min", "usual_calls_per_min", "error_share", "usual_error_share")}
    return Operation(
        **plain,
        **now,
        **{f"usual_{name}": value for name, value in usual.items()},
        errors=errors,
        first_seen=iso(row["first_seen"]),
        last_seen=iso(row["last_seen"]),
        shifted_since=_time(row["shifted_since"]),
    )


def _time(ns: int) -> str | None:
    return iso(ns) if ns else None
