"""Regression of any series on any others: fitted to a time on request, and saved to be watched live."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from uuid import uuid4

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.analytics.metrics import regression as analysis
from ninefold.analytics.metrics.describing import is_counter, rate
from ninefold.analytics.metrics.regressing import LIMIT
from ninefold.ground.clock import SECOND, iso, now
from ninefold.ground.errors import BadData, Conflict, NotFound
from ninefold.plugin import Store
from ninefold.store.downsample import F64, I64, Bools, on_grid
from ninefold.store.points import read
from ninefold.store.records.base import Audit, Outbox, Setting
from ninefold.web.api.series import SeriesInfo, lookup, time_of
from ninefold.web.auth import AUDITED, Operator, Viewer
from ninefold.web.state import TheApp

router = APIRouter(tags=["regression"])
_POINTS, _SHOWN, _LEAST = 5000, 500, 30
_KEY = "regression:"
_Series = Annotated[str, Field(pattern=r"^\d{1,20}$", description="A series' id, as `GET /api/v1/series` gives it.")]


class Driver(BaseModel):
    """A series that may explain the target."""

    series: _Series
    lag_s: int = Field(0, ge=0, le=7 * 86400, description="How many seconds before the target it is looked at; rounded to whole steps.")


class Ask(BaseModel):
    """What is to be regressed on what."""

    target: _Series
    drivers: list[Driver] = Field(min_length=1, max_length=10)
    begin: str = Field("", alias="from", description="RFC 3339; a day before the end when left out.")
    end: str = Field("", alias="to", description="RFC 3339; now when left out.")
    step_s: int = Field(60, ge=1, le=86400, description="Series are averaged over steps of so many seconds.")
    method: Literal["robust", "recursive"] = Field(
        "robust", description="One set of coefficients that wild points do not move, or coefficients that may drift."
    )


class Coefficient(BaseModel):
    """What one unit more of a driver makes of the target, with its interval of 95 %; of a recursive fit as it was at the end."""

    name: str
    series: str = Field(description="The driver's id; empty for the constant.")
    lag_s: int
    value: float
    lower: float
    upper: float
    effect: float | None = Field(description="Standard deviations of the target for one of the driver; null for the constant.")
    inflation: float | None = Field(
        description="Variance inflation factor; above 10 it moves with the others; null: constant, or infinite."
    )


class History(BaseModel):
    """Coefficients over time, of a recursive fit; `values[i]` are those of `coefficients`, in their order, at `time[i]`."""

    time: list[float]
    values: list[list[float]]
    lower: list[list[float]]
    upper: list[list[float]]


class AlarmInfo(BaseModel):
    """A time in which the drivers did not explain the target; `until` is null when it lasts to the end."""

    time: str
    until: str | None
    peak: float = Field(description="The most extreme residual in standard errors.")


class OutOfTime(BaseModel):
    """Mean absolute errors over the last three tenths, after a robust fit to what comes before."""

    model: float
    mean: float = Field(description="Of the usual value before.")
    last: float = Field(description="Of the value one step before, which a regression on drivers does not know.")


class Regression(BaseModel):
    """A fit. Arrays over time are of one length, at the steps in which everything was measured; times are epoch seconds."""

    target: str
    unit: str
    entity: str
    method: str
    step_s: int
    points: int = Field(description="Steps in which target and drivers were measured; only these are used.")
    left_out: int = Field(description="Steps in which one of them was not.")
    coefficients: list[Coefficient]
    explained: float = Field(description="R²; of a recursive fit that of forecasts made before each point was seen.")
    forgetting: float
    ridge: float
    condition: float | None = Field(description="Of the standardised drivers; null: infinite.")
    out_of_time: OutOfTime
    time: list[float]
    value: list[float]
    fitted: list[float]
    residual: list[float] = Field(description="In standard errors.")
    history: History
    alarms: list[AlarmInfo]
    words: list[str] = Field(description="What a reader of the figures must know.")


class SavedAsk(BaseModel):
    """A regression to be watched live."""

    name: str = Field(min_length=1, max_length=200)
    target: _Series
    drivers: list[Driver] = Field(min_length=1, max_length=10)
    step_s: int = Field(60, ge=1, le=86400)


class Saved(BaseModel):
    """A saved regression as it stands; coefficients are in the order constant, then drivers, and empty until 30 steps were measured."""

    id: str
    name: str
    target: str
    series: str
    entity: str
    drivers: list[str]
    step_s: int
    points: int
    skipped: int = Field(description="Steps left out because not everything was measured in them.")
    state: Literal["learning", "as explained", "alarm"]
    since: str | None
    forgetting: float | None
    coefficients: list[float]
    errors: list[float]


class SavedList(BaseModel):
    """Saved regressions by name."""

    items: list[Saved]


class SavedHistory(BaseModel):
    """The last steps of a saved regression; arrays are of one length, times are epoch seconds."""

    id: str
    time: list[float]
    value: list[float]
    fitted: list[float]
    residual: list[float]
    coefficients: list[list[float]]
    errors: list[list[float]]


@router.post("/regression")
def regress(ask: Ask, actor: Viewer, app: TheApp) -> Regression:
    """Fit a regression to a time."""
    target, terms = lookup(app.store, ask.target), [(lookup(app.store, driver.series), driver.lag_s) for driver in ask.drivers]
    end = time_of(ask.end, "to", now())
    begin = time_of(ask.begin, "from", end - 86400 * SECOND)
    step = ask.step_s * SECOND
    count = end // step - begin // step + 1
    if not 0 < count <= _POINTS:
        raise BadData(f"from {iso(begin)} to {iso(end)} are {count:,} steps of {ask.step_s} s; ask for 1 to {_POINTS:,}", "step_s")
    lines = [_line(app.store, info, lag, begin, int(count), step) for info, lag in [(target, 0), *terms]]
    measured = np.all([known & np.isfinite(values) for values, known in lines], axis=0)
    rows, least = int(measured.sum()), max(_LEAST, 5 * (len(terms) + 1))
    if rows < least:
        raise BadData(
            f"only in {rows} of {count} steps were all series measured, and {least} are needed; take a longer step or time", "step_s"
        )
    table = np.column_stack([values[measured] for values, _ in lines])
    fit = analysis.robust(table[:, 1:], table[:, 0]) if ask.method == "robust" else analysis.recursive(table[:, 1:], table[:, 0])
    times = (begin // step + np.flatnonzero(measured)) * step
    names = [_name(info, lag) for info, lag in terms]
    ahead = analysis.out_of_time(table[:, 1:], table[:, 0])
    words = [*analysis.words(fit, names, target.name), *_beside(ahead, int(count) - rows, int(count))]
    return Regression(
        target=target.name, unit=_unit(target), entity=target.entity, method=ask.method, step_s=ask.step_s, points=rows,
        left_out=int(count) - rows, coefficients=_coefficients(fit, names, [(info.series, lag) for info, lag in terms]),
        explained=fit.explained, forgetting=fit.forgetting, ridge=fit.ridge, condition=_finite(fit.condition),
        out_of_time=OutOfTime(model=ahead[0], mean=ahead[1], last=ahead[2]), time=(times / SECOND).tolist(), value=table[:, 0].tolist(),
        fitted=fit.fitted.tolist(), residual=fit.residuals.tolist(), history=_history(fit, times), words=words,
        alarms=[AlarmInfo(time=iso(int(times[a.begin])), until=None if a.end is None else iso(int(times[a.end])), peak=a.peak)
                for a in fit.alarms],
    )  # fmt: skip


@router.get("/regressions")
def saved(actor: Viewer, app: TheApp) -> SavedList:
    """The regressions that are watched live."""
    with app.records.reading() as session:
        specs = _specs(session)
    told = app.runner.ask("regression", lambda technique: technique.told())
    return SavedList(items=[_saved(spec, told.get(spec["id"], {})) for spec in sorted(specs, key=lambda spec: (spec["name"], spec["id"]))])


@router.get("/regressions/{key}")
def history(key: str, actor: Viewer, app: TheApp) -> SavedHistory:
    """The last steps of one saved regression."""
    with app.records.reading() as session:
        _find(session, key)
    rows = app.runner.ask("regression", lambda technique: technique.told()).get(key, {}).get("history", [])
    times, values, fitted, residuals, coefficients, errors = zip(*rows, strict=True) if rows else ((),) * 6
    return SavedHistory(
        id=key, time=[time / SECOND for time in times], value=values, fitted=fitted, residual=residuals, coefficients=coefficients,
        errors=errors,
    )  # fmt: skip


@router.post("/regressions", status_code=201, dependencies=[AUDITED])
def save(ask: SavedAsk, actor: Operator, app: TheApp) -> Saved:
    """Watch a regression live; it learns from the points that come from now on."""
    target = lookup(app.store, ask.target)
    terms = [(lookup(app.store, driver.series), driver.lag_s) for driver in ask.drivers]
    spec: dict[str, Any] = {
        "id": uuid4().hex[:12], "name": ask.name, "step_s": ask.step_s,
        "target": {"series": target.series, "name": target.name, "unit": _unit(target), "entity": target.entity,
                   "counter": is_counter(target.kind, target.name)},
        "drivers": [{"series": info.series, "name": _name(info, lag), "lag_s": lag, "counter": is_counter(info.kind, info.name)}
                    for info, lag in terms],
    }  # fmt: skip
    with app.records.session() as session:
        if len(_specs(session)) >= LIMIT:
            raise Conflict(f"there are {LIMIT} saved regressions already; remove one first")
        session.add(Setting(key=_KEY + spec["id"], value=spec))
        _tell(session, actor.name, "saved", spec)
    return _saved(spec, {})


@router.delete("/regressions/{key}", status_code=204, dependencies=[AUDITED])
def remove(key: str, actor: Operator, app: TheApp) -> None:
    """Watch a regression no more."""
    with app.records.session() as session:
        row = _find(session, key)
        _tell(session, actor.name, "removed", row.value)
        session.delete(row)


def _tell(session: Session, actor: str, change: str, spec: dict[str, Any]) -> None:
    """The audit row, and the change that becomes a `setting` event of the journal."""
    detail = {"name": spec["name"], "before" if change == "removed" else "after": spec}
    session.add(Audit(time=now(), actor=actor, action=f"regression {change}", target=spec["id"], detail=detail))
    data = {"setting": "regression", "value": json.dumps(spec), "title": f"regression {spec['name']} {change} by {actor}", "actor": actor}
    session.add(Outbox(time=now(), topic="setting", kind=change, key=spec["id"], data=data))


def _specs(session: Session) -> list[dict[str, Any]]:
    return [row.value for row in session.scalars(select(Setting).where(Setting.key.startswith(_KEY, autoescape=True)))]


def _find(session: Session, key: str) -> Setting:
    row = session.get(Setting, _KEY + key)
    if row is None:
        raise NotFound(f"there is no saved regression {key}; GET /api/v1/regressions lists those there are")
    return row


def _line(store: Store, info: SeriesInfo, lag_s: int, begin: int, count: int, step: int) -> tuple[F64, Bools]:
    """A series on the grid of `count` steps from `begin` on, as it was `lag_s` before, and in which steps it was measured."""
    first = begin // step - round(lag_s * SECOND / step)
    values, known = np.full(count, np.nan), np.zeros(count, np.bool_)
    counter = is_counter(info.kind, info.name)
    line = read(store, int(info.series), (first - 1) * step, (first + count) * step - 1, counter=counter, step_s=step // SECOND)
    if len(line.times) < 2:
        return values, known
    points: F64 = rate(line.times, line.values) if counter else line.values
    times: I64 = line.times
    good = np.isfinite(points)
    if not good.any():
        return values, known
    times, points, counts = times[good], points[good], line.counts[good]
    grid, (means,), _, _, measured = on_grid(times, [points], points, points, counts, step)
    place = grid // step - first
    inside = (place >= 0) & (place < count)
    values[place[inside]], known[place[inside]] = means[inside], measured[inside]
    return values, known


def _coefficients(fit: analysis.Fit, names: list[str], drivers: list[tuple[str, int]]) -> list[Coefficient]:
    rows = []
    for i, value in enumerate(fit.coefficients.tolist()):
        series, lag = drivers[i - 1] if i else ("", 0)
        half = analysis.Z95 * float(fit.errors[i])
        rows.append(
            Coefficient(
                name=names[i - 1] if i else "constant", series=series, lag_s=lag, value=value, lower=value - half, upper=value + half,
                effect=float(fit.effects[i - 1]) if i else None, inflation=_finite(float(fit.inflation[i - 1])) if i else None,
            )
        )  # fmt: skip
    return rows


def _history(fit: analysis.Fit, times: I64) -> History:
    chosen = np.unique(np.linspace(0, len(fit.history) - 1, min(_SHOWN, len(fit.history))).astype(np.int64))
    values, half = fit.history[chosen], analysis.Z95 * fit.history_errors[chosen]
    at = times[chosen] if len(chosen) else times[:0]
    return History(time=(at / SECOND).tolist(), values=values.tolist(), lower=(values - half).tolist(), upper=(values + half).tolist())


def _beside(ahead: tuple[float, float, float], left_out: int, count: int) -> list[str]:
    model, mean, last = ahead
    said = []
    if model >= mean:
        said.append("in the last three tenths the usual value before was as good a forecast: do not rely on these coefficients")
    if last < model:
        said.append("the value one step before forecasts the target better than the drivers do")
    if left_out:
        said.append(f"{left_out} of {count} steps were left out because not everything was measured in them; nothing was interpolated")
    return said


def _saved(spec: dict[str, Any], told: dict[str, Any]) -> Saved:
    known = told.get("points", 0)
    state: Literal["learning", "as explained", "alarm"] = "alarm" if told.get("firing") else "as explained"
    return Saved(
        id=spec["id"], name=spec["name"], target=spec["target"]["name"], series=spec["target"]["series"], entity=spec["target"]["entity"],
        drivers=[driver["name"] for driver in spec["drivers"]], step_s=spec["step_s"], points=known, skipped=told.get("skipped", 0),
        state=state if told.get("coefficients") else "learning", since=iso(told["since"]) if told.get("since") else None,
        forgetting=told.get("forgetting"), coefficients=told.get("coefficients", []), errors=told.get("errors", []),
    )  # fmt: skip


def _name(info: SeriesInfo, lag_s: int) -> str:
    of = info.entity.partition(":")[2]
    return f"{info.name}{f' of {of}' if of else ''}{f', {lag_s} s before' if lag_s else ''}"


def _unit(info: SeriesInfo) -> str:
    if not is_counter(info.kind, info.name):
        return info.unit
    return f"{'' if info.unit == '1' else info.unit}/s"


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
