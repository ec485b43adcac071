"""Root cause, alerts only: where the fault is when nothing but alerts is known (recorded Boutique, 70 faults of pods, services, nodes).

Pods count for their services. What an alert tells is learned from the faults before (and, beside it, from all the others, as when
an incident comes to a system that is known well). The verdict must stay "undetermined": alerts alone are no evidence.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.data import DATA
from bench.scores.causes import hits, interval, place
from ninefold.analytics.alerts.evidence import LOGS, METRICS
from ninefold.analytics.alerts.invocations import SPANS
from ninefold.analytics.alerts.rarity import Alert, at_home, rarity
from ninefold.analytics.alerts.rootcause import rank

FOLDER = DATA / "alerts" / "boutique_cloudbed1"


def home(entity: str) -> str:
    """The service of a pod; a node stays what it is."""
    return entity if entity.startswith("node") else re.sub(r"2?-\d+$", "", entity)


def incidents() -> tuple[list[list[Alert]], list[str]]:
    """The distinct alerts of each fault in order of time, of a slow call at the callee, and where the fault was."""
    alerts, labels = pd.read_parquet(FOLDER / "alerts.parquet"), pd.read_csv(FOLDER / "labels.csv").sort_values("fault_st_time")
    entity = alerts.entity.where(alerts.modality != "trace", alerts.peer_or_host.fillna(alerts.entity))
    rule = alerts.modality + ":" + alerts["name"] + ":" + alerts.value.fillna("")
    by_fault = {fault: sorted(set(zip(entity[rows], rule[rows], strict=True))) for fault, rows in alerts.groupby("fault_id").groups.items()}
    return [by_fault[fault] for fault in labels.fault_id], [home(name) for name in labels.fault_entity]


def needs() -> dict[str, set[str]]:
    """Who calls whom, services only."""
    graph: dict[str, set[str]] = {}
    for edge in json.loads((FOLDER / "topology.json").read_text())["edges"]:
        if edge["label"] == "control_flow":
            graph.setdefault(home(edge["source"]), set()).add(home(edge["target"]))
    return graph


def ranks(told: Sequence[list[Alert]], truths: Sequence[str], known: str) -> tuple[list[int], list[str]]:
    """The place of the true entity and the verdict, fault by fault."""
    homes, graph = {entity: home(entity) for incident in told for entity, _ in incident}, needs()
    places, verdicts = [], []
    for i, mine in enumerate(told):
        past = told[:i] if known == "before" else [*told[:i], *told[i + 1 :]]
        alerts = at_home(rarity(mine, past), homes)
        found = rank(METRICS.empty_table(), SPANS.empty_table(), LOGS.empty_table(), needs=graph, alerts=alerts)
        places.append(place([candidate.entity for candidate in found.candidates], truths[i]))
        verdicts.append(found.verdict)
    return places, verdicts


def run() -> list[dict[str, Any]]:
    """All figures, beside counting alerts."""
    told, truths = incidents()
    counts = [Counter(home(entity) for entity, _ in mine) for mine in told]
    counted = [
        place(sorted(count, key=lambda entity: (-count[entity], entity)), truth) for count, truth in zip(counts, truths, strict=True)
    ]
    rows: list[dict[str, Any]] = []
    for known, words in (("before", "what came before"), ("others", "all other faults")):
        places, verdicts = ranks(told, truths, known)
        for k in (1, 3):
            share, theirs = hits(places, k), hits(counted, k)
            rows.append({"name": f"AC@{k}, knowing {words}", "value": round(share, 3), "unit": f"{len(told)} faults, 95 % "
                         f"{interval(share, len(told))}", "target": 0.45 if k == 1 else None, "peer": f"most alerts first {theirs:.3f}",
                         "ratio": round(share / theirs, 1) if theirs else None})  # fmt: skip
        if known == "before":
            named = float(np.mean([verdict == "determined" for verdict in verdicts]))
            rows.append({"name": "a cause named on alerts alone", "value": named, "target": "< 0.01"})
    return rows
