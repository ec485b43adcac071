"""Metric series: finding them, and drawing one with the band it was expected in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from ninefold.analytics.metrics.baseline import Finding, band
from ninefold.analytics.metrics.describing import is_counter, rate
from ninefold.ground.clock import SECOND, iso, parse
from ninefold.ground.errors import BadData, NotFound
from ninefold.plugin import Store
from ninefold.store.downsample import F64, on_grid, pick, usual_distance
from ninefold.store.points import read
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["series"])
_LEARN = 86400 * SECOND
"""How much before the asked window is replayed, so that the band has learned the usual day."""
_POINTS = 10_000
_CHANGES = 50
_LAST = 2**63 - 1


class SeriesInfo(BaseModel):
    """A metric series. Ids are text, because they are 64 bits wide."""

    series: str
    name: str
    unit: str
    kind: str
    entity: str
    attributes: dict[str, str]
    source: str


class SeriesList(BaseModel):
    """Series that were found."""

    items: list[SeriesInfo]


class FindingInfo(BaseModel):
    """An episode in which the series was not as expected; `until` is null while it lasts."""

    time: str
    until: str | None
    kind: str
    severity: str
    text: str
    horizon: str = Field(description="What spoke: point, pair, 12, 48 (means), sum, 32 (spread), run, cadence, profile-day, profile-week.")
    expected: float | None
    demoted: bool = Field(description="The series alarms often, and this is no worse than before.")


class ChangeInfo(BaseModel):
    """A change or deployment in the same time."""

    time: str
    title: str


class Points(BaseModel):
    """A series over time. Arrays are of one length; times are epoch seconds.

    Without `step` it is thinned out so that every extreme survives; with it there is one point a step. A counter is shown as its rate
    a second. Where there is no value or no band yet, there is null.
    """

    series: str
    name: str
    unit: str
    kind: str
    entity: str
    time: list[float]
    value: list[float | None]
    low: list[float | None] = Field(description="The lowest sample that a point stands for; the value itself where it stands for one.")
    high: list[float | None] = Field(description="The highest sample that a point stands for.")
    measured: list[bool] = Field(
        description="False: nothing was measured in this step; the value lies between its neighbours, or is null in a gap."
    )
    lower: list[float | None]
    upper: list[float | None]
    centre: list[float | None]
    findings: list[FindingInfo]
    changes: list[ChangeInfo]
    samples: int = Field(description="Samples stored in this time, before thinning out.")
    step_s: float = Field(description="The usual time between two samples, or between two points of the resolution.")
    resolution: Literal["raw", "1m", "1h"] = Field(
        description="What was read: samples as received, or means of minutes or hours when they are too many or gone."
    )


@router.get("/series")
def find(
    actor: Viewer,
    app: TheApp,
    q: Annotated[str, Query(max_length=200, description="Words that must all be in name, entity or attribute values.")] = "",
    entity: Annotated[str, Query(max_length=300)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> SeriesList:
    """Find series, those whose name begins with the first word first."""
    words = q.split()[:10]
    found = app.store.query(
        """SELECT toString(series) AS series, name, unit, kind, entity, attributes, source FROM series
        WHERE (entity = {entity:String} OR {entity:String} = '') AND arrayAll(word -> positionCaseInsensitiveUTF8(
            concat(name, ' ', entity, ' ', arrayStringConcat(mapValues(attributes), ' ')), word) > 0, {words:Array(String)})
        ORDER BY startsWith(lower(name), lower({first:String})) DESC, name, entity, series LIMIT {limit:UInt32}""",
        {"entity": entity, "words": words, "first": words[0] if words else "", "limit": limit},
    )
    return SeriesList(items=[_info(row) for row in found.to_pylist()])


@router.get("/series/{series}/points")
def points(
    series: Annotated[str, Path(pattern=r"^\d{1,20}$")],
    actor: Viewer,
    app: TheApp,
    begin: Annotated[str, Query(alias="from", description="RFC 3339; the first sample when left out.")] = "",
    end: Annotated[str, Query(alias="to", description="RFC 3339; the last sample when left out.")] = "",
    count: Annotated[int, Query(alias="points", ge=4, le=_POINTS, description="About how many points to draw.")] = 600,
    step: Annotated[int, Query(ge=0, le=86400, description="Seconds: one point for each, measured or not; 0 draws what is there.")] = 0,
) -> Points:
    """One series with its band, what was found in it, and the changes of the same time."""
    info = lookup(app.store, series)
    first, last = time_of(begin, "from", 0), time_of(end, "to", _LAST)
    counter = is_counter(info.kind, info.name)
    line = read(app.store, int(series), max(0, first - _LEARN), last, counter=counter, step_s=step)
    centre, lower, upper, findings = band(line.times, line.values, info.kind, info.unit, info.name)
    values, low, high, unit = line.values, line.low, line.high, info.unit
    if counter:
        values, unit = rate(line.times, line.values), f"{'' if unit == '1' else unit}/s"
        low = high = values
    inside = slice(int(np.searchsorted(line.times, first)), None)
    times, counts = line.times[inside], line.counts[inside]
    drawn, low, high = [part[inside] for part in (values, lower, upper, centre)], low[inside], high[inside]
    usual = usual_distance(times)
    shown = [found for found in findings if found.time <= last and (found.until is None or found.until >= first)]
    first, last = (max(first, int(times[0])), min(last, int(times[-1]))) if len(times) else (first, last)
    if step and len(times):
        if (last - first) // (step * SECOND) >= _POINTS:
            raise BadData(f"a step of {step} s makes more than {_POINTS:,} points; take a longer step or a shorter time", "step")
        times, drawn, low, high, measured = on_grid(times, drawn, low, high, counts, step * SECOND)
    else:
        chosen = pick(times, low, count, high)
        times, drawn, low, high = times[chosen], [part[chosen] for part in drawn], low[chosen], high[chosen]
        measured = np.ones(len(times), np.bool_)
    return Points(
        **{**info.model_dump(exclude={"attributes", "source"}), "unit": unit},
        time=(times / SECOND).tolist(),
        value=_nullable(drawn[0]),
        low=_nullable(low),
        high=_nullable(high),
        measured=measured.tolist(),
        lower=_nullable(drawn[1]),
        upper=_nullable(drawn[2]),
        centre=_nullable(drawn[3]),
        findings=[_finding(found) for found in shown],
        changes=_changes(app.store, info.entity, first, last),
        samples=int(counts.sum()),
        step_s=usual / SECOND,
        resolution=line.resolution,
    )


def _finding(found: Finding) -> FindingInfo:
    return FindingInfo(
        time=iso(found.time), until=iso(found.until) if found.until else None, kind=found.reason, severity=found.severity,
        text=found.text, horizon=found.horizon, expected=found.expected if found.expected == found.expected else None,
        demoted=found.demoted,
    )  # fmt: skip


def _info(row: dict[str, Any]) -> SeriesInfo:
    return SeriesInfo(**{**row, "attributes": dict(row["attributes"])})


def lookup(store: Store, series: str) -> SeriesInfo:
    """What a series is.

    Raises:
        NotFound: there is none of this id.
    """
    rows: list[dict[str, Any]] = []
    if int(series) < 2**64:
        rows = store.query(
            "SELECT toString(series) AS series, name, unit, kind, entity, attributes, source FROM series WHERE series.series = {id:UInt64}",
            {"id": int(series)},
        ).to_pylist()
    if not rows:
        raise NotFound(f"there is no series {series}; GET /api/v1/series finds those there are")
    return _info(rows[0])


def _changes(store: Store, entity: str, begin: int, end: int) -> list[ChangeInfo]:
    """Changes and deployments of the time, those of the same entity first when there are many. Nothing lies more than a day ahead of its
    receipt, by whose month the store finds it."""
    found = store.query(
        """SELECT at, title FROM (
            SELECT toUnixTimestamp64Nano(time) AS at, title FROM event WHERE kind IN ('change', 'deployment')
            AND received >= fromUnixTimestamp64Nano({begin:Int64}, 'UTC') - INTERVAL 1 DAY
            AND time BETWEEN fromUnixTimestamp64Nano({begin:Int64}, 'UTC') AND fromUnixTimestamp64Nano({end:Int64}, 'UTC')
            ORDER BY entity = {entity:String} DESC, time DESC LIMIT {limit:UInt32}
        ) ORDER BY at""",
        {"begin": begin, "end": end, "entity": entity, "limit": _CHANGES},
    )
    return [ChangeInfo(time=iso(row["at"]), title=row["title"]) for row in found.to_pylist()]


def time_of(text: str, where: str, missing: int) -> int:
    """An RFC 3339 time of a query in ns, or what stands for a missing one.

    Raises:
        BadData: it is not a time.
    """
    if not text:
        return missing
    try:
        return parse(text)
    except ValueError:
        raise BadData(f"{text!r} is not a time; write it as 2026-01-31T12:00:00Z", where) from None


def _nullable(values: F64) -> list[float | None]:
    numbers: list[float | None] = np.where(np.isfinite(values), values, None).tolist()  # type: ignore[call-overload]
    return numbers
