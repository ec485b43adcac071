"""How interesting a series was at each of its points: the ranking of `surprise`, replayed over a history."""

from __future__ import annotations

import numpy as np

from ninefold.analytics.metrics.baseline import replayed
from ninefold.analytics.metrics.describing import F64, I64, About, is_counter, rate
from ninefold.analytics.metrics.ranking import strength


def interest(times: I64, values: F64, kind: str, unit: str = "", name: str = "") -> tuple[F64, F64]:
    """Replay one series with the fold of streaming, so that the same points give the same bits.

    Args:
        times: ns, in any order; points that are not after their predecessor are passed over.
        values: as received (a counter's raw values).
        kind: gauge, counter, delta or unknown.
        unit, name: the metric's.

    Returns:
        At each point the score with its cool-down (0 where nothing is new), and the strength of its anomalous state, held and decaying.
    """
    order = np.argsort(times, kind="stable")
    bounds, _, _ = replayed(times[order], values[order], About(name, name, unit, kind, "", ""))
    shown = rate(times[order], values[order]) if is_counter(kind, name) else values[order]
    found = np.empty((2, len(times)))
    found[:, order] = bounds[:, 3], strength(bounds[:, 4], shown, *bounds[:, :3].T)
    return found[0], found[1]
