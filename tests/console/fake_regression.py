"""Regressions and behaviour of an entity, canned; made by the API's own models, so that they have its shapes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from fake_words import rfc

from ninefold.web.api.behaviour import Behaviour
from ninefold.web.api.regression import Regression, Saved, SavedHistory, SavedList

SAVED = "0123456789ab"
_STEPS = 60


def answers(now: datetime) -> dict[str, Any]:
    """Answers of GET by path below the API's root; `{id}` and `{entity:path}` stand for any."""
    return {
        "regressions": SavedList(items=[saved(now)]).model_dump(),
        "regressions/{id}": _history(now).model_dump(),
        "entities/{entity:path}/behaviour": _behaviour(now),
    }


def saved(now: datetime) -> Saved:
    """One that is watched and has an alarm."""
    return Saved(
        id=SAVED, name="latency by load", target="http.server.request.duration.p99", series="1001", entity="service:shop/cart",
        drivers=["shop.orders, 300 s before"], step_s=60, points=412, skipped=3, state="alarm",
        since=rfc(now - timedelta(minutes=9)), forgetting=0.99, coefficients=[0.1, 0.02], errors=[0.01, 0.004],
    )  # fmt: skip


def fit(now: datetime, ask: dict[str, Any]) -> dict[str, Any]:
    """A fit of what was asked: the target rises with each driver, and leaves what they explain near the end."""
    times = [now.timestamp() - 60 * (_STEPS - step) for step in range(_STEPS)]
    fitted = [0.1 + 0.01 * (step % 12) for step in range(_STEPS)]
    residual = [6.0 if 50 <= step < 56 else 0.5 * (-1) ** step for step in range(_STEPS)]
    terms = [("constant", "", 0), *((f"driver {one['series']}", one["series"], one["lag_s"]) for one in ask["drivers"])]
    recursive = ask["method"] == "recursive"
    values = [[0.1, *(0.02 for _ in ask["drivers"])] for _ in range(10)]
    return Regression.model_validate({
        "target": "http.server.request.duration.p99", "unit": "s", "entity": "service:shop/cart", "method": ask["method"],
        "step_s": ask["step_s"], "points": _STEPS, "left_out": 4,
        "coefficients": [
            {"name": name, "series": series, "lag_s": lag, "value": 0.02, "lower": 0.012, "upper": 0.028,
             "effect": 0.8 if series else None, "inflation": 1.2 if series else None} for name, series, lag in terms
        ],
        "explained": 0.71, "forgetting": 0.98 if recursive else 1.0, "ridge": 0.0, "condition": 3.1,
        "out_of_time": {"model": 0.011, "mean": 0.031, "last": 0.014}, "time": times, "fitted": fitted, "residual": residual,
        "value": [at + 0.01 * off for at, off in zip(fitted, residual, strict=True)],
        "history": {
            "time": times[::6], "values": values, "lower": [[each - 0.01 for each in row] for row in values],
            "upper": [[each + 0.01 for each in row] for row in values],
        } if recursive else {"time": [], "values": [], "lower": [], "upper": []},
        "alarms": [{"time": rfc(now - timedelta(minutes=10)), "until": rfc(now - timedelta(minutes=4)), "peak": 6.0}],
        "words": ["the drivers explain 71 % of the variance of http.server.request.duration.p99"],
    }).model_dump()  # fmt: skip


def _history(now: datetime) -> SavedHistory:
    times = [now.timestamp() - 60 * (30 - step) for step in range(30)]
    return SavedHistory(
        id=SAVED, time=times, value=[0.2 + 0.01 * (step % 5) for step in range(30)], fitted=[0.2] * 30,
        residual=[float(step % 5) for step in range(30)], coefficients=[[0.1, 0.02]] * 30, errors=[[0.01, 0.004]] * 30,
    )  # fmt: skip


def _behaviour(now: datetime) -> dict[str, Any]:
    metric = {"unit": "s", "value": 1.2, "usual": 0.11}
    return Behaviour.model_validate({
        "entity": "service:shop/cart",
        "together": {
            "judged": True, "learned_minutes": 900, "score": 7.4, "rank": 3.2, "since": rfc(now - timedelta(minutes=12)),
            "metrics": [metric | {"metric": f"metric {n}", "deviation": 9.1 - 2 * n, "contribution": 0.6 / (n + 1)} for n in range(7)],
        },
        "peers": {
            "group": "pod:shop/cart", "since": None,
            "metrics": [metric | {"metric": "p99", "median": 0.1, "siblings": 5, "deviation": -1.4}],
        },
    }).model_dump()  # fmt: skip
