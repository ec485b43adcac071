"""Remote write 1.0 and 2.0: exemplars, native histograms, metadata, answers; the fast decoder agrees with a plain one."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_prometheus import RECEIVED, STALE, Request, WriteRequest, expected, number, resolved, rows

from ninefold.ground.errors import BadData, NinefoldError
from ninefold.plugin import Asked, Lent, Strict
from ninefold.sources import kernel
from ninefold.sources.remote_write import PrometheusRemoteWrite, RemoteWrite
from ninefold.sources.series import Known

NOW = 1_795_350_000_000


@pytest.fixture(scope="module", autouse=True)
def compiled() -> kernel.Kernels:
    kernel.warm()
    return kernel.kernels()


def second(*series: tuple[dict[str, str], dict[str, Any]], symbols: list[str] | None = None) -> Any:
    """A 2.0 request; each series is its labels and the other fields, where `exemplars` are (labels, fields)."""
    request = Request(symbols=symbols or [""])
    places = {text: place for place, text in enumerate(request.symbols)}

    def refer(text: str) -> int:
        if text not in places:
            places[text] = len(request.symbols)
            request.symbols.append(text)
        return places[text]

    for labels, fields in series:
        one = request.timeseries.add()
        one.labels_refs.extend(refer(text) for pair in sorted(labels.items()) for text in pair)
        one.metadata.type = fields.get("type", 0)
        one.metadata.unit_ref = refer(fields.get("unit", ""))
        for value in fields.get("samples", ()):
            one.samples.add(timestamp=value[0], value=value[1])
        for histogram in fields.get("histograms", ()):
            one.histograms.add(**histogram)
        for about, exemplar in fields.get("exemplars", ()):
            one.exemplars.add(labels_refs=[refer(text) for pair in sorted(about.items()) for text in pair], **exemplar)
    return request


def first(*series: tuple[dict[str, str], dict[str, Any]]) -> Any:
    """The same as a 1.0 request, without types and units."""
    request = WriteRequest()
    for labels, fields in series:
        one = request.timeseries.add(labels=[{"name": key, "value": value} for key, value in sorted(labels.items())])
        for value in fields.get("samples", ()):
            one.samples.add(timestamp=value[0], value=value[1])
        for histogram in fields.get("histograms", ()):
            one.histograms.add(**histogram)
        for about, exemplar in fields.get("exemplars", ()):
            one.exemplars.add(labels=[{"name": key, "value": value} for key, value in sorted(about.items())], **exemplar)
    return request


def plainly(request: Any, series: tuple[tuple[dict[str, str], dict[str, Any]], ...]) -> dict[str, list[Any]]:
    plain = []
    for (labels, fields), one in zip(series, request.timeseries, strict=True):
        about = [labels for labels, _ in fields.get("exemplars", ())]
        plain.append((labels, one, list(zip(about, one.exemplars, strict=True))))
    return expected(plain)


def decode(request: Any, decoder: RemoteWrite | None = None) -> Any:
    return (decoder or RemoteWrite()).decode(request.SerializeToString(), "prom", RECEIVED)


SPAN = [{"offset": -2, "length": 2}, {"offset": 3, "length": 1}]
INTEGER = {
    "count_int": 9, "sum": 4.5, "schema": 2, "zero_threshold": 1e-9, "zero_count_int": 1, "positive_spans": SPAN,
    "positive_deltas": [3, -1, 1], "negative_spans": [{"offset": 1, "length": 1}], "negative_deltas": [4], "timestamp": NOW,
}  # fmt: skip
CUSTOM = {
    "count_float": 2.5, "sum": 4.5, "schema": -53, "positive_spans": [{"offset": 1, "length": 2}], "positive_counts": [2, 0.5],
    "custom_values": [0.5, 1.0], "timestamp": NOW, "reset_hint": 3,
}  # fmt: skip
STALENESS = {"sum": number(STALE), "timestamp": NOW + 1}
SERIES = (
    ({"__name__": "latency", "job": "a"}, {
        "histograms": [INTEGER, STALENESS], "type": 3, "unit": "seconds",
        "exemplars": [({"trace_id": "ABCD", "span_id": "ef", "user": "x"}, {"value": 0.5, "timestamp": NOW}), ({}, {"value": 2.0})],
    }),
    ({"__name__": "queue", "job": "a"}, {"histograms": [CUSTOM], "type": 4}),
    ({"__name__": "requests_total", "job": "a"}, {"samples": [(NOW, 1.0), (NOW + 1, number(STALE))], "type": 1}),
)  # fmt: skip


@pytest.mark.parametrize("make", [first, second])
def test_exemplars_and_native_histograms_are_kept(make: Any) -> None:
    request = make(*SERIES)
    decoded = decode(request)
    assert resolved(decoded, {}) == plainly(request, SERIES)
    assert (decoded.samples, decoded.histograms, decoded.exemplars, decoded.rejected) == (2, 3, 2, 0)
    (one, _) = rows(decoded, "histogram")
    assert (one["positive_index"], one["positive_count"]) == ([-3, -2, 2], [3.0, 2.0, 3.0])
    kinds = {row["name"]: (row["kind"], row["unit"]) for row in rows(decoded, "series")}
    unit = "seconds" if make is second else ""
    assert kinds["latency_count"] == ("counter", "")
    assert kinds["latency_sum"] == ("counter", unit)
    assert kinds["queue_count"] == ("gauge", "")
    assert kinds["latency"] == (("counter" if make is second else "unknown"), unit)
    exemplar = next(row for row in rows(decoded, "exemplar") if row["trace_id"])
    assert (exemplar["trace_id"], exemplar["span_id"], dict(exemplar["attributes"])) == ("abcd", "ef", {"user": "x"})


def test_a_series_of_2_0_is_known_however_its_texts_are_ordered() -> None:
    decoder, known = RemoteWrite(), {}
    assert resolved(decode(second(*SERIES), decoder), known) == plainly(second(*SERIES), SERIES)
    again = second(*reversed(SERIES), symbols=["", "a", "zzz", "job"])
    decoded = decode(again, decoder)
    assert rows(decoded, "series") == []
    assert resolved(decoded, known) == plainly(again, tuple(reversed(SERIES)))
    retyped = ({"__name__": "requests_total", "job": "a"}, {"samples": [(NOW, 1.0)], "type": 2, "unit": "bytes"})
    (row,) = rows(decode(second(retyped), decoder), "series")
    assert (row["kind"], row["unit"]) == ("gauge", "bytes")
    decoder.forget([row["series"]])
    assert len(rows(decode(second(retyped), decoder), "series")) == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": 9}, "schema"), ({"schema": -10}, "schema"), ({"positive_deltas": [3, -1]}, "do not fit"),
        ({"positive_deltas": [3, -9, 8]}, "do not fit"), ({"positive_spans": [{"offset": 0, "length": 4_000_000_000}]}, "do not fit"),
        ({"positive_spans": [{"offset": 0, "length": 2}, {"offset": -1, "length": 1}]}, "do not fit"),
        ({"schema": -53, "custom_values": [1.0, 1.0, 2.0]}, "do not rise"), ({"schema": -53, "custom_values": [1.0]}, "do not rise"),
        ({"timestamp": -1}, "before 1970"), ({"zero_count_float": -1.0}, "less than nothing"), ({"custom_values": [1.0]}, "do not rise"),
    ],
)  # fmt: skip
def test_a_malformed_histogram_goes_to_quarantine_and_the_rest_is_kept(change: dict[str, Any], reason: str) -> None:
    bad = {key: value for key, value in (INTEGER | change).items() if key != "zero_count_int" or "zero_count_float" not in change}
    series = ({"__name__": "bad"}, {"histograms": [bad]})
    for make in (first, second):
        decoded = decode(make(*SERIES, series))
        assert resolved(decoded, {}) == plainly(make(*SERIES), SERIES)
        (entry,) = rows(decoded, "quarantine")
        assert reason in entry["reason"]
        assert decoded.rejected == 1
        again = RemoteWrite().decode(entry["payload"], "prom", RECEIVED)
        assert reason in rows(again, "quarantine")[0]["reason"]


def test_references_to_texts_that_are_not_there() -> None:
    request = second(*SERIES)
    request.timeseries.add(labels_refs=[1, 99], samples=[{"timestamp": 1}])
    request.timeseries.add(labels_refs=[1], samples=[{"timestamp": 1}])
    request.timeseries[0].exemplars.add(labels_refs=[99, 99], value=1)
    decoded = decode(request)
    assert decoded.rejected == 2
    assert {row["where"] for row in rows(decoded, "quarantine")} == {"timeseries[0], timeseries[3], timeseries[4]"}
    assert len(rows(decoded, "metric")) == 8


_names = st.sampled_from(["a", "b_total", "c_count"])
_labels = st.dictionaries(st.text("xyz", min_size=1, max_size=2), st.text(max_size=6), max_size=3)
_times = st.integers(0, 9_223_372_036_853)
_floats = st.floats(allow_nan=False)


@st.composite
def _sides(draw: st.DrawFn, name: str, whole: bool, low: int) -> dict[str, Any]:
    starts = [draw(st.integers(0 if i else low, 9)) for i in range(draw(st.integers(0, 3)))]
    spans = [{"offset": start, "length": draw(st.integers(0, 3))} for start in starts]
    size = sum(span["length"] for span in spans)
    if whole:
        counts = draw(st.lists(st.integers(0, 2**40), min_size=size, max_size=size))
        return {f"{name}_spans": spans, f"{name}_deltas": np.diff([0, *counts]).tolist()}
    return {f"{name}_spans": spans, f"{name}_counts": draw(st.lists(st.floats(0, 1e9), min_size=size, max_size=size))}


@st.composite
def _histograms(draw: st.DrawFn) -> dict[str, Any]:
    whole, custom = draw(st.booleans()), draw(st.booleans())
    fields: dict[str, Any] = {"sum": draw(_floats), "timestamp": draw(_times), "reset_hint": draw(st.sampled_from([0, 1, 2, 3]))}
    fields |= draw(_sides("positive", whole, 0 if custom else -9))
    if custom:
        fields |= {"schema": -53, "custom_values": [float(i) for i in range(40)]}
    else:
        fields |= {"schema": draw(st.integers(-4, 8)), "zero_threshold": draw(st.floats(0, 1))} | draw(_sides("negative", whole, -9))
    count = draw(st.integers(0, 2**63 - 1)) if whole else draw(st.floats(0, 1e18))
    kind = "int" if whole else "float"
    return fields | {f"count_{kind}": count, f"zero_count_{kind}": count}


_exemplars = st.tuples(
    st.dictionaries(st.sampled_from(["trace_id", "span_id", "k"]), st.text("0aF", max_size=4), max_size=3),
    st.fixed_dictionaries({"value": _floats, "timestamp": _times}),
)
_fields = st.fixed_dictionaries({
    "samples": st.lists(st.tuples(_times, _floats), max_size=3), "histograms": st.lists(_histograms(), max_size=2),
    "exemplars": st.lists(_exemplars, max_size=2), "type": st.integers(0, 7), "unit": st.sampled_from(["", "s"]),
})  # fmt: skip
_requests = st.lists(st.tuples(st.builds(lambda name, labels: {"__name__": name, **labels}, _names, _labels), _fields), max_size=5)


@given(_requests, _requests)
@settings(max_examples=60, deadline=None)
def test_the_fast_decoder_and_a_plain_one_agree(one: Any, other: Any) -> None:
    for make in (first, second):
        decoder, known = RemoteWrite(), {}
        for series in (one, other, one):
            request = make(*series)
            decoded = decode(request, decoder)
            assert resolved(decoded, known) == plainly(request, tuple(series))
            assert decoded.rejected == 0


@given(st.sampled_from([first, second]), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8), st.integers(0, 500))
@settings(max_examples=150, deadline=None)
def test_damaged_bodies_raise_nothing_but_what_they_may(make: Any, changes: list[tuple[int, int]], end: int) -> None:
    body = bytearray(make(*SERIES).SerializeToString())
    for place, byte in changes:
        body[place % len(body)] = byte
    with contextlib.suppress(NinefoldError):
        resolved(RemoteWrite().decode(bytes(body[:end]), "prom", RECEIVED), {})


def test_what_the_door_answers() -> None:
    (door,) = PrometheusRemoteWrite("remote_write", Strict(), Lent()).doors()
    first_asked = Asked("prom", RECEIVED, first(*SERIES).SerializeToString(), headers={"content-type": "application/x-protobuf"})
    assert door.answer(first_asked, door.accept(first_asked)).status == 204
    header = {"content-type": 'application/x-protobuf; proto="io.prometheus.write.v2.Request"'}
    asked = Asked("prom", RECEIVED, second(*SERIES).SerializeToString(), headers=header)
    answer = door.answer(asked, door.accept(asked))
    assert answer.status == 204
    assert dict(answer.headers) == {
        "X-Prometheus-Remote-Write-Samples-Written": "2", "X-Prometheus-Remote-Write-Histograms-Written": "3",
        "X-Prometheus-Remote-Write-Exemplars-Written": "2",
    }  # fmt: skip
    late = replace(asked, body=second(*SERIES, ({"__name__": "x"}, {"samples": [(-1, 1.0)]})).SerializeToString())
    answer = door.answer(late, door.accept(late))
    assert (answer.status, answer.headers["X-Prometheus-Remote-Write-Samples-Written"]) == (400, "2")
    assert b"before 1970" in answer.body
    other = replace(asked, headers={"content-type": "application/x-protobuf;proto=some.Other"})
    with pytest.raises(BadData):
        door.accept(other)
    assert door.refuse is not None
    refused = door.refuse(other, 400, "")
    assert refused is not None
    assert refused.status == 415
    assert door.refuse(first_asked, 400, "") is None
    full = door.refuse(asked, 503, "the journal is full")
    assert full is not None
    assert (full.status, full.headers["X-Prometheus-Remote-Write-Samples-Written"]) == (503, "0")


def test_a_million_known_series_need_little_memory() -> None:
    known = Known()
    for start in range(0, 200_000, 10_000):
        numbers = range(start, start + 10_000)
        known.add([b"%0300d" % i for i in numbers], list(numbers), [0] * 10_000, [7] * 10_000)
    assert (known._entries.nbytes + known._slots.nbytes) / len(known) < 100
    keys = b"".join(b"%0300d" % i for i in range(200_000))
    offsets = np.arange(200_000) * 300
    ids, found = known.find(keys, offsets, np.full(200_000, 300), np.zeros(200_000, np.int64))
    assert found.all()
    assert ids.tolist() == list(range(200_000))
