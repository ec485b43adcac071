"""Time in and out, and the text of the meters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ninefold.ground.clock import iso, parse
from ninefold.ground.meter import Meter


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000_000))
def test_iso_and_parse_agree_to_the_microsecond(time_ns: int) -> None:
    assert parse(iso(time_ns)) == time_ns // 1000 * 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01 00:00:01", 1_000_000_000),
        ("1970-01-01T01:00:01.5+01:00", 1_500_000_000),
        ("1970-01-01T00:00:00.123456789Z", 123_456_789),
    ],
)
def test_parse(text: str, expected: int) -> None:
    assert parse(text) == expected


def test_parse_refuses_what_is_no_time() -> None:
    with pytest.raises(ValueError, match="isoformat"):
        parse("yesterday")


def test_meters_are_read_by_prometheus_own_parser() -> None:
    meter = Meter()
    meter.counter("ninefold_a_total", "All a.").add(2, path='x"\\\n')
    meter.gauge("ninefold_depth").set(3.5)
    meter.histogram("ninefold_b_seconds").observe(0.02, route="r")
    families = {family.name: family for family in text_string_to_metric_families(meter.text())}
    assert families["ninefold_a"].samples[0].labels == {"path": 'x"\\\n'}
    assert families["ninefold_depth"].samples[0].value == 3.5
    buckets = {s.labels.get("le"): s.value for s in families["ninefold_b_seconds"].samples if s.name.endswith("_bucket")}
    assert (buckets["0.01"], buckets["0.025"], buckets["+Inf"]) == (0, 1, 1)
    assert [s.value for s in families["ninefold_b_seconds"].samples if s.name.endswith("_count")] == [1]
