"""How often the true cause comes first, with intervals and by fault, beside two simple baselines; and if confidence can be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

Row = dict[str, Any]


class Asked(NamedTuple):
    """One fault and what was answered: ranks of the true entity (0: not named) by us and by the baselines."""

    system: str
    fault: str
    service: str
    rank: int
    nsigma: int
    simple: int
    verdict: str
    confidence: float
    seconds: float = 0.0
    cpu: float = 0.0


def place(names: Sequence[str], name: str) -> int:
    """The rank of a name, 0 when it is not there."""
    return names.index(name) + 1 if name in names else 0


def _halves(frame: pd.DataFrame, key: str, value: str) -> pd.DataFrame:
    """By entity and series how many standard deviations the incident's highest and lowest value are away from the quiet mean."""
    quiet = frame.bucket < 0
    usual = frame[quiet].groupby(["entity", key], observed=True)[value].agg(["mean", "std", "size"])
    now = frame[~quiet].groupby(["entity", key], observed=True)[value].agg(["max", "min"])
    both = usual[usual["size"] > 1].join(now, how="inner")
    spread = both["std"] + 1e-9
    return pd.DataFrame({"up": (both["max"] - both["mean"]) / spread, "down": (both["mean"] - both["min"]) / spread}).reset_index()


def _frame(table: pa.Table, *columns: str) -> pd.DataFrame:
    return table.select(["entity", "bucket", *columns]).to_pandas()


def nsigma(metrics: pa.Table) -> list[str]:
    """Entities by the largest deviation of a metric in standard deviations (RCAEval's nsigma)."""
    found = _halves(_frame(metrics, "series", "value"), "series", "value")
    best = found[["up", "down"]].max(axis=1).groupby(found.entity).max()
    return sorted(best.index, key=lambda entity: (-best[entity], entity))


def simple(metrics: pa.Table, spans: pa.Table, logs: pa.Table) -> list[str]:
    """Entities by how many rules they break: a metric beyond 3 sigma, an operation's P95 beyond its own by 3 sigma, more lines
    of severity error than 3 sigma (SimpleRCA, arXiv 2510.04711: strong on most published data)."""
    found = [_halves(_frame(metrics, "series", "value"), "series", "value")]
    if spans.num_rows:
        frame = _frame(spans, "name", "duration")
        slow = frame.groupby(["entity", "name", "bucket"], observed=True).duration.quantile(0.95).reset_index()
        found.append(_halves(slow, "name", "duration"))
    if logs.num_rows:
        frame = _frame(logs, "count", "severity")
        bad = frame[frame.severity >= 17].pivot_table(index="entity", columns="bucket", values="count", aggfunc="sum")
        told = bad.reindex(columns=sorted(frame.bucket.unique())).fillna(0.0).stack().rename("lines").reset_index().assign(name="errors")
        found.append(_halves(told, "name", "lines"))
    broken = pd.concat(found, ignore_index=True)
    votes, size = (broken.up > 3).groupby(broken.entity).sum(), broken.up.groupby(broken.entity).max()
    return sorted(size.index, key=lambda entity: (-votes[entity], -size[entity], entity))


def hits(ranks: Sequence[int], k: int) -> float:
    """AC@k: the share of cases with the true one among the first k."""
    return float(np.mean([0 < rank <= k for rank in ranks]))


def interval(share: float, n: int) -> str:
    """Wilson's 95 % interval of a share."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return f"{max(middle - half, 0.0):.2f} to {min(middle + half, 1.0):.2f}"


def accuracy(
    asked: Sequence[Asked], system: str, targets: Mapping[str, float], published: Mapping[str, str] | None = None, note: str = ""
) -> list[Row]:
    """AC@1, AC@3 and the mean over the first one to five, with Wilson intervals, then AC@1 by fault; beside the better baseline."""
    some, rows = [one for one in asked if one.system == system], []
    ranks = [[getattr(one, which) for one in some] for which in ("rank", "nsigma", "simple")]
    for name, figure in (("AC@1", (1,)), ("AC@3", (3,)), ("Avg@5", (1, 2, 3, 4, 5))):
        ours, sigma, rules = (float(np.mean([hits(each, k) for k in figure])) for each in ranks)
        peer = f"SimpleRCA {rules:.3f}, nsigma {sigma:.3f}" + (f", published {published[name]}" if published and name in published else "")
        unit = f"{len(some)} faults, 95 % {interval(ours, len(some))}" if len(figure) == 1 else ""
        best = max(sigma, rules)
        row = {"name": f"{system} {name}", "value": round(ours, 3), "unit": unit, "target": targets.get(name), "peer": peer}
        missed = note if name in targets and ours < targets[name] else ""
        rows.append({**row, "ratio": round(ours / best, 1) if best else None, "note": missed})
    for fault in sorted({one.fault for one in some}):
        mine = [one for one in some if one.fault == fault]
        ours, sigma, rules = (hits([getattr(one, which) for one in mine], 1) for which in ("rank", "nsigma", "simple"))
        unit = f"of {len(mine)}, 95 % {interval(ours, len(mine))}"
        peer = f"SimpleRCA {rules:.3f}, nsigma {sigma:.3f}"
        rows.append({"name": f"{system}, {fault}: AC@1", "value": round(ours, 3), "unit": unit, "peer": peer})
    return rows


def reliability(asked: Sequence[Asked], what: str) -> list[Row]:
    """Whether it is right as often as it says: on every second case of each system, from the second (the others fitted the curve)."""
    order: Counter[str] = Counter()
    held = []
    for one in asked:
        order[one.system] += 1
        if order[one.system] % 2 == 0:
            held.append(one)
    right = np.array([one.rank == 1 for one in held], float)
    said = np.array([one.confidence for one in held])
    sure = np.array([one.verdict == "determined" for one in held])
    rows: list[Row] = [
        {"name": f"{what}: right when determined", "value": round(float(right[sure].mean()), 3) if sure.any() else 0.0,
         "unit": f"{sure.sum()} of {len(held)} held out", "peer": f"mean confidence {said[sure].mean():.2f}" if sure.any() else ""},
        {"name": f"{what}: Brier score of the confidence", "value": round(float(np.mean((said - right) ** 2)), 3), "target": "< 0.25",
         "peer": f"always the mean {right.mean() * (1 - right.mean()):.3f}"},
    ]  # fmt: skip
    for low, high in ((0.0, 0.3), (0.3, 0.5), (0.5, 0.8), (0.8, 1.0)):
        mine = (said >= low) & (said < high)
        if mine.any():
            share, n = float(right[mine].mean()), int(mine.sum())
            rows.append({"name": f"{what}: right where {low} to {high} is said", "value": round(share, 3),
                         "unit": f"{n} held out, 95 % {interval(share, n)}", "peer": f"said {said[mine].mean():.2f}"})  # fmt: skip
    return rows
