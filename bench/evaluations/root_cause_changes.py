"""Root cause, changes: which of several releases rolled out at once broke the system (ChangeRCA's incidents), by metrics of the pods.

Known when asked: the metrics of every pod up to a minute after the detection, and the releases begun before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.data import DATA
from bench.scores.causes import Asked, accuracy, nsigma, place, reliability, simple
from ninefold.analytics.alerts.evidence import LOGS, METRICS
from ninefold.analytics.alerts.invocations import SPANS
from ninefold.analytics.alerts.rootcause import LEAD, Changed, rank
from ninefold.ground.clock import SECOND
from ninefold.model.entity import series_id

FOLDER = DATA / "rca" / "changerca_boutique"


def measured(rows: pd.DataFrame, detected: int) -> pa.Table:
    """One incident's metrics: of pods their CPU and memory, of their calls success and latency."""
    service = rows.pod.str.replace(r"-v\d+-.*$", "", regex=True)
    rows = rows.assign(entity="service:" + service, bucket=(rows.ts - detected) // 60 + LEAD)
    side = np.where(rows.src == service, "client." + rows.dst, "server." + rows.src)
    pods = rows.drop_duplicates(["pod", "bucket"])
    parts = [
        pods.assign(name="pod.cpu", unit="%", value=pods.cpu_pct),
        pods.assign(name="pod.memory", unit="%", value=pods.mem_pct),
        rows.assign(name="success." + side, unit="%", value=rows.success_rate),
        rows.assign(name="latency." + side, unit="s", value=rows.latency_s),
    ]
    told = pd.concat(parts)
    told = told[np.isfinite(told.value)].groupby(["entity", "pod", "name", "unit", "bucket"], as_index=False).value.mean()
    number = (told.pod + "|" + told["name"]).map(lambda key: series_id("change", {"key": key}))
    columns = [number, told.entity, told["name"], told.unit, told.bucket, told.value]
    return pa.table([pa.array(column).cast(field.type) for column, field in zip(columns, METRICS, strict=True)], schema=METRICS)


def ask() -> Iterator[Asked]:
    """Every incident."""
    metrics, cases = pd.read_parquet(FOLDER / "metrics.parquet"), pd.read_csv(FOLDER / "cases.csv")
    steps, calls = pd.read_csv(FOLDER / "changes.csv"), pd.read_csv(FOLDER / "dependency.csv")
    needs: dict[str, set[str]] = {}
    for caller, callee in zip(calls.Source, calls.Target, strict=True):
        needs.setdefault(f"service:{caller}", set()).add(f"service:{callee}")
    for case in cases.itertuples():
        begun = steps[(steps.case == case.case) & (steps.step_ts <= case.detect_ts)].groupby("service").step_ts.min()
        changes = [Changed(f"service:{s}", float(case.detect_ts - at), f"{s} v2", int(at) * SECOND) for s, at in begun.items()]
        table = measured(metrics[(metrics.case == case.case) & (metrics.ts < case.detect_ts + 60)], case.detect_ts)
        spans, logs = SPANS.empty_table(), LOGS.empty_table()
        found = rank(table, spans, logs, needs=needs, changes=changes, alerts={"service:frontend": 1.0})
        names, truth = [candidate.entity for candidate in found.candidates], f"service:{case.root_cause_change}"
        released = {change.entity for change in changes}
        rules, sigma = ([name for name in ranked if name in released] for ranked in (simple(table, spans, logs), nsigma(table)))
        yield Asked("ChangeRCA", case.fault, truth, place(names, truth), place(sigma, truth), place(rules, truth), found.verdict,
                    found.candidates[0].confidence if names else 0.0)  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All figures; the baselines rank only what was released."""
    asked = list(ask())
    published = {"AC@1": "ChangeRCA 0.882 of 51", "AC@3": "ChangeRCA 1.000 of 51"}
    return [*accuracy(asked, "ChangeRCA", {"AC@1": 0.88}, published), *reliability(asked, "ChangeRCA")]
