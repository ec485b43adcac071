"""Correlation: how well alerts are folded into the incidents they belong to, beside simple ways of folding them.

Data and measures are described in `bench.correlate`. The gate stands on agreement (ARI) relative to the session by topology component of
the same run: never worse by more than a hundredth, better by 0.15 where faults overlap and by 0.03 where twenty systems run side by side.
"""

from __future__ import annotations

import re
from typing import Any

from bench.correlate import accuracy

MARGINS = {"cloudbed1, recorded": -0.01, "replay, one at a time": -0.01, "replay, storm": 0.15, "replay, 20 systems": 0.03}
RECOVERED = 0.5
"""The share of incidents that come back whole, where they come one at a time."""


def run() -> list[dict[str, Any]]:
    """All rows, with their gates."""
    rows = accuracy()
    for row in rows:
        case, _, measure = row["name"].rpartition(": ")
        session = float(re.search(r"component session (-?[\d.]+)", row["peer"])[1])  # type: ignore[index]
        if measure == "ARI":
            row["target"] = f"≥ {session + next(more for name, more in MARGINS.items() if case.startswith(name)):.3f}"
        elif measure == "recovered" and "one at a time" in case:
            row["target"], row["note"] = f"≥ {RECOVERED}", f"the session itself brings back {session:.3f} of the incidents of these faults"
        row["lower"] = measure == "wrong merges"
    return rows
