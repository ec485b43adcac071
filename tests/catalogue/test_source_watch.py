"""Every kind of drift is told once, names what was usual, is over by itself; a source that does as usual is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from operating import START, Operation, lines, tick

from ninefold.catalogue.streams import WINDOW, Stream
from ninefold.catalogue.watch import SourceWatch
from ninefold.demo.recording import Recording
from ninefold.ground.clock import SECOND, iso, parse
from ninefold.ground.errors import BadData
from ninefold.model.signal import METRIC, TIME, Batch, batch_of
from ninefold.normalise import Normaliser
from ninefold.sources.otlp import Otlp

PROTO = "application/x-protobuf"


def points(at: int, count: int = 400, first: int = 0, source: str = "prometheus") -> Batch:
    series = pa.array(np.arange(first + 1, first + count + 1, dtype=np.uint64))
    columns = [series, pa.array(np.full(count, at - SECOND)).cast(TIME), pa.array(np.ones(count))]
    return Batch("metric", source, at, pa.RecordBatch.from_arrays(columns, schema=METRIC))


def told(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["attributes"]["what"], event["status"]) for event in events]


def test_what_does_as_usual_is_left_alone(operation: Operation) -> None:
    rng = np.random.default_rng(1)

    def usual(at: int) -> list[Batch]:
        day = 1 + 0.5 * np.sin(at / SECOND / 86400 * 2 * np.pi)
        return [points(at), lines("app", at, int(rng.poisson(20 * day)) + 1)]

    assert operation.play(9, usual) == []


def test_silence_is_learned_from_the_sources_own_rhythm(operation: Operation) -> None:
    def slow(at: int) -> list[Batch]:
        return [points(at)] if at // SECOND % 300 == 0 else []

    operation.play(3, lambda at: [*slow(at), lines("app", at, 5)])
    assert operation.play(0.25, slow)[0]["title"].startswith("app has sent no lines for 2")
    operation.play(0.5, lambda at: [lines("app", at, 5)])
    assert told(operation.events) == [("silence", "firing"), ("silence", "resolved"), ("silence", "firing")], (
        "15 s and 5 min are two rhythms"
    )
    first, back, last = operation.events
    assert (first["entity"], first["severity"], first["attributes"]["usual"]) == ("source:app", "high", "every 15 s")
    assert back["fingerprint"] == first["fingerprint"]
    assert back["id"] != first["id"]
    assert "again after 15.2 min" in back["title"]
    assert (last["entity"], parse(last["attributes"]["since"]) % (300 * SECOND)) == ("source:prometheus", 0)


def test_when_ninefold_itself_was_away_nobody_was_silent(operation: Operation) -> None:
    operation.play(2, lambda at: [points(at)])
    operation.at += 5 * 3600 * SECOND
    assert operation.play(1, lambda at: [points(at)]) == []


def test_sources_without_a_rhythm_are_given_time(operation: Operation) -> None:
    rng = np.random.default_rng(5)

    def alerts(at: int) -> list[Batch]:
        rows = [{"id": f"{at}{i}", "time": at, "kind": "alert", "title": "x", "fingerprint": f"{i}"} for i in range(rng.integers(1, 30))]
        return [batch_of("event", "alertmanager", at, rows)] if rng.random() < 0.02 else []

    assert operation.play(24, alerts) == []


def test_volume(operation: Operation) -> None:
    operation.play(3, lambda at: [lines("app", at, 40)])
    up = operation.play(1, lambda at: [lines("app", at, 400)])
    assert told(up) == [("volume", "firing")]
    assert up[0]["title"] == "app sends 10.0x its usual lines"
    assert up[0]["attributes"] | {"since": ""} == {
        "source": "app", "signal": "log", "what": "volume", "technique": "watch", "since": "",
        "usual": "800 in 5 min", "now": "8,000 in 5 min",
    }  # fmt: skip
    assert told(operation.play(1, lambda at: [lines("app", at, 40)])) == [("volume", "resolved")]
    down = operation.play(1, lambda at: [lines("app", at, 4)])
    assert down[0]["title"] == "app sends only 10 % of its usual lines"


def test_a_new_level_that_lasts_becomes_usual(operation: Operation) -> None:
    operation.play(3, lambda at: [lines("app", at, 40)])
    events = operation.play(4, lambda at: [lines("app", at, 400)])
    assert told(events) == [("volume", "firing"), ("volume", "resolved")]
    assert "taken as usual" in events[-1]["title"]
    assert operation.play(2, lambda at: [lines("app", at, 400)]) == []


def days(rows: Callable[[int], int], end: int, watch: SourceWatch | None = None) -> list[tuple[int, str, str]]:
    """(day, what, status) of a source with so many rows in each window (numbered from the start) of some days."""
    watch = watch or SourceWatch()
    stream = watch._streams["app", "log"] = Stream("app", "log", START - 7200 * SECOND, START)
    for _ in range(100):
        stream.cadence.add(15.0)
    found = []
    for window in range(1, end * 288 + 1):
        stream.rows = rows(window)
        events = watch._close(window * WINDOW)
        found += [(window // 288, event["attributes"]["what"], event["status"]) for event in events]
    return found


def test_day_and_night_are_usual_from_the_third_day_on() -> None:
    rng = np.random.default_rng(3)

    def office(window: int) -> int:
        return int((5000 if 102 <= window % 288 < 246 else 300) * rng.uniform(0.9, 1.1))

    assert [found for found in days(office, 42) if found[0] >= 2] == []
    drop = 20 * 288 + 180
    dropped = days(lambda window: office(window) // (10 if drop <= window < drop + 12 else 1), 28)
    assert [found for found in dropped if found[0] >= 2] == [(20, "volume", "firing"), (20, "volume", "resolved")]
    week = days(lambda window: office(window) if window // 288 % 7 < 5 else 300, 42)
    assert [found for found in week if found[0] >= 2] == [], "a weekend is seldom a surprise, and the Monday after it is none"


@pytest.mark.parametrize("change", [5, 10, 20])
def test_a_lasting_level_is_told_once_whatever_season_is_known(change: int) -> None:
    found = days(lambda window: 500 if window < change * 288 else 5000, 42)
    resolved = change + 1 if change == 20 else change
    assert found == [(change, "volume", "firing"), (resolved, "volume", "resolved")], "what contradicts known hours is doubted for a day"


def test_one_outage_does_not_blind_the_watch(operation: Operation) -> None:
    operation.play(2, lambda at: [lines("app", at, 5)])
    stream = operation.watch._streams["app", "log"]
    limit = stream.limit_s()
    operation.play(6)
    operation.play(0.1, lambda at: [lines("app", at, 5)])
    assert stream.limit_s() == limit == 120
    operation.play(1.5, lambda at: [lines("app", at, 5)] if at // SECOND % 300 == 0 else [])
    assert (stream.limit_s() or 0) > 300, "what is slow three times in a row is a new rhythm"


def test_a_wrong_clock_is_told_once_until_it_is_right(operation: Operation) -> None:
    def ahead(at: int) -> list[Batch]:
        batch = points(at)
        times = pa.array(np.full(400, at + 30 * SECOND)).cast(TIME)
        return [Batch("metric", "prometheus", at, batch.rows.set_column(1, batch.rows.schema.field(1), times))]

    assert told(operation.play(6, ahead)) == [("skew", "firing")]
    assert told(operation.play(1, lambda at: [points(at)])) == [("skew", "resolved")]


def test_lag_and_clock(operation: Operation) -> None:
    def shifted(seconds: float) -> list[tuple[str, str]]:
        def deliver(at: int) -> list[Batch]:
            batch = points(at)
            times = pa.array(np.full(400, at - round(seconds * SECOND))).cast(TIME)
            rows = pa.RecordBatch.from_arrays([batch.rows.column(0), times, batch.rows.column(2)], schema=METRIC)
            return [Batch("metric", "prometheus", at, rows)]

        return told(operation.play(1, deliver))

    assert shifted(3) + shifted(3) == []
    assert shifted(90) == [("lag", "firing")]
    assert "arrive 90 s after they happened, usually 3 s" in operation.events[-1]["title"]
    assert shifted(3) == [("lag", "resolved")]
    assert shifted(-30) == [("skew", "firing")]
    assert operation.events[-1]["title"] == "the clock of prometheus is 30 s ahead"
    assert shifted(3) == [("skew", "resolved")]


def test_duplicates(operation: Operation) -> None:
    operation.play(2, lambda at: [points(at, 2000)])
    assert told(operation.play(1, lambda at: [points(at, 2000), points(at, 2000)])) == [("duplicates", "firing")]
    assert operation.events[-1]["attributes"]["now"] == "50 %"
    assert told(operation.play(1, lambda at: [points(at, 2000)])) == [("duplicates", "resolved")]


def test_severities(operation: Operation) -> None:
    operation.play(3, lambda at: [lines("app", at, 20)])
    events = operation.play(2, lambda at: [lines("app", at, 18, severity_number=17), lines("app", at, 2)])
    assert told(events) == [("severity", "firing")]
    assert "error, " in events[0]["attributes"]["now"]
    assert events[0]["attributes"]["usual"].startswith("100 % info") or " info" in events[0]["attributes"]["usual"]
    back = operation.play(1, lambda at: [lines("app", at, 20)])
    assert told(back) == [("severity", "resolved")]
    assert "as usual again" in back[0]["title"]


def test_a_lasting_share_of_duplicates_or_lag_becomes_usual_and_a_few_errors_are_no_drift(operation: Operation) -> None:
    def late(at: int) -> list[Batch]:
        batch = lines("app", at, 60)
        times = pc.subtract(batch.rows.column("time").cast(pa.int64()), 90 * SECOND).cast(TIME)
        place = batch.rows.schema.get_field_index("time")
        return [Batch("log", "app", at, batch.rows.set_column(place, batch.rows.schema.field(place), times))] * 2

    operation.play(
        2, lambda at: [lines("app", at, 54), lines("app", at + 1, 6, severity_number=17)] if at % 2 == 0 else [lines("app", at, 60)]
    )
    assert operation.events == []
    found = told(operation.play(3, late))
    assert sorted(found) == sorted((what, status) for what in ("duplicates", "lag") for status in ("firing", "resolved"))
    assert all("this is taken as usual now" in event["title"] for event in operation.events[2:])


def test_a_field_that_is_seldom_there_may_stay_away(operation: Operation) -> None:
    def some(at: int, often: int) -> list[Batch]:
        more = {"trace": "x"} if often and at // SECOND // 15 % often == 0 else {}
        return [lines("app", at, 10, attributes={"user": "ada", **more})]

    operation.play(3, lambda at: some(at, 10))
    assert operation.play(4, lambda at: some(at, 0)) == []


def test_cardinality(operation: Operation) -> None:
    def described(at: int, first: int, count: int) -> Batch:
        rng = np.random.default_rng(first)
        ids = rng.integers(1, 2**63, count).tolist()
        rows = [{"series": i, "name": "up", "kind": "gauge", "attributes": {"pod": str(i)}, "seen": at} for i in ids]
        return batch_of("series", "prometheus", at, rows)

    operation.play(2, lambda at: [points(at), described(at, 1, 400)] if at % 7 == 0 else [points(at)])
    events = operation.play(0.5, lambda at: [points(at), described(at, at // SECOND % 10**6, 100)])
    assert told(events) == [("cardinality", "firing")]
    assert int(events[0]["attributes"]["now"].split()[0].replace(",", "")) > 1000
    assert told(operation.play(2, lambda at: [points(at)])) == [("cardinality", "resolved")]


def test_a_model_settles_and_then_tells_differences(operation: Operation) -> None:
    operation.play(2, lambda at: [lines("app", at, 10, attributes={"user": "ada", "ms": "12", "plan": "free"})])
    (model,) = operation.watch.models("app")
    assert (model["version"], model["learning"]) == (1, False)
    fields = {field["path"]: field for field in model["fields"]}
    assert fields["attributes.ms"] | {"first_seen": 0, "last_seen": 0} == {
        "path": "attributes.ms", "type": "integer", "types": {"integer": round(model["sampled"])}, "unit": "ms", "examples": ["12"],
        "distinct": 1, "distinct_exact": True, "null_rate": 0.0, "first_seen": 0, "last_seen": 0, "gone": False,
    }  # fmt: skip
    events = operation.play(1, lambda at: [lines("app", at, 10, attributes={"user": "ada", "ms": "fast", "tier": "gold"})])
    assert sorted(event["title"] for event in events) == [
        "records of app have changed: attributes.ms retyped (number -> text)",
        "records of app have changed: attributes.plan vanished",
        "records of app have changed: attributes.tier is new",
    ]
    assert told(operation.play(1, lambda at: [lines("app", at, 10, attributes={"user": "ada", "ms": "fast", "tier": "gold"})])) == [
        (f"fields {version}", "resolved") for version in (2, 3, 4)
    ]
    (model,) = operation.watch.models("app")
    assert [version["version"] for version in model["versions"]] == [1, 2, 3, 4]


@pytest.fixture(scope="module")
def recorded() -> list[list[Batch]]:
    """The demo's recording, minute by minute, normalised."""
    otlp, normaliser, later = Otlp(), Normaliser({}), START + 99999 * SECOND
    decode = {"traces": otlp.traces, "logs": otlp.logs, "metrics": otlp.metrics}
    return [
        [
            normal
            for request in minute
            for batch in decode[request.signal](request.body, content_type=PROTO, source="otlp", received=later).batches
            for normal in normaliser.normalise(batch)
        ]
        for minute in Recording(START + 7200 * SECOND, fill=False).requests()
    ]


