"""Evidence from a rollout half done: what runs of the new version beside what still runs of the old one.

While a change is rolled out, both versions serve the same callers in the same minutes, so the difference between them is the
change's own doing, whatever else goes on (canary contrast after ChangeRCA: Yu et al., FSE 2024). A version that fails its callers
shows in that contrast; one that never comes up shows by its silence while other entities that changed report anew.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from ninefold.analytics.alerts.deviation import F64, squash
from ninefold.analytics.alerts.evidence import FELT
from ninefold.analytics.alerts.invocations import Evidence, Line
from ninefold.analytics.findings import quantity

_BESIDE = 5
"""Buckets before the new version's first that the old one is looked at in."""
_SLOW = 0.4
"""What slowness counts beside failure: whatever has just started is slow."""
_SILENT = 1.0


def rollout_evidence(metrics: pa.Table, changed: Mapping[str, int]) -> Evidence:
    """What tells the new version of changed entities from the old.

    Args:
        metrics: `evidence.METRICS`; a series that begins when its entity changed is of the new version.
        changed: the bucket of each entity's latest change.
    """
    found, silent, renewed = Evidence(), [], False
    of = metrics.column("entity").combine_chunks().dictionary_encode() if metrics.num_rows and changed else None
    for entity, since in sorted(changed.items()):
        code = of.dictionary.index(entity).as_py() if of is not None else -1
        if of is None or code < 0:
            continue
        rows = metrics.filter(pa.array(of.indices.to_numpy() == code))
        lines, replicas, fresh = _contrast(rows, since)
        renewed = renewed or fresh
        if lines:
            found.lines[entity] = lines
            found.scores[entity] = max(line.score for line in lines)
        elif not fresh and replicas > 1 and since < 2:
            silent.append(entity)
    for entity in silent if renewed else ():
        found.scores[entity] = _SILENT
        found.lines[entity] = [Line(_SILENT, "its new version has not reported anything yet")]
    return found


def _contrast(rows: pa.Table, since: int) -> tuple[list[Line], int, bool]:
    """One entity's series: what is worse in the new ones, the most replicas that report one metric, and whether any is new."""
    _, at = np.unique(rows.column("series").to_numpy(), return_inverse=True)
    bucket, value = rows.column("bucket").to_numpy(), rows.column("value").to_numpy()
    born = np.full(at.max() + 1, np.iinfo(np.int64).max)
    np.minimum.at(born, at, bucket)
    new = (born >= since - 1)[at]
    names, units = rows.column("name").to_numpy(), rows.column("unit").to_numpy()
    lines, replicas = [], 0
    for name in np.unique(names):
        mine = names == name
        replicas = max(replicas, len(np.unique(at[mine & ~new])))
        unit = str(units[mine][0])
        if unit not in FELT or not (mine & new).any():
            continue
        first = int(bucket[mine & new].min())
        score, now, usual = _worse(value[mine & new], value[mine & ~new & (bucket >= first - _BESIDE)], unit == "%")
        if score > 0:
            text = f"{name} of its new version is {quantity(now, unit)}, of the old one {quantity(usual, unit)}"
            lines.append(Line(score, text, bucket=max(first, 0)))
    return lines, replicas, bool(new.any())


def _worse(new: F64, old: F64, share: bool) -> tuple[float, float, float]:
    """How much worse the new version's values are (a share: lower, else: higher), and both sides' usual values."""
    if len(old) < 3:
        return 0.0, 0.0, 0.0
    now, usual = (float(np.mean(side) if share else np.median(side)) for side in (new, old))
    size = min(usual, 100 - usual) if share else abs(usual)
    spread = max(1.4826 * float(np.median(np.abs(old - usual))), 0.25 * size, 2.0 if share else 0.005)
    z = np.array([max(usual - now if share else now - usual, 0.0) / spread])
    return float(squash(z)[0]) * (1.0 if share else _SLOW) * len(new) / (len(new) + 1), now, usual
