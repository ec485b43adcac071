"""What is interesting now: metric series by how unusually they behave, whether or not anything alarmed."""

from __future__ import annotations

from math import isfinite
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from ninefold.analytics.metrics.baseline import Baseline
from ninefold.analytics.metrics.cells import SPIKE
from ninefold.analytics.metrics.describing import About, describe, deviating, is_counter
from ninefold.analytics.metrics.ranking import Standing
from ninefold.ground.clock import iso
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["series"])


class Interesting(BaseModel):
    """A series that behaves as it rarely does. Of a counter, numbers are about its rate."""

    series: str
    name: str
    label: str = Field(description="The name for people.")
    entity: str
    unit: str
    strength: float = Field(
        description="How interesting it is now: it decays from its last surprise, and is more while the value is outside."
    )
    value: float = Field(description="The last value.")
    expected: float | None = Field(description="What was expected of it; null while the series is young.")
    lower: float | None
    upper: float | None
    kinds: list[str] = Field(
        description="What is unusual: `level` (never so high or low), `drift` (so far from its slow level), "
        "`sustained` (its mean over 48 points), `daily` (at this hour), `expected` (lastingly off what was expected)."
    )
    since: str
    time: str = Field(description="Of the last value.")
    text: str = Field(description="One sentence.")
    deviation: str = Field(description="How far from what was expected, in words; empty where that is unknown.")


class InterestingList(BaseModel):
    """Series, the most unusual first."""

    items: list[Interesting]


@router.get("/interesting")
def interesting(
    actor: Viewer,
    app: TheApp,
    limit: Annotated[int, Query(ge=1, le=500)] = 20,
    entity: Annotated[str, Query(max_length=300, description="Only the series of this entity.")] = "",
) -> InterestingList:
    """The series worth a look now. It is an order, not an alarm: nothing here pages anybody."""

    def question(technique: Baseline) -> list[tuple[About, int, Standing]]:
        return technique.interesting(limit, entity)

    return InterestingList(items=[_item(*one) for one in app.runner.ask("baseline", question)])


def _item(about: About, series: int, standing: Standing) -> Interesting:
    value, expected, lower, upper = standing.last.tolist()
    known = isfinite(expected)
    unit = f"{'' if about.unit == '1' else about.unit}/s" if is_counter(about.kind, about.metric) else about.unit
    return Interesting(
        series=str(series),
        name=about.metric,
        label=about.label,
        entity=about.entity,
        unit=unit,
        strength=round(standing.strength, 3),
        value=value,
        expected=expected if known else None,
        lower=lower if known else None,
        upper=upper if known else None,
        kinds=standing.kinds,
        since=iso(standing.since),
        time=iso(standing.time),
        text=describe(about, standing.last, SPIKE, standing.since, firing=True) if known else about.label,
        deviation=deviating(about, standing.last) if known else "",
    )
