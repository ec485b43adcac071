"""What PromQL reads beside samples: roll-ups where those are no longer kept, and native histograms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from ninefold.ground.clock import now
from ninefold.ground.errors import BadData
from ninefold.model.signal import METRIC, TIME, Batch, batch_of
from ninefold.promql import rolled
from ninefold.promql.evaluate import Evaluation, parse
from ninefold.promql.matrix import Grid, Vector
from ninefold.promql.select import Selector
from ninefold.store.telemetry import Telemetry

HOUR = 3_600_000
DAY = 24 * HOUR
END = now() // 1_000_000 // HOUR * HOUR
STEP = 30_000
COUNT = 6 * DAY // STEP


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Telemetry]:
    """Six days of a counter with a restart and of a gauge."""
    store = Telemetry(f"chdb://{tmp_path_factory.mktemp('data') / 'store'}")
    store.open()
    about = [{"series": number, "name": name, "kind": name, "seen": END} for number, name in ((1, "counter"), (2, "gauge"))]
    times = END - np.arange(COUNT)[::-1] * STEP - 1000
    counter, gauge = np.arange(COUNT) * 2.0, np.sin(np.arange(COUNT) / 1000)
    counter[COUNT // 2 :] -= counter[COUNT // 2] - 2
    for series, values in ((1, counter), (2, gauge)):
        columns = [pa.array(np.full(COUNT, series, np.uint64)), pa.array(times * 1_000_000).cast(TIME), pa.array(values)]
        store.append([Batch("metric", "s", END, pa.RecordBatch.from_arrays(columns, schema=METRIC))], f"{series}")
    store.append([batch_of("series", "s", END, about)], "about")
    yield store
    store.close()


def ask(store: Telemetry, text: str, begin: int, end: int, step: int) -> tuple[np.ndarray, list[str]]:
    selector = Selector(store)
    value = Evaluation(selector, Grid(begin, end, step)).evaluate(parse(text))
    assert isinstance(value, Vector)
    assert value.present.all(), text
    return value.values, selector.warnings


def test_native_histograms_answer_as_classic_ones_do(store: Telemetry) -> None:
    """Two series of scales 1 and 0, which is brought to scale 0: (1, 2], (2, 4] and (4, 8]; one of own bounds."""
    about = [{"series": n, "name": name, "kind": "counter", "seen": END, "attributes": {"pod": str(n)}}
             for n, name in ((11, "took"), (12, "took"), (13, "own"), (14, "below"))]  # fmt: skip
    rows = []
    for k in (1, 2):
        at = {"time": (END - (3 - k) * 60_000) * 1_000_000}
        rows += [
            {**at, "series": 11, "scale": 1, "count": 10.0 * k, "sum": 30.0 * k, "positive_index": [0, 1, 2, 3],
             "positive_count": [k, k, 4 * k, 4 * k]},
            {**at, "series": 12, "scale": 0, "count": 10.0 * k, "sum": 50.0 * k, "positive_index": [2], "positive_count": [8.0 * k],
             "zero_count": 2.0 * k, "zero_threshold": 0.5},
            {**at, "series": 13, "count": 4.0 * k, "sum": 9.0 * k, "bounds": [1.0, 5.0], "positive_index": [0, 1, 2],
             "positive_count": [k, 2 * k, k]},
            {**at, "series": 14, "count": 4.0 * k, "sum": -9.0 * k, "negative_index": [0], "negative_count": [4.0 * k]},
        ]  # fmt: skip
    store.append([batch_of("series", "s", END, about), batch_of("histogram", "s", END, rows)], "native")

    def value(text: str) -> list[float]:
        return [float(number) for number in ask(store, text, END, END, 1)[0][:, 0]]

    assert value("histogram_count(took)") == [20, 20]
    assert value("sum(histogram_sum(took))") == [160]
    assert value("histogram_avg(took{pod='12'})") == [5]
    assert value("histogram_count(increase(took{pod='11'}[3m]))") == [30], "10 in a minute, stretched to both edges"
    assert value("histogram_quantile(0.6, took{pod='11'})") == [pytest.approx(8**0.5)], "12 of 20 lie below"
    assert value("histogram_quantile(0.7, sum(rate(took[5m])))") == [5], "2 about zero, 2 to 2, 8 to 4, 8 to 8: a quarter of the way"
    assert value("histogram_quantile(0.1, sum without (pod, le) (took))") == [0.5]
    assert value("histogram_quantile(0.5, own)") == [3]
    assert value("histogram_quantile(0.5, below)") == [-1.5]
    with pytest.raises(BadData, match="took is a native histogram"):
        ask(store, "rate(took[5m])", END, END, 1)

    store.append([batch_of("histogram", "s", END, rows)], "sent again")
    assert value("histogram_count(increase(took{pod='11'}[3m]))") == [30], "what came twice counts once"
    classic = ((15, "old_bucket", {"le": "1"}), (16, "old_bucket", {"le": "+Inf"}), (17, "took", {"pod": "plain"}))
    about = [{"series": n, "name": name, "kind": "counter", "seen": END, "attributes": more} for n, name, more in classic]
    samples = [{"series": n, "time": (END - 1000) * 1_000_000, "value": 10.0} for n in (15, 16, 17)]
    store.append([batch_of("series", "s", END, about), batch_of("metric", "s", END, samples)], "classic")
    assert value("histogram_quantile(0.5, old_bucket or vector(0))")[0] == 0.5, "what is no histogram does not hide the classic one"
    counted, warnings = ask(store, "count(took)", END, END, 1)
    assert counted.tolist() == [[1]]
    assert "native histograms were left out" in warnings[0]


def test_what_is_forgotten_is_answered_from_minutes_and_from_hours(store: Telemetry) -> None:
    exact = ("avg_over_time(gauge[6h])", "count_over_time(gauge[6h])", "max_over_time(gauge[6h])",
             "min_over_time(gauge[6h])")  # fmt: skip
    near = ("increase(counter[6h])", "rate(counter[2h])", "gauge", "resets(counter[1d])")
    whole = (END - 5 * DAY, END, 6 * HOUR)
    before = {text: ask(store, text, *whole) for text in (*exact, *near)}
    assert not any(warnings for _, warnings in before.values())
    with store._writers.client() as client:
        for table, days in (("metric", 2), ("metric_1m", 4)):
            client.command(f"ALTER TABLE {table} DELETE WHERE time < fromUnixTimestamp64Second({(END - days * DAY) // 1000}, 'UTC') "
                           "SETTINGS mutations_sync = 2")  # fmt: skip
    for text in exact:
        values, warnings = ask(store, text, *whole)
        assert warnings == [rolled.WARNING]
        np.testing.assert_allclose(values, before[text][0], rtol=1e-9, atol=1e-9, err_msg=text)
    for text in near:
        values, warnings = ask(store, text, *whole)
        assert warnings == [rolled.WARNING]
        np.testing.assert_allclose(values, before[text][0], rtol=0.03, atol=0.002 if text.startswith("rate(counter") else 0.2, err_msg=text)
    for days in (3, 5):  # at any moment there is a value, and a rate that makes sense
        assert abs(ask(store, "gauge", END - days * DAY + 20 * 60_000, END - days * DAY + 50 * 60_000, 7 * 60_000)[0]).max() <= 1
        values, _ = ask(store, "rate(counter[10m])", END - days * DAY + HOUR // 3, END - days * DAY + 2 * HOUR, HOUR // 7)
        np.testing.assert_allclose(values, 2 / 30, rtol=0.05)
    assert ask(store, "gauge", END - DAY - HOUR, END, HOUR)[1] == [], "samples are there"
