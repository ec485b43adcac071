"""What verdicts on incidents teach: measured on incidents that come after those the verdicts were on, beside the same without them.

Merges and splits: an operator who knows the truth judges the incidents of the first half of a replay (`bench.correlate`): the largest
part of one that mixes several stays, the others are split out; parts of one that became several are merged. Noise: of a replay with a
false alarm every six seconds, the last 200 shown incidents of the first half are said to be noise or useful. Causes: the right one is
named for every wrong one of the issues of PetShop's train split. What is scored is the second half, and the test split.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from bench.correlate import Labelled, replays, scores
from bench.evaluations import root_cause_metrics as petshop
from ninefold.analytics.alerts.affinity import Kind, taught_key
from ninefold.analytics.alerts.correlate import Correlator
from ninefold.analytics.alerts.evidence import LOGS
from ninefold.analytics.alerts.groups import Group
from ninefold.analytics.alerts.invocations import SPANS
from ninefold.analytics.alerts.rootcause import rank
from ninefold.analytics.metrics.moves import Moves
from ninefold.incidents.teaching import APART, EVIDENCE, LEAN, NOISY, PAIR, RULE, SAID, SIDE, TOGETHER, contrast

VERDICTS, NOISE_VERDICTS = 100, 200
SETTINGS = {"one at a time": (1800.0, 2, 6.0, 5), "storm": (60.0, 2, 60.0, 5), "storm, another": (60.0, 2, 60.0, 6)}
_SPAN_H, _TURN = 20.0, 50


class _Operator:
    """Knows which incident each alert belongs to, and says so of incidents that are over, `most` times."""

    def __init__(self, most: int) -> None:
        self._left, self._log = most, Moves()
        self._kinds: dict[int, dict[Hashable, dict[Kind, None]]] = defaultdict(lambda: defaultdict(dict))
        self._groups: dict[Hashable, dict[int, None]] = defaultdict(dict)
        self._judged: set[int] = set()

    def see(self, group: int, truth: Hashable, kind: Kind) -> None:
        self._kinds[group][truth][kind] = None
        self._groups[truth][group] = None

    def judge(self, group: Group) -> None:
        if group.number in self._judged or self._left <= 0:
            return
        self._judged.add(group.number)
        parts = self._kinds[group.number]
        largest = max(parts, key=lambda truth: len(parts[truth]))
        for truth, kinds in parts.items():
            if truth != largest:
                self._say(parts[largest], kinds, APART, group.heard)
            for other in self._groups[truth]:
                if other != group.number and other in self._judged:
                    self._say(self._kinds[other][truth], kinds, TOGETHER, group.heard)

    def _say(self, some: Iterable[Kind], others: Iterable[Kind], step: float, at: int) -> None:
        self._left -= 1
        pairs = {taught_key(a, b) for a, b in product(list(some)[:SIDE], list(others)[:SIDE]) if a != b}
        for a, b in sorted(pairs):
            self._log.step(at, PAIR, f"{'|'.join(a)}\n{'|'.join(b)}", step, why="", mark="", actor="", followed=False)

    def taught(self, at: int) -> dict[tuple[Kind, Kind], float]:
        found = {}
        for target, factor in self._log.factors(PAIR, at).items():
            a, b = (tuple(text.split("|", 1)) for text in target.split("\n"))
            found[taught_key((a[0], a[1]), (b[0], b[1]))] = factor
        return found


def _folded(case: Labelled, verdicts: int) -> dict[str, float]:
    """The scores of the second half."""
    correlator, operator, half = Correlator(case.topology), _Operator(verdicts), len(case.alerts) // 2
    found: list[Hashable] = []
    for i, (alert, truth) in enumerate(zip(case.alerts, case.truth, strict=True)):
        group = correlator.feed([alert]).decisions[-1].group
        assert group is not None
        found.append(group.number)
        operator.see(group.number, truth, (alert.entity, alert.rule))
        if i % _TURN == 0:
            for over in correlator.finished(alert.time):
                if i < half:
                    operator.judge(over)
                correlator.close(over.number)
            correlator.affinity.taught = operator.taught(alert.time)
    return scores(case.truth[half:], found[half:])


def regrouped() -> list[dict[str, Any]]:
    """Agreement with the truth after merges and splits."""
    rows = []
    for name, (gap, copies, noise, seed) in SETTINGS.items():
        case = replays(gap, copies, noise, seed, _SPAN_H)
        before, after = (_folded(case, verdicts) for verdicts in (0, VERDICTS))
        for measure in ("ARI", "wrong merges"):
            rows.append(_row(f"replay, {name}: {measure} after {VERDICTS} merges and splits", after[measure], before[measure],
                             lower=measure != "ARI"))  # fmt: skip
    return rows


def _shown(case: Labelled) -> list[tuple[Group, bool]]:
    """The incidents of two or more kinds in order, and whether each is nothing but false alarms."""
    correlator = Correlator(case.topology)
    found: dict[int, tuple[Group, list[bool]]] = {}
    for i, (alert, truth) in enumerate(zip(case.alerts, case.truth, strict=True)):
        group = correlator.feed([alert]).decisions[-1].group
        assert group is not None
        found.setdefault(group.number, (group, []))[1].append(str(truth).startswith("noise"))
        if i % _TURN == 0:
            for over in correlator.finished(alert.time):
                correlator.close(over.number)
    return [(group, all(false)) for _, (group, false) in sorted(found.items()) if len(group.pairs) > 1]


def noise() -> list[dict[str, Any]]:
    """Incidents that page one step less after verdicts."""
    shown, log = _shown(replays(600.0, 20, 600.0, 3, _SPAN_H)), Moves()
    half = len(shown) // 2
    for group, false in shown[half - NOISE_VERDICTS : half]:
        for rule in sorted({rule for _, rule in group.pairs}):
            log.step(group.heard, RULE, rule, SAID["noise" if false else "useful"], why="", mark="", actor="", followed=False)
    now = shown[half][0].first
    lowered = [(all(log.factor(RULE, rule, now) >= NOISY for _, rule in group.pairs), false) for group, false in shown[half:]]
    rows = []
    for name, wanted in (("false", True), ("true", False)):
        mine = [low for low, false in lowered if false == wanted]
        rows.append(_row(f"{name} incidents of lower severity after {NOISE_VERDICTS} verdicts", float(np.mean(mine)), 0.0,
                         f"of {len(mine)}", lower=not wanted))  # fmt: skip
    return rows


def _issues(split: str) -> list[tuple[Any, str, dict[str, Any]]]:
    points, cases = pd.read_parquet(petshop.FOLDER / "metrics.parquet"), pd.read_csv(petshop.FOLDER / "cases.csv")
    found = []
    for case in cases[cases.split == split].itertuples():
        parts = [petshop.bucketed(points[points.case == case.case], case.target_ts)]
        for rows in petshop.quiet(points, cases, case):
            parts.append(petshop.bucketed(rows, np.inf, int(min(part.bucket.min() for part in parts)) - 1))
        asked = {"needs": petshop.needs(case.scenario), "alerts": {f"service:{case.target_node}": 1.0}}
        found.append((petshop.measured(pd.concat(parts)), f"service:{case.root_cause_node}", asked))
    return found


def _ranked(table: Any, asked: Mapping[str, Any], priors: Mapping[str, float]) -> list[dict[str, Any]]:
    ranking = rank(table, SPANS.empty_table(), LOGS.empty_table(), **asked, priors=priors)
    return [
        {"entity": one.entity, "evidence": [{"kind": item.kind, "weight": item.weight} for item in one.items]} for one in ranking.candidates
    ]


def causes() -> list[dict[str, Any]]:
    """How often the cause comes first after verdicts."""
    sums: dict[str, float] = defaultdict(float)

    def priors() -> dict[str, float]:
        return {kind: min(max(math.exp(total), 1 / LEAN), LEAN) for kind, total in sums.items()}

    wrong = 0
    for table, truth, asked in _issues("train"):
        found = contrast(_ranked(table, asked, priors()), truth)
        wrong += bool(found)
        for kind, sign in found.items():
            sums[kind] += sign * EVIDENCE
    issues = _issues("test")

    def share(leaning: Mapping[str, float]) -> float:
        first = ((_ranked(table, asked, leaning)[:1], truth) for table, truth, asked in issues)
        return float(np.mean([bool(one) and one[0]["entity"] == truth for one, truth in first]))

    return [_row(f"PetShop, test: AC@1 after the right cause was named {wrong} times", share(priors()), share({}), f"of {len(issues)}")]


def _row(name: str, value: float, before: float, unit: str = "", *, lower: bool = False) -> dict[str, Any]:
    ratio = round(value / before, 2) if before else None
    return {"name": name, "value": round(value, 3), "unit": unit, "target": None, "peer": f"without {before:.3f}", "ratio": ratio,
            "note": "", "lower": lower}  # fmt: skip


def run() -> list[dict[str, Any]]:
    """All rows."""
    return [*regrouped(), *noise(), *causes()]


if __name__ == "__main__":
    for row in run():
        print(f"| {row['name']} | {row['value']} {row['unit']} | {row['peer']} |")
