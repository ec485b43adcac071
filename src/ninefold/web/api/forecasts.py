"""What series will be: a forecast of any one, those that will meet a threshold ranked, and how good past forecasts were."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from ninefold.foresight.judging import judge
from ninefold.foresight.looking import View, look, windows
from ninefold.foresight.told import SOURCE
from ninefold.ground.clock import SECOND, iso, now
from ninefold.web.api.series import lookup
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["forecasts"])
_RANKED = """SELECT series, entity, title, attributes, at FROM (
    SELECT source_id AS series, argMax(entity, event.time) AS entity, argMax(title, event.time) AS title,
    argMax(attributes, event.time) AS attributes, toUnixTimestamp64Nano(max(event.time)) AS at
    FROM event WHERE kind = 'forecast' AND source = {source:String} AND received >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
    GROUP BY source_id)
    WHERE {all:UInt8} OR attributes['likely'] != '' ORDER BY attributes['likely'] = '', attributes['likely'],
    toFloat64OrZero(attributes['chance']) DESC, series LIMIT {limit:UInt32}"""


class BreachInfo(BaseModel):
    """When a threshold is met; null where that is not within the horizon."""

    earliest: str | None = Field(description="By the outer bound of 80 %.")
    likely: str | None = Field(description="By the centre.")
    latest: str | None = Field(description="By the inner bound of 80 %.")
    chance: float = Field(description="Probability that it is met within the horizon.")


class QualityInfo(BaseModel):
    """How good past forecasts were at one lead."""

    lead: str = Field(description="1h, 1d or 7d.")
    lead_s: int
    issued: int = Field(description="Forecasts made.")
    judged: int = Field(description="Those whose time has come.")
    relative_error: float | None = Field(
        description="Mean absolute error relative to that of the last value known when the forecast was made."
    )
    wape: float | None = Field(description="Sum of absolute errors relative to the sum of what came.")
    coverage_95: float | None = Field(description="Share of what came within the bounds of 95 %.")
    coverage_80: float | None


class ForecastInfo(BaseModel):
    """The forecast of a series. Arrays are of one length, times are epoch seconds; they are empty while too little is known.

    A counter is forecast as its rate a second.
    """

    series: str
    name: str
    unit: str
    entity: str
    time: list[float]
    centre: list[float]
    lower: list[float] = Field(description="95 % bound.")
    upper: list[float] = Field(description="95 % bound.")
    lower_80: list[float]
    upper_80: list[float]
    model: str = Field(description="What had the most say.")
    trained_from: str | None = Field(description="Since when the series has been as it is now.")
    step_s: int
    backtest_error: float | None = Field(description="Error of these forecasters on this series' past, relative to that of the last value.")
    threshold: float | None
    direction: str | None = Field(description="above: met from below; below: met from above.")
    why: str | None
    breach: BreachInfo | None
    quality: list[QualityInfo]


class Ahead(BaseModel):
    """The newest forecast of a series with a threshold."""

    series: str
    name: str
    unit: str
    entity: str
    title: str
    issued: str
    threshold: float | None
    direction: str
    why: str
    model: str
    last: float | None
    breach: BreachInfo


class Forecasts(BaseModel):
    """Series by the time at which they meet their threshold, the soonest first; and the quality of all past forecasts."""

    items: list[Ahead]
    quality: list[QualityInfo]


@router.get("/series/{series}/forecast")
def ahead(
    series: Annotated[str, Path(pattern=r"^\d{1,20}$")],
    actor: Viewer,
    app: TheApp,
    horizon_s: Annotated[int, Query(ge=60, le=90 * 86400, description="How far ahead.")] = 86400,
    history_s: Annotated[int, Query(ge=600, le=366 * 86400, description="How far back to learn from.")] = 14 * 86400,
) -> ForecastInfo:
    """What a series will be, now computed from its stored past."""
    info, at = lookup(app.store, series), now()
    row = {**info.model_dump(), "series": int(series)}
    threshold = app.foresight.threshold(row)
    apart = windows(app.store, at - history_s * SECOND)
    view = look(app.store, row, at, history_s, horizon_s, threshold=threshold, apart=apart)
    made = view.forecast
    naive = float(made.naive.sum()) if made else 0.0
    return ForecastInfo(
        series=series, name=info.name, unit=info.unit, entity=info.entity,
        time=(made.times / SECOND).tolist() if made else [],
        centre=made.centre.tolist() if made else [],
        lower=made.lower[1].tolist() if made else [],
        upper=made.upper[1].tolist() if made else [],
        lower_80=made.lower[0].tolist() if made else [],
        upper_80=made.upper[0].tolist() if made else [],
        model=made.model if made else "",
        trained_from=iso(made.trained_from) if made else None,
        step_s=made.step_s if made else 0,
        backtest_error=float(made.error.sum()) / naive if made and naive > 0 else None,
        threshold=view.threshold,
        direction=None if threshold is None else "above" if threshold.above else "below",
        why=threshold.why if threshold else None,
        breach=_breach(view),
        quality=[QualityInfo(**one) for one in judge(app.store, at, int(series))],
    )  # fmt: skip


@router.get("/forecasts")
def ranked(
    actor: Viewer,
    app: TheApp,
    everything: Annotated[bool, Query(alias="all", description="Also those that meet nothing within the horizon.")] = False,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Forecasts:
    """The series that run full, run out or expire first, from the newest hourly look ahead."""
    at = now()
    asked = {"source": SOURCE, "since": at - app.foresight.fresh_ns, "all": int(everything), "limit": limit}
    rows = app.store.query(_RANKED, asked).to_pylist()
    return Forecasts(items=[_ahead(row) for row in rows], quality=[QualityInfo(**one) for one in judge(app.store, at)])


def _ahead(row: dict[str, Any]) -> Ahead:
    said = dict(row["attributes"])

    def number(name: str) -> float | None:
        return float(said[name]) if name in said else None

    return Ahead(
        series=row["series"], name=said.get("metric", ""), unit=said.get("unit", ""), entity=row["entity"], title=row["title"],
        issued=iso(row["at"]), threshold=number("threshold"), direction=said.get("direction", ""), why=said.get("why", ""),
        model=said.get("model", ""), last=number("last"),
        breach=BreachInfo(
            earliest=said.get("earliest"), likely=said.get("likely"), latest=said.get("latest"), chance=number("chance") or 0.0
        ),
    )  # fmt: skip


def _breach(view: View) -> BreachInfo | None:
    met = view.breach
    if met is None:
        return None
    earliest, likely, latest = (None if time is None else iso(time) for time in (met.earliest, met.likely, met.latest))
    return BreachInfo(earliest=earliest, likely=likely, latest=latest, chance=met.chance)
