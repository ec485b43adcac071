"""Forecasts: back-test with rolling origins, beside naive, seasonal naive and statsforecast.

Each series is drawn together to at most 2,000 cells, as the program does it; at three origins (55, 70 and 85 % of it) a day is foretold
from what lies before. MASE is the mean absolute error over that of one-step naive in the training part (Hyndman & Koehler 2006), one figure
a series and origin, capped at 50; WAPE is that error over the mean size of what came, capped at 10; both are means over forecasts. Series
are sorted by name and alternate: even ones were used to choose parameters, odd ones are reported. AutoETS and MSTL of statsforecast run on
every eighth series, when it is installed.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bench.data import DATA
from ninefold.analytics.metrics.forecast import forecast
from ninefold.analytics.metrics.seasons import DAY_S, grid

SECOND = 10**9
_CELLS, _ORIGINS, _CAP = 2000, (0.55, 0.7, 0.85), 50.0
_EPOCH = 1_700_006_400 * SECOND  # a Tuesday, 00:00 UTC


class Said(NamedTuple):
    """A forecast: centre, and bounds of 80 and 95 % (None: none given)."""

    centre: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


class Case(NamedTuple):
    """What is known, and what came."""

    group: str
    times: np.ndarray
    past: np.ndarray
    came: np.ndarray
    step_s: int
    season: int


Method = Callable[[Case], Said]


def recorded() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Group, times (ns) and values of every recorded series, in a fixed order."""
    folder = DATA / "timeseries"
    for group, name in (("NAB", "nab"), ("MS Cloud", "ms_cloud_monitoring")):
        table = pd.read_parquet(folder / name / "series.parquet")
        for _, found in table.groupby("series_id", sort=True):
            rows = found.drop_duplicates("timestamp").sort_values("timestamp")
            yield (
                group,
                pd.to_datetime(rows["timestamp"], utc=True).dt.tz_localize(None).to_numpy("datetime64[ns]").astype(np.int64),
                rows["value"].to_numpy(np.float64),
            )
    for group, name, step, every in (("ASD", "asd", 300, 2), ("SMD", "smd", 60, 1)):
        table = pd.read_parquet(folder / name / "series.parquet")
        metrics = [column for column in table.columns if column.startswith("m")]
        for place, (_, rows) in enumerate(table.groupby("entity", sort=True)):
            times = _EPOCH + np.arange(len(rows), dtype=np.int64) * step * SECOND
            for metric in metrics[place % every :: every]:
                yield group, times, rows[metric].to_numpy(np.float64)


