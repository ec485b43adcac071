"""Metric series: finding them, and drawing one with the band it was expected in."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from ninefold.analytics.baseline import band, is_counter, rate
from ninefold.ground.clock import SECOND, iso, parse
from ninefold.ground.errors import BadData, NotFound
from ninefold.plugin import Store
from ninefold.store.downsample import F64, I64, pick
from ninefold.web.auth import Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["series"])
_LEARN = 86400 * SECOND
"""How much before the asked window is replayed, so that the band has learned the usual day."""
_SAMPLES = 1_000_000
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


class ChangeInfo(BaseModel):
    """A change or deployment in the same time."""

    time: str
    title: str


class Points(BaseModel):
    """A series over time, thinned out so that every extreme survives. Arrays are of one length; times are epoch seconds.

    A counter is shown as its rate a second. Where there is no value or no band yet, there is null.
    """

    series: str
    name: str
    unit: str
    kind: str
    entity: str
    time: list[float]
    value: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    centre: list[float | None]
    findings: list[FindingInfo]
    changes: list[ChangeInfo]
    samples: int = Field(description="Samples stored in this time, before thinning out.")
    step_s: float = Field(description="The usual time between two samples.")


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
    count: Annotated[int, Query(alias="points", ge=4, le=10_000, description="About how many points to draw.")] = 600,
) -> Points:
    """One series with its band, what was found in it, and the changes of the same time."""
    info = _lookup(app.store, series)
    first, last = _time(begin, "from", 0), _time(end, "to", _LAST)
    times, values = _samples(app.store, int(series), max(0, first - _LEARN), last)
    centre, lower, upper, findings = band(times, values, info.kind, info.unit, info.name)
    unit = info.unit
    if is_counter(info.kind, info.name):
        values, unit = rate(times, values), f"{'' if unit == '1' else unit}/s"
    inside = slice(int(np.searchsorted(times, first)), None)
    times, values, centre, lower, upper = times[inside], values[inside], centre[inside], lower[inside], upper[inside]
    chosen = pick(times, values, count)
    shown = [found for found in findings if found.time <= last and (found.until is None or found.until >= first)]
    first, last = (max(first, int(times[0])), min(last, int(times[-1]))) if len(times) else (first, last)
    return Points(
        **{**info.model_dump(exclude={"attributes", "source"}), "unit": unit},
        time=(times[chosen] / SECOND).tolist(),
        value=_nullable(values[chosen]),
        lower=_nullable(lower[chosen]),
        upper=_nullable(upper[chosen]),
        centre=_nullable(centre[chosen]),
        findings=[
            FindingInfo(time=iso(f.time), until=iso(f.until) if f.until else None, kind=f.reason, severity=f.severity, text=f.text)
            for f in shown
        ],
        changes=_changes(app.store, info.entity, first, last),
        samples=len(times),
        step_s=float(np.median(np.diff(times))) / SECOND if len(times) > 1 else 0.0,
    )


def _info(row: dict[str, Any]) -> SeriesInfo:
    return SeriesInfo(**{**row, "attributes": dict(row["attributes"])})


def _lookup(store: Store, series: str) -> SeriesInfo:
    rows: list[dict[str, Any]] = []
    if int(series) < 2**64:
        rows = store.query(
            "SELECT toString(series) AS series, name, unit, kind, entity, attributes, source FROM series WHERE series.series = {id:UInt64}",
            {"id": int(series)},
        ).to_pylist()
    if not rows:
        raise NotFound(f"there is no series {series}; GET /api/v1/series finds those there are")
    return _info(rows[0])


def _samples(store: Store, series: int, begin: int, end: int) -> tuple[I64, F64]:
    """Times (ns, ascending, each once) and values; the newest million when there are more."""
    found = store.query(
        """SELECT toUnixTimestamp64Nano(time) AS at, value FROM metric WHERE series = {series:UInt64}
        AND time BETWEEN fromUnixTimestamp64Nano({begin:Int64}, 'UTC') AND fromUnixTimestamp64Nano({end:Int64}, 'UTC')
        ORDER BY time DESC LIMIT {limit:UInt32}""",
        {"series": series, "begin": begin, "end": end, "limit": _SAMPLES},
    )
    times, values = (found.column(name).to_numpy()[::-1] for name in ("at", "value"))
    once = np.append(np.diff(times) > 0, True)[: len(times)]
    return times[once], values[once]


def _changes(store: Store, entity: str, begin: int, end: int) -> list[ChangeInfo]:
    """Changes and deployments of the time, those of the same entity first when there are many."""
    found = store.query(
        """SELECT at, title FROM (
            SELECT toUnixTimestamp64Nano(time) AS at, title FROM event WHERE kind IN ('change', 'deployment')
            AND time BETWEEN fromUnixTimestamp64Nano({begin:Int64}, 'UTC') AND fromUnixTimestamp64Nano({end:Int64}, 'UTC')
            ORDER BY entity = {entity:String} DESC, time DESC LIMIT {limit:UInt32}
        ) ORDER BY at""",
        {"begin": begin, "end": end, "entity": entity, "limit": _CHANGES},
    )
    return [ChangeInfo(time=iso(row["at"]), title=row["title"]) for row in found.to_pylist()]


def _time(text: str, where: str, missing: int) -> int:
    if not text:
        return missing
    try:
        return parse(text)
    except ValueError:
        raise BadData(f"{text!r} is not a time; write it as 2026-01-31T12:00:00Z", where) from None


def _nullable(values: F64) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
