"""Root cause, metrics and call graph: the PetShop issues, of which only three metrics a component in steps of 5 min are known.

Every issue is ranked from the three points after its alarm; quiet are the two before it and, at low traffic, 36 points of normal
operation. For the other scenario normal operation is not at hand: there the points before its other issues are quiet. The front end
has the alarm. Normal operation is asked about, too, where nothing is wrong and the right answer is "undetermined".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.data import DATA
from bench.scores.causes import Asked, accuracy, interval, nsigma, place, reliability, simple
from ninefold.analytics.alerts.evidence import LOGS, METRICS
from ninefold.analytics.alerts.invocations import SPANS
from ninefold.analytics.alerts.rootcause import LEAD, Ranking, rank
from ninefold.model.entity import series_id

FOLDER = DATA / "rca" / "petshop"
UNITS = {"latency": "s", "availability": "%", "requests": "{request}"}
NORMAL, HISTORY = "low_traffic/noissue", 36


def measured(frame: pd.DataFrame) -> pa.Table:
    """Rows with a bucket as `METRICS`."""
    rows = frame[np.isfinite(frame.value)]
    keys = rows.node + "|" + rows.metric + "|" + rows["stat"]
    number = {key: series_id("petshop", {"key": key}) for key in keys.unique()}
    columns = [keys.map(number), "service:" + rows.node, rows.metric + "." + rows["stat"], rows.metric.map(UNITS), rows.bucket, rows.value]
    return pa.table([pa.array(column).cast(field.type) for column, field in zip(columns, METRICS, strict=True)], schema=METRICS)


def bucketed(frame: pd.DataFrame, begin: float, last: int = -1) -> pd.DataFrame:
    """Rows with their points numbered: from `LEAD` on from `begin`, and up to `last` before it."""
    times = np.sort(frame.ts.unique())
    before = int((times < begin).sum())
    numbers = {time: i - before + (LEAD if i >= before else last + 1) for i, time in enumerate(times)}
    return frame.assign(bucket=frame.ts.map(numbers))


def needs(scenario: str) -> dict[str, set[str]]:
    """The call graph."""
    graph: dict[str, set[str]] = {}
    for caller, callee in pd.read_csv(FOLDER / f"graph_{scenario}.csv").itertuples(index=False):
        graph.setdefault(f"service:{caller}", set()).add(f"service:{callee}")
    return graph


def quiet(points: pd.DataFrame, cases: pd.DataFrame, case: Any) -> Iterator[pd.DataFrame]:
    """The points that were usual before an issue, last first."""
    if case.scenario == "low_traffic":
        rows = points[points.case == NORMAL]
        yield rows[rows.ts.isin(np.sort(rows.ts.unique())[-HISTORY:])]
        return
    for other in cases[(cases.scenario == case.scenario) & (cases.case != case.case)].itertuples():
        yield points[(points.case == other.case) & (points.ts < other.target_ts)]


def ask() -> Iterator[tuple[Asked, str]]:
    """Every issue, with its split."""
    points, cases = pd.read_parquet(FOLDER / "metrics.parquet"), pd.read_csv(FOLDER / "cases.csv")
    for case in cases.itertuples():
        parts = [bucketed(points[points.case == case.case], case.target_ts)]
        for rows in quiet(points, cases, case):
            parts.append(bucketed(rows, np.inf, int(min(part.bucket.min() for part in parts)) - 1))
        table = measured(pd.concat(parts))
        found = ranked(table, case.scenario, f"service:{case.target_node}")
        truth = f"service:{case.root_cause_node}"
        yield answered(case.target_metric, truth, table, found), case.split


def ranked(table: pa.Table, scenario: str, alerting: str) -> Ranking:
    """The candidates for metrics and graph alone."""
    return rank(table, SPANS.empty_table(), LOGS.empty_table(), needs=needs(scenario), alerts={alerting: 1.0})


def answered(fault: str, truth: str, table: pa.Table, found: Ranking) -> Asked:
    """One answer beside the baselines'."""
    names = [candidate.entity for candidate in found.candidates]
    places = place(names, truth), place(nsigma(table), truth), place(simple(table, SPANS.empty_table(), LOGS.empty_table()), truth)
    return Asked("PetShop", fault, truth, *places, found.verdict, found.candidates[0].confidence if names else 0.0)


def nothing_wrong() -> list[bool]:
    """Whether a cause is named for windows of normal operation, three points each, all different."""
    points = pd.read_parquet(FOLDER / "metrics.parquet")
    points = points[points.case == NORMAL]
    times = np.sort(points.ts.unique())
    named = []
    for start in range(HISTORY, len(times) - 3, 12):
        rows = points[points.ts.isin(times[start - HISTORY : start + 3])]
        named.append(ranked(measured(bucketed(rows, times[start])), "low_traffic", "service:PetSite").verdict == "determined")
    return named


def run() -> list[dict[str, Any]]:
    """All figures."""
    asked, named = list(ask()), nothing_wrong()
    answers = [answer for answer, _ in asked]
    rows = accuracy(answers, "PetShop", {"AC@1": 0.55, "AC@3": 0.85}, {"AC@1": "HT 0.456 of 68", "AC@3": "HT 0.809 of 68"})
    for split in ("train", "test"):
        mine = [answer.rank == 1 for answer, of in asked if of == split]
        share = float(np.mean(mine))
        rows.append({"name": f"PetShop, its {split} issues: AC@1", "value": round(share, 3), "unit": f"of {len(mine)}, 95 % "
                     f"{interval(share, len(mine))}"})  # fmt: skip
    wrong = float(np.mean(named))
    return [
        *rows, *reliability(answers, "PetShop"),
        {"name": "a cause named in normal operation", "value": round(wrong, 3), "target": "< 0.1",
         "unit": f"of {len(named)}, 95 % {interval(wrong, len(named))}"},
    ]  # fmt: skip