def generated() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Hourly series of eight weeks: trend, day, week, a change of level, wild values, counts, walks."""
    hours = np.arange(8 * 168)
    times = _EPOCH + hours.astype(np.int64) * 3600 * SECOND
    for seed in range(8):
        rng = np.random.default_rng(100 + seed)
        noise = rng.normal(0, 1, len(hours))
        day, week = 5 * np.sin(hours * 2 * np.pi / 24 + seed), np.where(hours // 24 % 7 >= 5, -4.0, 0.0)
        wild = np.where(rng.random(len(hours)) < 0.01, rng.normal(0, 40, len(hours)), 0.0)
        yield "generated", times, 50 + 0.02 * hours + noise
        yield "generated", times, 50 + day + week + noise + wild
        yield "generated", times, 50 + day + noise + np.where(hours > 500 + 90 * seed, 20.0, 0.0)
        yield "generated", times, rng.poisson(np.maximum(4 + 0.7 * day, 0.2)).astype(float)
        yield "generated", times, 50 + np.cumsum(noise) * 0.3


def cases(odd: bool, every: int = 1) -> Iterator[Case]:
    """The cases of every second series, of those every `every`-th."""
    for place, (group, times, values) in enumerate([*recorded(), *generated()]):
        if place % 2 != odd or place // 2 % every:
            continue
        whole = grid(times, values, _CELLS)
        ahead = DAY_S // whole.step_s
        for share in _ORIGINS:
            origin = int(share * len(whole.values))
            past, came = whole.values[:origin], whole.values[origin : origin + ahead]
            steps = np.abs(np.diff(past[np.isfinite(past)]))
            if np.isfinite(came).sum() >= ahead / 2 and len(steps) > 40 and steps.mean() > 1e-9 * (np.nanmax(np.abs(past)) + 1e-300):
                yield Case(group, whole.times[:origin], past, came, whole.step_s, DAY_S // whole.step_s)


def ours(case: Case) -> Said:
    """This program."""
    found = forecast(case.times, case.past, len(case.came) * case.step_s, step_s=case.step_s)
    assert found is not None
    return Said(found.centre, found.lower, found.upper)


def naive(case: Case) -> Said:
    """The last value."""
    return Said(np.full(len(case.came), case.past[np.isfinite(case.past)][-1]))


def seasonal(case: Case) -> Said:
    """The day before; the last value where that is missing or there was none."""
    if len(case.past) < case.season:
        return naive(case)
    before = np.resize(case.past[-case.season :], len(case.came))
    return Said(np.where(np.isfinite(before), before, naive(case).centre))


def peers() -> dict[str, Method]:
    """AutoETS and MSTL, when statsforecast is installed."""
    try:
        from statsforecast.models import MSTL, AutoETS
    except ImportError:
        return {}

    def method(make: Callable[[Case], Any]) -> Method:
        def run(case: Case) -> Said:
            known = pd.Series(case.past).interpolate(limit_direction="both").to_numpy()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                said = make(case).forecast(y=known, h=len(case.came), level=[80, 95])
            low, high = (np.stack([said[f"{side}-{level}"] for level in (80, 95)]) for side in ("lo", "hi"))
            return Said(said["mean"], low, high)

        return run

    return {
        "AutoETS": method(lambda case: AutoETS(season_length=case.season if case.season <= 24 else 1)),
        "MSTL": method(lambda case: MSTL(season_length=case.season)),
    }


def score(method: Method, chosen: list[Case]) -> dict[str, Any]:
    """Figures of a method: MASE a case, mean WAPE, points inside and judged by level, CPU seconds."""
    mase, groups, missed, size, inside, judged, width = [], [], 0.0, 0.0, np.zeros(2), 0, []
    begin = time.process_time()
    said = [method(case) for case in chosen]
    cpu = time.process_time() - begin
    for case, one in zip(chosen, said, strict=True):
        known = np.isfinite(case.came)
        error = np.abs(one.centre - case.came)[known]
        scale = np.abs(np.diff(case.past[np.isfinite(case.past)])).mean()
        mase.append(min(error.mean() / scale, _CAP))
        groups.append(case.group)
        typical = np.nanmean(np.abs(case.came)) + 1e-12
        missed, size = missed + min(error.mean() / typical, 10.0), size + 1.0
        if one.low is not None and one.high is not None:
            slack = 1e-9 * (np.nanmax(np.abs(case.past)) + 1e-12)
            inside += ((case.came >= one.low - slack) & (case.came <= one.high + slack))[:, known].sum(axis=1)
            judged += int(known.sum())
            width.append((one.high - one.low)[1][known].mean() / scale)
    return {
        "mase": np.array(mase), "groups": np.array(groups), "wape": missed / max(size, 1.0), "cpu": cpu / max(len(chosen), 1),
        "coverage": inside / max(judged, 1), "width": float(np.mean(width)) if width else 0.0,
    }  # fmt: skip


def run() -> list[dict[str, Any]]:
    """The table's rows."""
    chosen = list(cases(odd=True))
    ours(chosen[0])  # compiles
    mine, last, before = score(ours, chosen), score(naive, chosen), score(seasonal, chosen)
    rows = []
    for group in dict.fromkeys(mine["groups"]):
        at = mine["groups"] == group
        value, a, b = (part["mase"][at].mean() for part in (mine, last, before))
        text = f"naive {a:.3g}, seasonal naive {b:.3g}"
        rows.append({"name": f"{group}: MASE of a day ahead ({at.sum()} forecasts)", "value": value, "target": f"≤ {min(a, b):.4g}",
                     "peer": text, "ratio": value / min(a, b)})  # fmt: skip
    least = min(last["wape"], before["wape"])
    rows.append(
        {"name": "all: WAPE", "value": mine["wape"], "target": f"≤ {least:.4g}", "ratio": mine["wape"] / least,
         "peer": f"naive {last['wape']:.3g}, seasonal naive {before['wape']:.3g}"}
    )  # fmt: skip
    for level, value in zip((80, 95), mine["coverage"], strict=True):
        rows.append(
            {"name": f"all: what came lies within the bounds of {level} %", "value": 100 * value, "unit": "%", "target": f"≥ {level - 3}"}
        )
    rows.append({"name": "CPU a forecast", "value": 1000 * mine["cpu"], "unit": "ms", "target": "≤ 20"})
    return [*rows, *beside()]


def beside() -> list[dict[str, Any]]:
    """Rows about the subsample on which the slow peers run too."""
    some, rivals = list(cases(odd=True, every=8)), peers()
    small, rows, widths = score(ours, some), list[dict[str, Any]](), list[str]()
    for name, rival in rivals.items():
        theirs = score(rival, some)
        value, other = small["mase"].mean(), theirs["mase"].mean()
        text = f"{name} {other:.3g}, {1000 * theirs['cpu']:.0f} ms, covers {100 * theirs['coverage'][1]:.0f} % of 95"
        widths.append(f"{name} {theirs['width']:.3g}")
        rows.append({"name": f"MASE on every eighth series ({len(some)} forecasts), beside {name}", "value": value,
                     "target": f"≤ {other:.4g}", "peer": text, "ratio": value / other})  # fmt: skip
    held = f"{100 * small['coverage'][1]:.0f} %"
    rows.append(
        {"name": f"width of the bounds of 95 % on these, which hold {held} of what came", "value": small["width"],
         "unit": "one-step naive errors", "lower": True, "peer": ", ".join(widths)}
    )  # fmt: skip
    if not rivals:
        rows[-1]["note"] = (
            "statsforecast is not installed here, so AutoETS and MSTL were not run; "
            "`make evaluate` installs it where there is a package registry"
        )
    return rows
