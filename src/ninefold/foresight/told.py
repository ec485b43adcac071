"""Forecasts as events, so that they can be judged when their time has come, and warnings of thresholds as anomalies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ninefold.analytics.findings import anomaly, quantity
from ninefold.analytics.metrics.describing import is_counter
from ninefold.foresight.looking import View
from ninefold.foresight.thresholds import Threshold
from ninefold.ground.clock import SECOND, iso
from ninefold.model.signal import event_id

NAME, SOURCE = "foresight", "ninefold.foresight"
LEADS = {"1h": 3600, "1d": 86400, "7d": 7 * 86400}
"""What is kept of a forecast to judge it by: the leads in seconds."""
_DAY = 86400 * SECOND


def kept(series: Mapping[str, Any], view: View, threshold: Threshold, now: int, horizon_s: float) -> dict[str, Any]:
    """The event of one forecast; its id is of the series and the time it was made at."""
    attributes = {
        "series": str(series["series"]), "metric": series["name"], "unit": series["unit"], "why": threshold.why,
        "direction": "above" if threshold.above else "below", "horizon_s": f"{horizon_s:.0f}",
    }  # fmt: skip
    if view.threshold is not None and not threshold.date:
        attributes["threshold"] = f"{view.threshold:.12g}"
    if is_counter(series["kind"], series["name"]):
        attributes["of"] = "rate"
    if view.breach is not None:
        ends = {"earliest": view.breach.earliest, "likely": view.breach.likely, "latest": view.breach.latest}
        attributes |= {name: iso(time) for name, time in ends.items() if time is not None}
        attributes["chance"] = f"{view.breach.chance:.4f}"
    made = view.forecast
    if made is not None:
        attributes |= {"model": made.model, "trained_from": iso(made.trained_from), "last": f"{made.last:.12g}"}
        for name, lead in LEADS.items():
            said = made.at(now + lead * SECOND)
            if said is not None:
                centre, lower, upper = said
                numbers = {"": centre, "_lower": lower[-1], "_upper": upper[-1], "_lower_80": lower[0], "_upper_80": upper[0]}
                attributes |= {f"plus_{name}{end}": f"{number:.12g}" for end, number in numbers.items()}
    return {
        "id": event_id(NAME, str(series["series"]), str(now)), "time": now, "kind": "forecast", "source_id": str(series["series"]),
        "entity": series["entity"], "title": title(series, view, now), "severity": "info", "attributes": attributes,
    }  # fmt: skip


def warning(
    series: Mapping[str, Any], view: View, threshold: Threshold, *, now: int, since: int, firing: bool, horizon_s: float
) -> dict[str, Any]:  # fmt: skip
    """The anomaly of a threshold that will be met, or its end."""
    met = view.breach
    attributes = {
        "reason": "time-to-threshold", "metric": series["name"], "unit": series["unit"], "why": threshold.why,
        "horizon": f"{horizon_s:.0f} s",
    }  # fmt: skip
    if view.forecast is not None:
        attributes |= {"value": f"{view.forecast.last:.6g}", "model": view.forecast.model}
    if view.threshold is not None and not threshold.date:
        attributes["threshold"] = f"{view.threshold:.6g}"
    near = None
    if met is not None:
        ends = {"earliest": met.earliest, "likely": met.likely, "latest": met.latest}
        attributes |= {name: iso(time) for name, time in ends.items() if time is not None}
        attributes |= {"chance": f"{met.chance:.3f}", "score": f"{-math.log10(max(1.0 - met.chance, 1e-9)):.3g}"}
        near = met.likely
    said = title(series, view, now) if firing else f"{_what(series)} is not expected to meet its limit any more"
    severity = "high" if near is not None and near - now < _DAY else "warning"
    return anomaly(
        NAME, {"series": str(series["series"])}, entity=series["entity"], time=now, since=since, firing=firing, title=said,
        severity=severity, attributes=attributes,
    )  # fmt: skip


def over(series: Mapping[str, Any], *, now: int, since: int) -> dict[str, Any]:
    """The end of a warning about a series that is not looked ahead of any more."""
    return anomaly(
        NAME, {"series": str(series["series"])}, entity=series["entity"], time=now, since=since, firing=False,
        title=f"{_what(series)} is not looked ahead of any more: it has had no points lately, has no threshold, or cannot be forecast",
        attributes={"reason": "time-to-threshold", "metric": series["name"], "unit": series["unit"]},
    )  # fmt: skip


def title(series: Mapping[str, Any], view: View, now: int) -> str:
    """One sentence about what is ahead."""
    what, met = _what(series), view.breach
    if met is None or met.likely is None:
        return f"{what} does not meet its limit within what can be foreseen"
    if met.likely <= now and view.forecast is None:
        return f"{what} has ended"
    limit = "its end" if view.forecast is None or view.threshold is None else _quantity(view.threshold, series["unit"])
    between = "" if met.earliest is None or met.earliest == met.likely else f", at the earliest in {_span(met.earliest - now)}"
    return f"{what} reaches {limit} in {_span(met.likely - now)}{between}"


def _quantity(value: float, unit: str) -> str:
    """A threshold for people; a share as per cent."""
    return quantity(100.0 * value, "%") if unit == "1" and 0.0 < value <= 1.0 else quantity(value, unit)


def _what(series: Mapping[str, Any]) -> str:
    entity = series["entity"].partition(":")[2] or series["entity"]
    return f"{series['name']} of {entity}" if entity else str(series["name"])


def _span(ns: int) -> str:
    hours = max(ns, 0) / (3600 * SECOND)
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"
