"""Live regression: coefficients recovered from generated data that drift, how often intervals cover, and real metrics forecast from others.

Generated: three drivers with noise that follows itself (AR(1), 0.8), coefficients that stand, walk or jump, residuals that are
normal or have one wild point in fifty; 20 series of 1,000 points each. Real: metrics of the ASD servers and the SMD machines as
targets, the three other metrics of the same machine that correlate most with each over the first tenth (rank correlation) as
drivers; forecasts made before each point was seen, over what follows, against the value before (naive) and against least squares
refitted to all points before at every hundredth point.

    python -m bench.evaluations.regression        prints the table
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd

from bench.data import DATA
from ninefold.analytics.metrics.regression import Z95, recursive, robust

SERIES, POINTS, WARM = 20, 1000, 100
POINTS_REAL, DRIVERS = 1500, 3


def generated(kind: str, wild: bool, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Drivers, target and the true coefficients at each point."""
    rng = np.random.default_rng(seed)
    drivers = rng.normal(size=(POINTS, 3))
    for i in range(1, POINTS):
        drivers[i] += 0.8 * drivers[i - 1]
    truth = np.tile([1.0, -2.0, 0.5], (POINTS, 1))
    if kind == "walking":
        truth = truth + np.cumsum(rng.normal(0, 0.03, truth.shape), axis=0)
    if kind == "jumping":
        truth[POINTS // 2 :] += [2.0, 0.0, -1.0]
    noise = rng.normal(size=POINTS)
    if wild:
        noise[rng.random(POINTS) < 0.02] *= 20
    return drivers, 3 + (drivers * truth).sum(axis=1) + noise, truth


def made_up() -> list[dict[str, Any]]:
    """Errors and coverage on generated data."""
    rows: list[dict[str, Any]] = []
    for kind in ("standing", "walking", "jumping"):
        for wild in (False, True):
            ours, theirs, live, batch = [], [], [], []
            for seed in range(SERIES):
                drivers, target, truth = generated(kind, wild, seed)
                fit = recursive(drivers, target)
                table = np.column_stack((np.ones(POINTS), drivers))
                plain = np.linalg.lstsq(table, target, rcond=None)[0]
                late, now = slice(WARM, None), fit.history[:, 1:]
                ours.append(np.mean((now[late] - truth[late]) ** 2))
                theirs.append(np.mean((plain[1:] - truth[late]) ** 2))
                live.append(np.mean(np.abs(now[late] - truth[late]) <= Z95 * fit.history_errors[late, 1:]))
                if kind == "standing":
                    steady = robust(drivers, target)
                    batch.append(np.mean(np.abs(steady.coefficients[1:] - truth[-1]) <= Z95 * steady.errors[1:]))
            name = f"coefficients {kind}{', wild points' if wild else ''}"
            one, other = float(np.sqrt(np.mean(ours))), float(np.sqrt(np.mean(theirs)))
            peer = f"least squares of all points, in hindsight {other:.3f}"
            target = "" if kind == "standing" else f"≤ {other:.3f}"
            rows.append(_row(f"{name}: RMSE of the live ones", one, target=target, peer=peer, ratio=one / other, lower=True))
            rows.append(_row(f"{name}: 95 % intervals that cover, live", float(np.mean(live)), target=0.9))
            if batch:
                rows.append(_row(f"{name}: 95 % intervals that cover, robust", float(np.mean(batch)), target=0.9))
    return rows


def _row(
    name: str,
    value: float,
    unit: str = "",
    *,
    target: Any = "",
    peer: str = "",
    ratio: float | None = None,
    note: str = "",
    lower: bool = False,
) -> dict[str, Any]:
    """A row of the table."""
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "target": target,
        "peer": peer,
        "ratio": ratio and round(ratio, 2),
        "note": note,
        "lower": lower,
    }


def machines() -> list[tuple[str, np.ndarray]]:
    """Name of the data set and values (points, metrics) of every machine, in order of time."""
    found = []
    for name in ("asd", "smd"):
        frame = pd.read_parquet(DATA / "timeseries" / name / "series.parquet")
        metrics = [column for column in frame.columns if column.startswith("m")]
        found += [(name, rows[metrics].to_numpy(float)[:POINTS_REAL]) for _, rows in frame.sort_values("t").groupby("entity", sort=True)]
    return found


def real() -> list[dict[str, Any]]:
    """Forecasts of real metrics, as the mean absolute error over that of the value before."""
    errors: dict[str, list[tuple[float, float, float]]] = {}
    points, cpu = 0, 0.0
    for name, table in machines():
        values = table[np.isfinite(table).all(axis=1)]
        head = values[: len(values) // 10]
        moving = np.flatnonzero((head.std(axis=0) > 1e-9) & (values.std(axis=0) > 1e-9))
        ranks = np.corrcoef(pd.DataFrame(head[:, moving]).rank().to_numpy().T)
        for i, target in enumerate(moving[::4]):
            order = [j for j in np.argsort(-np.abs(ranks[4 * i])) if j != 4 * i][:DRIVERS]
            drivers, y = values[:, moving[order]], values[:, target]
            started = time.process_time()
            fit = recursive(drivers, y)
            cpu, points = cpu + time.process_time() - started, points + len(y)
            late = slice(len(y) // 10, None)
            naive = float(np.mean(np.abs(np.diff(y))[len(y) // 10 - 1 :]))
            if naive > 1e-9:
                refitted = float(np.mean(np.abs(y - expanding(drivers, y))[late]))
                errors.setdefault(name, []).append((float(np.mean(np.abs(y - fit.fitted)[late])), refitted, naive))
    rows = []
    for name, found in errors.items():
        ours, batch, naive = np.array(found).T
        peer = f"least squares refitted {np.median(batch / naive):.3f}, naive 1"
        what, unit = f"{name.upper()}: error of the forecast from drivers, median of targets", f"of naive's, {len(found)} targets"
        note = "naive knows the target's last value, drivers do not"
        middle = float(np.median(ours / naive))
        target = f"≤ {np.median(batch / naive):.3f}"
        rows.append(_row(what, middle, unit, target=target, peer=peer, ratio=float(np.median(ours / batch)), note=note, lower=True))
    rows.append(_row("CPU of a point, seven discounts", 1e6 * cpu / points, "µs", lower=True))
    return rows


def expanding(drivers: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Forecasts by least squares over all points before, refitted at every hundredth."""
    table, found = np.column_stack((np.ones(len(target)), drivers)), np.full(len(target), target[0])
    for first in range(len(target) // 10, len(target), 100):
        beta = np.linalg.lstsq(table[:first], target[:first], rcond=None)[0]
        found[first : first + 100] = table[first : first + 100] @ beta
    return found


def run() -> list[dict[str, Any]]:
    """All figures."""
    return made_up() + real()


if __name__ == "__main__":
    for line in run():
        print(f"| {line['name']} | {line['value']} | {line['unit']} | {line['target']} | {line['peer']} | {line['ratio'] or ''} |")
