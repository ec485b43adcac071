"""Feedback: what verdicts save and cost, what the sensitivity words give, and whether the shadow finds the better of two candidates.

A generated fleet of five kinds of series (normal, AR(1) 0.7, Student t with 3 degrees, daily season, counts), a point a minute, ten days;
level shifts of 6 to 10 deviations and 20 points are put in from day six on, about one a series. A simulated operator says noise to every
alarm that meets none of them and useful to the others, from day three to day six; false alarms and recall are counted afterwards, beside
the same fleet without verdicts. Figures of words are alarms a series-week on the fleet without anything put in, from day three on.
Verdicts on incidents: `taught`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from bench.evaluations import taught
from ninefold.analytics import warm
from ninefold.analytics.metrics.baseline import Baseline
from ninefold.analytics.metrics.shadow import SAMPLE, Shadow
from ninefold.analytics.metrics.steering import WORDS
from ninefold.ground.clock import MINUTE
from ninefold.model.signal import METRIC, Batch, batch_of

START = 1_700_000_000_000_000_000 // (1440 * MINUTE) * 1440 * MINUTE
_DAYS, _SERIES, _BEFORE, _AFTER, _LENGTH = 10, 200, 3, 6, 20
_WEEKS = (_DAYS - _BEFORE) / 7 * _SERIES
F64 = np.ndarray[Any, np.dtype[np.float64]]


def fleet(seed: int) -> F64:
    """Values, a row a minute and a column a series, of equal parts of each kind."""
    rng = np.random.default_rng(seed)
    n, m = _DAYS * 1440, _SERIES
    values = rng.normal(size=(n, m))
    for kind, columns in enumerate(np.array_split(np.arange(m), 5)):
        if kind == 1:
            for i in range(1, n):
                values[i, columns] = 0.7 * values[i - 1, columns] + 0.714 * values[i, columns]
        elif kind == 2:
            values[:, columns] = rng.standard_t(3, (n, len(columns))) / 1.7
        elif kind == 3:
            values[:, columns] += 5 * np.sin(np.arange(n) * 2 * np.pi / 1440)[:, None]
        elif kind == 4:
            values[:, columns] = (rng.poisson(6, (n, len(columns))) - 6) / 2.45
    return 100.0 + 5.0 * values


def shifts(values: F64, seed: int) -> list[tuple[int, int]]:
    """Put one shift a series in, in place; returns (series, first minute) of each."""
    rng = np.random.default_rng(seed)
    found = []
    for column in range(values.shape[1]):
        first = int(rng.integers(_AFTER * 1440, _DAYS * 1440 - 240))
        values[first : first + _LENGTH, column] += 5.0 * rng.uniform(6, 10)
        found.append((column, first))
    return found


def replay(technique: Any, values: F64, first: int, last: int) -> list[dict[str, Any]]:
    """Minutes from `first` to `last` an hour a batch; returns the alarms raised."""
    found = []
    ids = np.arange(1, values.shape[1] + 1, dtype=np.uint64) * SAMPLE
    for minute in range(first, last, 60):
        block = values[minute : min(minute + 60, last)]
        times = START + np.repeat(np.arange(minute, minute + len(block)), len(ids)) * MINUTE
        columns = [pa.array(np.tile(ids, len(block))), pa.array(times, METRIC.field("time").type), pa.array(block.ravel())]
        batch = Batch("metric", "test", START + (minute + 60) * MINUTE, pa.RecordBatch.from_arrays(columns, schema=METRIC))
        for out in technique.process(batch):
            rows = out.rows.to_pylist(maps_as_pydicts="lossy")
            found += [row for row in rows if row["status"] == "firing" and "again" not in row["attributes"]]
            technique.process(out)
    return found


def _setting(technique: Any, **said: str) -> None:
    row = {"id": "setting", "time": START, "kind": "setting", "attributes": said}
    technique.process(batch_of("event", "ninefold.evaluation", START, [row]))


def _judge(technique: Baseline, alarms: list[dict[str, Any]], verdict: str, minute: int) -> None:
    rows = [
        {"id": str(i), "time": START, "kind": "verdict", "attributes": {"fingerprint": row["fingerprint"], "verdict": verdict}}
        for i, row in enumerate(alarms)
    ]
    if rows:
        technique.process(batch_of("event", "ninefold.evaluation", START + minute * MINUTE, rows))


def _scored(alarms: list[dict[str, Any]], truth: list[tuple[int, int]]) -> tuple[int, float]:
    """False alarms, and the share of shifts with an alarm within their length."""
    places = {(int(row["attributes"]["series"]) // SAMPLE - 1, (row["time"].value - START) // MINUTE) for row in alarms}
    hits = {(column, first): {p for p in places if p[0] == column and first <= p[1] <= first + 2 * _LENGTH} for column, first in truth}
    return len(places) - len(set().union(*hits.values())), sum(bool(found) for found in hits.values()) / len(truth)


def verdicts() -> list[dict[str, Any]]:
    """False alarms and recall after three days of verdicts, beside the same without; at `keen`, which alarms often enough to count."""
    values = fleet(2)
    truth = shifts(values, 3)
    results = []
    for judged in (False, True):
        technique = Baseline()
        _setting(technique, detection="sensitivity", scope="everything", name="", word="keen")
        replay(technique, values, 0, _BEFORE * 1440)
        for day in range(_BEFORE, _AFTER):
            alarms = replay(technique, values, day * 1440, (day + 1) * 1440)
            if judged:
                _judge(technique, alarms, "noise", (day + 1) * 1440)
        results.append(_scored(replay(technique, values, _AFTER * 1440, _DAYS * 1440), truth))
    (before, recall), (after, kept) = results
    weeks = (_DAYS - _AFTER) / 7 * _SERIES
    note = f"{before} and {after} alarms in {weeks:.0f} series-weeks; the peer is the same without verdicts"
    return [
        {"name": "keen, false alarms a series-week after verdicts", "value": after / weeks, "unit": "/week", "target": None,
         "peer": before / weeks, "ratio": after / before if before else None, "note": note, "lower": True},
        {"name": "keen, shifts found after verdicts", "value": kept, "unit": "", "target": None, "peer": recall,
         "ratio": kept / recall if recall else None, "note": f"of {len(truth)}"},
    ]  # fmt: skip


def words() -> list[dict[str, Any]]:
    """Alarms a series-week by word."""
    values, rows = fleet(11), []  # the factors were chosen on seed 1
    for word, (target, factor) in WORDS.items():
        technique = Baseline()
        _setting(technique, detection="sensitivity", scope="everything", name="", word=word)
        replay(technique, values, 0, _BEFORE * 1440)
        count = len(replay(technique, values, _BEFORE * 1440, _DAYS * 1440))
        rows.append(
            {"name": f"false alarms a series-week, {word}", "value": count / _WEEKS, "unit": "/week", "target": target, "peer": None,
             "ratio": None, "note": f"{count} in {_WEEKS:.0f} series-weeks; thresholds times {factor:g}", "lower": True}
        )  # fmt: skip
    return rows


def shadows() -> list[dict[str, Any]]:
    """Which of two candidates the shadow prefers on a fleet without faults: the one that alarms less, and how sure it is."""
    values, technique = fleet(4), Shadow()
    _setting(technique, detection="shadow", sure="6", alone="8")
    replay(technique, values, 0, _DAYS * 1440)
    found = technique.comparison() or {}
    better = found["only_candidate"] < found["only_current"]
    note = f"alarms only of the current {found['only_current']}, only of the candidate {found['only_candidate']}, p = {found['chance']:.2g}"
    return [
        {
            "name": "the shadow finds the quieter candidate",
            "value": float(better),
            "unit": "",
            "target": 1,
            "peer": None,
            "ratio": None,
            "note": note,
        }
    ]


def run() -> list[dict[str, Any]]:
    """All rows."""
    warm.warm()
    return [*verdicts(), *words(), *shadows(), *taught.run()]