@pytest.mark.parametrize("live", [True, False])
def test_the_demo_raises_no_alarm(recorded: list[list[Batch]], live: bool) -> None:
    """The recording played as it happened, and all at once as the demo does it."""
    watch = SourceWatch()
    found: list[dict[str, Any]] = []
    for minute in recorded:
        times = [int(pc.max(b.rows.column("time").cast(pa.int64())).as_py()) for b in minute if "time" in b.rows.schema.names]
        for quarter in range(4 if live else 1):
            at = max(times) + (1 + quarter * 15) * SECOND if live else START + 7200 * SECOND
            for batch in (tick(at), *(minute if quarter == 0 else ())):
                outputs = watch.process(Batch(batch.signal, batch.source, at, batch.rows))
                found += [row for output in outputs for row in output.rows.to_pylist()]
    assert [row["title"] for row in found] == []
    assert watch.sources() == ["otlp"]


def test_a_restored_watch_goes_on_alike_however_the_batches_are_cut(operation: Operation) -> None:
    def deliver(at: int) -> list[Batch]:
        quiet = at > START + 9000 * SECOND
        return [lines("app", at, 30 if not quiet else 3), *([] if quiet else [points(at)])]

    operation.play(4, deliver)
    assert {event["attributes"]["what"] for event in operation.events} == {"volume", "silence"}
    other, again = SourceWatch(), []
    for place, batch in enumerate(operation.batches):
        if place % 700 == 0:
            kept, other = other.snapshot(), SourceWatch()
            other.restore(kept)
        middle = batch.rows.num_rows // 3
        for rows in (batch.rows.slice(0, middle), batch.rows.slice(middle)):
            for output in other.process(Batch(batch.signal, batch.source, batch.received, rows)):
                again += output.rows.to_pylist(maps_as_pydicts="lossy")
    assert again == operation.events
    assert other.snapshot() == operation.watch.snapshot()


def test_a_snapshot_of_another_version_is_refused() -> None:
    with pytest.raises(BadData, match="start afresh"):
        SourceWatch().restore(b'{"version": 99}')


def test_times_in_titles_are_of_the_data(operation: Operation) -> None:
    operation.play(1.1, lambda at: [lines("app", at, 5)])
    (event, *_) = operation.play(0.2)
    assert event["attributes"]["since"] == iso(START + 3960 * SECOND)
