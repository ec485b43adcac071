"""Prometheus' expositions: captured pages value by value, malformed ones, and the compiled reader against the interpreted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from ninefold.ground.errors import BadData, NinefoldError
from ninefold.model.signal import SCHEMAS, Batch
from ninefold.sources import kernel
from ninefold.sources.exposition import Page, key_of, labels_of, parts_of, text
from ninefold.sources.exposition_protobuf import _FAMILY
from ninefold.sources.scrape import ScrapeConfig, Target, read_page
from ninefold.sources.series import STALE, Known

NOW = 1_795_350_900_000_000_000
Value = tuple[str, tuple[tuple[str, str], ...], float, int]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> kernel.Kernels:
    kernel.warm()
    return kernel.kernels()


def captured(data: Path, name: str) -> tuple[bytes, str]:
    head, _, body = (data / "payloads/prometheus_scrape" / name).read_bytes().replace(b"\r\n", b"\n", 0).partition(b"\r\n\r\n")
    if not body:
        head, _, body = (data / "payloads/prometheus_scrape" / name).read_bytes().partition(b"\n\n")
    types = [line.partition(b":")[2].strip().decode() for line in head.splitlines() if line.lower().startswith(b"content-type:")]
    return body, types[0]


def values(page: Page) -> list[Value]:
    found = []
    for row in range(len(page.offsets)):
        name, labels = parts_of(page.key(row))
        found.append((name, tuple(sorted(labels.items())), float(page.value[row]), int(page.time[row])))
    return found


def same(one: list[Value], other: list[Value]) -> bool:
    def plain(value: Value) -> Any:
        return (*value[:2], "NaN" if math.isnan(value[2]) else value[2], value[3])

    return sorted(map(plain, one), key=repr) == sorted(map(plain, other), key=repr)


@pytest.mark.parametrize(
    "name", ["node_exporter_text_0.0.4", "blackbox_probe", "prometheus_openmetrics", "python_client_openmetrics_exemplars"]
)
def test_captured_pages_value_by_value(data: Path, name: str) -> None:
    body, content_type = captured(data, f"{name}.http.txt")
    page = read_page(body, content_type)
    assert page.bad == []
    plain = body.decode()
    if "openmetrics" in content_type and plain.rstrip().endswith("# EOF"):
        families = list(openmetrics_families(plain))
    else:
        families = list(text_string_to_metric_families(plain))
    wanted = [
        (sample.name, tuple(sorted(sample.labels.items())), float(sample.value), int((sample.timestamp or 0) * 1e9))
        for family in families for sample in family.samples
    ]  # fmt: skip
    assert len(wanted) > 3
    assert same(values(page), wanted)
    exemplars = [sample.exemplar for family in families for sample in family.samples if sample.exemplar]
    assert [(one.labels, one.value) for one in page.exemplars] == [(one.labels, one.value) for one in exemplars]


def test_captured_protobuf_value_by_value(data: Path) -> None:
    body, content_type = captured(data, "prometheus_protobuf_delimited.http.bin")
    page = read_page(body, content_type)
    found = {(name, labels): value for name, labels, value, _ in values(page)}
    text_body, text_type = captured(data, "prometheus_openmetrics.http.txt")
    plain = {(name, labels) for name, labels, *_ in values(read_page(text_body, text_type))}
    assert {name for name, _ in found} == {name for name, _ in plain}
    assert len(found) > 300
    families, position = {}, 0
    while position < len(body):
        size = shift = 0
        while True:
            byte = body[position]
            position += 1
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        family = _FAMILY.FromString(body[position : position + size])
        families[family.name] = family
        position += size
    one = next(family for family in families.values() if family.metric[0].HasField("histogram"))
    metric = one.metric[0]
    labels = tuple(sorted((pair.name, pair.value) for pair in metric.label))
    assert found[f"{one.name}_count", labels] == metric.histogram.sample_count
    assert found[f"{one.name}_sum", labels] == metric.histogram.sample_sum
    assert found["go_goroutines", ()] == families["go_goroutines"].metric[0].gauge.value
    assert page.nature("go_goroutines") == ("gauge", "")
    assert page.nature(f"{one.name}_bucket") == ("counter", "")


def test_every_part_of_a_line() -> None:
    body = (
        b'# TYPE a counter\n# UNIT a seconds\na_total 1 1520879607.789 # {trace_id="AB",x="y"} 0.5 1520879607.5\r\n'
        b'a_created 12\n  b { le = "+Inf" , q="a\\"}\\\\\\n#" , } +Inf\t-1.5 \n{"my.name","l.l"="v"} NaN\n#comment\n\nc -0\n# EOF\n'
    )
    page = text(body, True)
    assert page.key(0) == b"a_total"
    assert [(name, dict(labels)) for name, labels, *_ in values(page)] == [
        ("a_total", {}), ("a_created", {}), ("my.name", {"l.l": "v"}), ("c", {}),
    ]  # fmt: skip
    assert page.time.tolist() == [1520879607789000000, 0, 0, 0]
    assert [(one.row, one.labels, one.value, one.time) for one in page.exemplars] == [
        (0, {"trace_id": "AB", "x": "y"}, 0.5, 1520879607500000000)
    ]
    assert [reason for reason, *_ in page.bad] == ["the value or the time of a line is no number"]
    assert page.nature("a_total") == ("counter", "seconds")
    assert page.nature("a_created") == ("gauge", "seconds")
    later = text(b'b{le="+Inf",q="a\\"}\\\\\\n#",} +Inf 1500\n', False)
    assert values(later) == [("b", (("le", "+Inf"), ("q", 'a"}\\\n#')), math.inf, 1_500_000_000)]


@pytest.mark.parametrize(
    "line", [b"a", b"a{", b'a{b="c"', b'a{b="c} 1', b"{} ", b"a 1 2 3", b'a 1 # {b="c"}', b"a 1 # x", b"a one", b"a 1_0"]
)
def test_a_line_that_is_no_sample_is_set_apart_and_the_rest_is_read(line: bytes) -> None:
    page = text(b"before 1\n" + line + b"\nbehind 2", False)
    assert [name for name, *_ in values(page)] == ["before", "behind"]
    assert [payload for *_, payload in page.bad] == [line]


def test_pages_that_were_cut_off(data: Path) -> None:
    body, content_type = captured(data, "python_client_openmetrics_exemplars.http.txt")
    with pytest.raises(BadData, match="EOF"):
        read_page(body[:-3], content_type)
    body, content_type = captured(data, "prometheus_protobuf_delimited.http.bin")
    for end in (1, 100, len(body) - 1):
        with pytest.raises(BadData, match="byte"):
            read_page(body[:end], content_type)
    with pytest.raises(BadData):
        labels_of('a="b" c="d"')


@given(st.binary(max_size=120), st.sampled_from(["text/plain", "application/openmetrics-text", "application/vnd.google.protobuf"]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes, content_type: str) -> None:
    for tail in (b"", b"\n# EOF"):
        try:
            taken = Target("s", {}, ScrapeConfig(), Known(), 1).take(read_page(body + tail, content_type), NOW, 0.1)
        except NinefoldError:
            continue
        for batch in taken:
            batch.rows.validate(full=True)


@given(st.text('ab{}"\\=, \t\n#1.e+', max_size=60))
@settings(max_examples=150, deadline=None)
def test_interpreted_and_compiled_find_the_same(page: str) -> None:
    body = page.encode()
    outcomes = []
    for loops in (kernel.interpreted, kernel.kernels()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernel, "_current", loops)
            found = text(body, False)
            outcomes.append((found.offsets.tolist(), found.lengths.tolist(), repr(found.value.tolist()), found.bad, found.exemplars))
    assert outcomes[0] == outcomes[1]


@given(
    st.text(min_size=1, max_size=5),
    st.dictionaries(st.text(min_size=1, max_size=4).filter("__name__".__ne__), st.text(max_size=5), max_size=3),
)
@settings(deadline=None)
def test_a_key_says_what_it_was_made_of(name: str, labels: dict[str, str]) -> None:
    assert parts_of(key_of(name, list(labels.items()))) == (name, labels)


def rows(batches: list[Batch], signal: str) -> list[dict[str, Any]]:
    for batch in batches:
        assert batch.rows.schema == SCHEMAS[batch.signal]
        batch.rows.validate(full=True)
    return [row for batch in batches if batch.signal == signal for row in batch.rows.to_pylist()]


def pointed(batches: list[Batch], known: dict[int, Any]) -> dict[str, float]:
    known.update({row["series"]: row for row in rows(batches, "series")})
    return {known[row["series"]]["name"]: row["value"] for row in rows(batches, "metric")}


LABELS = {"job": "node", "instance": "web-1:9100", "env": "prod"}


def stale(value: float) -> bool:
    return np.float64(value).view(np.int64) == np.float64(STALE).view(np.int64)


def test_targets_report_and_end_with_staleness_markers() -> None:
    target, known = Target("node", LABELS, ScrapeConfig(), Known(), 1), {}
    page = b'# TYPE a gauge\na{env="dev",x=""} 1\nb 2\nold 3 1000\n'
    first = pointed(target.take(text(page, False), NOW, 0.25), known)
    assert first == {"a": 1, "b": 2, "old": 3, "up": 1, "scrape_duration_seconds": 0.25, "scrape_samples_scraped": 3}
    a = next(row for row in known.values() if row["name"] == "a")
    assert (dict(a["attributes"]), a["kind"], a["entity"]) == ({**LABELS, "exported_env": "dev"}, "gauge", "instance:node/web-1:9100")
    batches = target.take(text(b'a{env="dev",x=""} 4\n', False), NOW + 1, 0.25)
    assert [batch.signal for batch in batches] == ["metric"]
    second = pointed(batches, known)
    assert second["a"] == 4
    assert stale(second["b"])
    assert "old" not in second
    failed = pointed(target.fail(NOW + 2, 1.0), known)
    assert (failed["up"], stale(failed["a"]), set(failed)) == (0, True, {"a", "up", "scrape_duration_seconds", "scrape_samples_scraped"})
    assert all(map(stale, pointed(target.end(NOW + 3), known).values()))


def test_labels_may_be_honoured_and_changed_and_series_dropped() -> None:
    rules = [
        {"action": "drop", "source_labels": ["__name__"], "regex": "go_.*"},
        {"action": "replace", "source_labels": ["path"], "regex": "/api/(.*)", "target_label": "route", "replacement": "r-${1}"},
        {"action": "keep", "source_labels": ["__name__", "env"], "regex": "(a|b);.*"},
    ]
    config = ScrapeConfig.model_validate({"honor_labels": True, "metric_relabel": rules})
    target, known = Target("node", LABELS, config, Known(), 1), {}
    for _ in range(2):
        found = pointed(target.take(text(b'go_x 1\na{env="dev",path="/api/pay"} 2\nc 3\n', False), NOW, 0.1), known)
        assert {name for name in found if "scrape" not in name} == {"a", "up"}
    a = next(row for row in known.values() if row["name"] == "a")
    assert dict(a["attributes"]) == {**LABELS, "env": "dev", "path": "/api/pay", "route": "r-pay"}
    for wrong in ({"regex": "("}, {"replacement": "$3", "target_label": "x"}, {"action": "replace"}):
        with pytest.raises(ValueError, match=r"cannot be used|needs"):
            ScrapeConfig.model_validate({"relabel": [wrong]})


def test_what_is_wrong_is_said_once_and_exemplars_come_once(data: Path) -> None:
    target = Target("node", LABELS, ScrapeConfig(), Known(), 1)
    page = b'a 1\nb one\nc{x="1",x="2"} 3\n'
    assert len(rows(target.take(text(page, False), NOW, 0.1), "quarantine")) == 2
    again = target.take(text(page, False), NOW, 0.1)
    assert rows(again, "quarantine") == []
    body, content_type = captured(data, "python_client_openmetrics_exemplars.http.txt")
    first = target.take(read_page(body, content_type), NOW, 0.1)
    assert len(rows(first, "exemplar")) == len(read_page(body, content_type).exemplars) == 11
    assert rows(target.take(read_page(body, content_type), NOW, 0.1), "exemplar") == []


def test_a_native_histogram_in_protobuf() -> None:
    family = _FAMILY(name="latency", type=4, unit="seconds")
    metric = family.metric.add()
    metric.label.add(name="route", value="/")
    histogram = metric.histogram
    histogram.sample_count, histogram.sample_sum, histogram.schema, histogram.zero_threshold, histogram.zero_count = 6, 2.5, 3, 1e-9, 1
    histogram.positive_span.add(offset=-1, length=2)
    histogram.positive_delta.extend([2, 1])
    exemplar = histogram.exemplars.add(value=0.5)
    exemplar.label.add(name="trace_id", value="ab")
    exemplar.timestamp.seconds = 5
    body = family.SerializeToString()
    target, known = Target("node", LABELS, ScrapeConfig(), Known(), 1), {}
    batches = target.take(read_page(bytes([len(body)]) + body, "application/vnd.google.protobuf"), NOW, 0.1)
    found = pointed(batches, known)
    assert (found["latency_count"], found["latency_sum"]) == (6, 2.5)
    (row,) = rows(batches, "histogram")
    assert known[row["series"]]["name"] == "latency"
    assert (row["scale"], row["positive_index"], row["positive_count"], row["zero_count"], row["time"].value) == (
        3,
        [-2, -1],
        [2.0, 3.0],
        1.0,
        NOW,
    )
    assert [(one["trace_id"], one["value"]) for one in rows(batches, "exemplar")] == [("ab", 0.5)]


def test_labels_without_end_are_refused() -> None:
    page = text(b"a{" + b'b="c",' * 20_000 + b"} 1\nd 2\n", False)
    target, known = Target("node", LABELS, ScrapeConfig(), Known(), 1), {}
    batches = target.take(page, NOW, 0.1)
    assert {name for name in pointed(batches, known) if "scrape" not in name} == {"d", "up"}
    assert "longer than" in rows(batches, "quarantine")[0]["reason"]
