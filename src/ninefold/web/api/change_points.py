"""The lasting changes of a series."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from ninefold.analytics.metrics import change_points as analysis
from ninefold.analytics.metrics.describing import is_counter, rate
from ninefold.ground.clock import iso, now
from ninefold.store.points import read
from ninefold.web.api.series import lookup, time_of
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["series"])
_ROWS = 20_000
_LAST = 2**63 - 1


class ChangePointInfo(BaseModel):
    """One lasting change; `earliest` and `latest` enclose its time with 95 %."""

    time: str
    earliest: str
    latest: str
    kind: Literal["level", "slope", "spread"]
    before: float = Field(description="Level: the value; slope: the rise an hour; spread: the standard deviation.")
    after: float
    size: float = Field(description="The difference; of a spread the ratio.")
    spreads: float = Field(
        description="The size in standard deviations of the points around; of a spread the binary logarithm of the ratio."
    )
    confidence: float


class ChangePoints(BaseModel):
    """The changes of a series in order of time. A counter is judged by its rate a second."""

    series: str
    items: list[ChangePointInfo]
    points: int = Field(description="Points that were judged.")
    resolution: Literal["raw", "1m", "1h"]


@router.get("/series/{series}/change-points")
def change_points(
    series: Annotated[str, Path(pattern=r"^\d{1,20}$")],
    actor: Viewer,
    app: TheApp,
    begin: Annotated[str, Query(alias="from", description="RFC 3339; the first sample when left out.")] = "",
    end: Annotated[str, Query(alias="to", description="RFC 3339; the last sample when left out.")] = "",
    confidence: Annotated[float, Query(ge=0.5, lt=1, description="Only changes at least this sure.")] = 0.5,
) -> ChangePoints:
    """When the level, the slope or the spread of a series changed for good."""
    info = lookup(app.store, series)
    first, last = time_of(begin, "from", 0), time_of(end, "to", min(_LAST, now() + 86400 * 10**9))
    counter = is_counter(info.kind, info.name)
    line = read(app.store, int(series), first, last, counter=counter, rows=_ROWS)
    values = rate(line.times, line.values) if counter else line.values
    found = [change for change in analysis.change_points(line.times, values) if change.confidence >= confidence]
    items = [
        ChangePointInfo(
            time=iso(c.time), earliest=iso(c.earliest), latest=iso(c.latest), kind=c.kind, before=c.before, after=c.after, size=c.size,
            spreads=c.spreads, confidence=c.confidence,
        )
        for c in found
    ]  # fmt: skip
    return ChangePoints(series=series, items=items, points=len(line.times), resolution=line.resolution)
