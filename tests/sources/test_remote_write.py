"""Remote write: every captured request value by value, every kind of bad one, and the compiled scan against the interpreted."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import cramjam
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_prometheus import WriteRequest

from ninefold.ground.errors import BadData, TooLarge
from ninefold.model.entity import entity_of, series_id
from ninefold.model.signal import SCHEMAS, Decoded
from ninefold.sources import kernel, remote_write_wire
from ninefold.sources.body import decompress
from ninefold.sources.remote_write import RemoteWrite, _Work

RECEIVED = 1_795_350_900_000_000_000
NOW_MS = RECEIVED // 1_000_000
FILES = ["POST_api_v1_write_01", "POST_api_v1_write_02", "POST_api_v1_write_03", "with_exemplars", "with_metadata"]


Point = tuple[str, tuple[tuple[str, str], ...], int, int]


@pytest.fixture(scope="module", autouse=True)
def compiled() -> kernel.Kernels:
    kernel.warm()
    return kernel.kernels()


@pytest.fixture(params=["interpreted", "compiled"])
def loops(request: pytest.FixtureRequest, compiled: kernel.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds before Numba has compiled and after."""
    monkeypatch.setattr(kernel, "_current", compiled if request.param == "compiled" else kernel.interpreted)


def bits(value: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


def expected(request: Any) -> list[Point]:
    """The points of a request, straightforwardly."""
    return [
        (
            next(label.value for label in series.labels if label.name == "__name__"),
            tuple((label.name, label.value) for label in series.labels if label.name != "__name__"),
            sample.timestamp * 1_000_000,
            bits(sample.value),
        )
        for series in request.timeseries
        for sample in series.samples
    ]


def rows(decoded: Decoded, signal: str) -> list[dict[str, Any]]:
    for batch in decoded.batches:
        assert batch.rows.schema == SCHEMAS[batch.signal]
        batch.rows.validate(full=True)
    return [row for batch in decoded.batches if batch.signal == signal for row in batch.rows.to_pylist()]


def points(decoded: Decoded, known: dict[int, dict[str, Any]]) -> list[Point]:
    """The points that came out, with their series spelled out."""
    known.update({row["series"]: row for row in rows(decoded, "series")})
    found = []
    for batch in decoded.batches:
        if batch.signal == "metric":
            columns = [batch.rows.column("series").to_pylist(), batch.rows.column("time").cast(pa.int64()).to_pylist()]
            values = np.asarray(batch.rows.column("value")).view(np.int64).tolist()
            for series, time, value in zip(*columns, values, strict=True):
                row = known[series]
                assert series == series_id(row["name"], dict(row["attributes"]))
                found.append((row["name"], tuple(row["attributes"]), time, value))
    return found


def series(labels: dict[str, str], *samples: tuple[int, float]) -> Any:
    request = WriteRequest()
    one = request.timeseries.add()
    for name, value in labels.items():
        one.labels.add(name=name, value=value)
    for time, value in samples:
        one.samples.add(timestamp=time, value=value)
    return request


def decode(request: Any, decoder: RemoteWrite | None = None) -> Decoded:
    return (decoder or RemoteWrite()).decode(request.SerializeToString(), "prom", RECEIVED)


def body_of(data: Path, name: str) -> bytes:
    return decompress((data / "payloads/prometheus" / f"{name}.body.bin.snappy").read_bytes(), "snappy", 1 << 20)


def test_new_series_are_the_same_read_at_once_or_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    request = WriteRequest()
    for number in (*range(12), 3, 7):
        request.MergeFrom(series({"__name__": "up", "instance": f"host-{number}"}, (NOW_MS, number)))
        request.MergeFrom(series({"b": "", "a": str(number)}, (NOW_MS, number)))
    whole, decoder = decode(request), RemoteWrite()
    monkeypatch.setattr("ninefold.sources.remote_write._TOGETHER", 5)
    monkeypatch.setattr("ninefold.sources.series._GATHERED", 3)
    parts = decode(request, decoder)
    for signal in ("series", "metric", "quarantine"):
        assert rows(parts, signal) == rows(whole, signal) != []
    assert len(rows(parts, "series")) == 12
    assert rows(decode(request, decoder), "series") == []


def test_what_a_new_series_is_while_it_is_described_is_not_kept_until_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    request = WriteRequest()
    for number in range(600):
        request.MergeFrom(series({"__name__": "up", **{f"label_{i}": f"{i} of {number}" for i in range(9)}}, (NOW_MS, number)))
    body = request.SerializeToString()

    def peak_bytes(together: int) -> int:
        monkeypatch.setattr("ninefold.sources.remote_write._TOGETHER", together)
        monkeypatch.setattr("ninefold.sources.series._GATHERED", together)
        decoder, work = RemoteWrite(), _Work(remote_write_wire.read(body))
        tracemalloc.start()
        try:
            decoder._identify(work, "")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_bytes(50) < peak_bytes(600) / 2


@pytest.mark.usefixtures("loops")
def test_every_captured_request_value_by_value(data: Path) -> None:
    decoder, known = RemoteWrite(), {}
    for name in FILES:
        body = body_of(data, name)
        request = WriteRequest.FromString(body)
        decoded = decoder.decode(body, "prom", RECEIVED)
        assert points(decoded, known) == expected(request), name
        assert decoded.rejected == 0
        for row in rows(decoded, "series"):
            assert row["entity"] == entity_of(dict(row["attributes"]))
            assert row["vnode"] == row["series"] % 4096
            assert row["source"] == "prom"
    assert len(known) > 500


def test_known_series_are_described_once(data: Path) -> None:
    decoder = RemoteWrite()
    body = body_of(data, FILES[0])
    first, second = decoder.decode(body, "prom", RECEIVED), decoder.decode(body, "prom", RECEIVED)
    assert [batch.signal for batch in first.batches] == ["series", "metric"]
    assert [batch.signal for batch in second.batches] == ["metric"]
    assert second.batches[0].rows == first.batches[1].rows


def test_a_forgotten_series_is_described_again(data: Path) -> None:
    decoder = RemoteWrite()
    body = body_of(data, FILES[0])
    described = rows(decoder.decode(body, "prom", RECEIVED), "series")
    lost = {row["series"] for row in described[::7]}
    decoder.forget(lost)
    assert {row["series"] for row in rows(decoder.decode(body, "prom", RECEIVED), "series")} == lost
    assert rows(decoder.decode(body, "prom", RECEIVED), "series") == []


@pytest.mark.usefixtures("loops")
def test_metadata_gives_kind_and_unit_to_known_and_to_new_series(data: Path) -> None:
    decoder, known = RemoteWrite(), {}
    points(decoder.decode(body_of(data, FILES[0]), "prom", RECEIVED), known)
    before = {row["name"]: row["kind"] for row in known.values()}
    assert before["go_memstats_alloc_bytes_total"] == "counter"
    assert before["go_goroutines"] == "unknown"
    assert decoder.decode(body_of(data, "with_metadata"), "prom", RECEIVED + 5).batches == []
    changed = rows(decoder.decode(body_of(data, FILES[0]), "prom", RECEIVED + 5), "series")
    kinds = {row["name"]: row["kind"] for row in changed}
    assert kinds["go_goroutines"] == "gauge"
    assert "go_memstats_alloc_bytes_total" not in kinds
    assert all(row["seen"].value == RECEIVED + 5 for row in changed)
    decoder.decode(body_of(data, "with_metadata"), "prom", RECEIVED)
    assert rows(decoder.decode(body_of(data, FILES[0]), "prom", RECEIVED), "series") == []
    fresh = rows(decode(series({"__name__": "go_goroutines", "job": "new"}, (1, 1.0)), decoder), "series")
    assert fresh[0]["kind"] == "gauge"


@pytest.mark.parametrize(
    ("type_", "family", "name", "kind"),
    [
        (1, "http_requests", "http_requests_total", "counter"), (1, "odd", "odd", "counter"), (2, "queue_count", "queue_count", "gauge"),
        (3, "latency", "latency_bucket", "counter"), (5, "rpc", "rpc", "gauge"), (5, "rpc", "rpc_sum", "counter"),
        (0, "plain", "plain", "unknown"), (0, "plain", "plain_total", "counter"), (6, "build_info", "build_info", "gauge"),
    ],
)  # fmt: skip
def test_kinds(type_: int, family: str, name: str, kind: str) -> None:
    request = series({"__name__": name}, (1, 1.0))
    request.metadata.add(type=type_, metric_family_name=family, unit="seconds")
    (row,) = rows(decode(request), "series")
    assert (row["kind"], row["unit"]) == (kind, "seconds")


@pytest.mark.usefixtures("loops")
def test_staleness_markers_and_odd_numbers_keep_their_bits() -> None:
    stale = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
    wanted = [stale, float("nan"), float("inf"), -0.0, 5e-324]
    request = series({"__name__": "x"})
    raw = bytes(request.SerializeToString())
    samples = b"".join(b"\x12\x0b\x09" + struct.pack("<d", value) + b"\x10" + bytes([i]) for i, value in enumerate(wanted))
    inner = raw[2:] + samples
    decoded = RemoteWrite().decode(b"\x0a" + bytes([len(inner)]) + inner, "prom", RECEIVED)
    assert [point[3] for point in points(decoded, {})] == [bits(value) for value in wanted]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"job": "x"}, "the label __name__ is missing"), ({}, "the label __name__ is missing"),
        ({"__name__": "x", "b": "1", "a": "2"}, "not sorted"), ({"__name__": "x", "": "1"}, "not sorted"),
        ({"": "1", "__name__": "x"}, "a label has no name"), ({"__name__": ""}, "the label __name__ is missing"),
    ],
)  # fmt: skip
def test_bad_labels_go_to_quarantine_and_the_rest_is_kept(labels: dict[str, str], reason: str) -> None:
    request = series({"__name__": "good"}, (5, 1.0))
    request.MergeFrom(series(labels, (1, 1.0), (2, 2.0)))
    request.MergeFrom(series(labels, (3, 1.0)))
    decoded = decode(request)
    assert [point[0] for point in points(decoded, {})] == ["good"]
    assert decoded.rejected == 3
    (bad,) = rows(decoded, "quarantine")
    assert reason in bad["reason"]
    assert reason in decoded.reason
    assert (bad["signal"], bad["format"], bad["where"]) == ("metric", "remote_write", "timeseries[1], timeseries[2]")
    assert WriteRequest.FromString(bad["payload"]).timeseries == request.timeseries[1:]


def test_a_label_that_is_not_utf8_and_a_repeated_one() -> None:
    good = bytes(series({"__name__": "x", "a": "ab"}, (1, 1.0)).SerializeToString())
    repeated = bytes(series({"__name__": "y", "a": "ab", "b": "ab"}, (1, 1.0)).SerializeToString()).replace(b"\x01b\x12", b"\x01a\x12")
    decoded = RemoteWrite().decode(good + good.replace(b"\x02ab", b"\x02\xff\xfe") + repeated, "prom", RECEIVED)
    assert [bad["reason"] for bad in rows(decoded, "quarantine")] == [
        "a label is not UTF-8 (1 series)",
        "the labels are not sorted by name, or a name occurs twice (1 series)",
    ]
    assert len(points(decoded, {})) == 1


@pytest.mark.parametrize("time", [-1, 9_223_372_036_855, -(2**63), 2**63 - 1])
def test_a_time_no_store_can_hold(time: int) -> None:
    request = series({"__name__": "x"}, (time, 1.0), (7, 2.0))
    decoded = decode(request)
    assert [point[2] for point in points(decoded, {})] == [7_000_000]
    assert decoded.rejected == 1
    assert "before 1970 or after 2262" in rows(decoded, "quarantine")[0]["reason"]


@pytest.mark.usefixtures("loops")
def test_captured_exemplars_are_kept(data: Path) -> None:
    body = body_of(data, "with_exemplars")
    decoded = RemoteWrite().decode(body, "prom", RECEIVED)
    known = {row["series"]: row["name"] for row in rows(decoded, "series")}
    wanted = [
        (
            next(label.value for label in one.labels if label.name == "__name__"), exemplar.timestamp * 1_000_000, exemplar.value,
            next(label.value for label in exemplar.labels if label.name == "trace_id"),
        )
        for one in WriteRequest.FromString(body).timeseries for exemplar in one.exemplars
    ]  # fmt: skip
    assert len(wanted) == 8
    found = [(known[row["series"]], row["time"].value, row["value"], row["trace_id"]) for row in rows(decoded, "exemplar")]
    assert found == wanted


@pytest.mark.usefixtures("loops")
def test_labels_behind_samples_are_found_too() -> None:
    whole = series({"__name__": "x", "a": "1", "b": "2"}, (1, 1.0))
    first, second = series({"__name__": "x", "a": "1"}, (1, 1.0)), series({"b": "2"})
    inner = bytes(first.SerializeToString())[2:] + bytes(second.SerializeToString())[2:]
    decoder = RemoteWrite()
    for _ in range(2):
        decoded = decoder.decode(b"\x0a" + bytes([len(inner)]) + inner, "prom", RECEIVED)
        assert points(decoded, {}) == expected(whole)


def test_series_that_differ_in_one_byte_stay_apart() -> None:
    request = WriteRequest()
    for i in range(3000):
        request.MergeFrom(series({"__name__": "x", "pod": f"pod-{i:05d}"}, (i, float(i))))
    decoder, known = RemoteWrite(), {}
    for _ in range(2):
        assert points(decode(request, decoder), known) == expected(request)
    assert len(known) == 3000


@pytest.mark.usefixtures("loops")
def test_what_is_not_a_request() -> None:
    for body in (b"\xff" * 20, b"hello", b"\x0a\x05\x0a\x7f", b"\x0b\x0c"):
        with pytest.raises(BadData) as caught:
            RemoteWrite().decode(body, "prom", RECEIVED)
        assert "byte" in caught.value.where
    with pytest.raises(TooLarge):
        RemoteWrite().decode(b"\x0a\x00" * 100_000, "prom", RECEIVED)
    assert RemoteWrite().decode(b"", "prom", RECEIVED).batches == []


def test_a_malformed_label_names_its_place_in_the_body() -> None:
    good = bytes(series({"__name__": "x"}, (1, 1.0)).SerializeToString())
    bad = b"\x0a\x05\x0a\x03\x0a\x09x"
    with pytest.raises(BadData) as caught:
        RemoteWrite().decode(good + bad, "prom", RECEIVED)
    assert caught.value.where == f"labels, byte {len(good) + 4}"


def test_every_beginning_of_a_captured_request_decodes_or_is_bad_data(data: Path) -> None:
    body = body_of(data, FILES[1])
    for end in range(len(body)):
        try:
            RemoteWrite().decode(body[:end], "prom", RECEIVED)
        except BadData as error:
            assert "byte" in error.where  # noqa: PT017 - both outcomes are right, what is raised must say where


def test_bombs_and_other_bodies() -> None:
    with pytest.raises(TooLarge):
        decompress(bytes(cramjam.snappy.compress_raw(bytes(2000))), "snappy", 1999)
    with pytest.raises(TooLarge):
        decompress(b"\xff\xff\xff\xff\x0f" + b"x", "snappy", 20 << 20)
    for body in (b"", b"\xff" * 12, b"\x05hello", bytes(cramjam.snappy.compress_raw(bytes(range(200))))[:-5]):
        with pytest.raises(BadData):
            decompress(body, "snappy", 1 << 20)


_labels = st.dictionaries(st.text("abcdefgh_", min_size=1, max_size=4), st.text(max_size=12), max_size=4)
_samples = st.lists(st.tuples(st.integers(0, 9_223_372_036_853), st.floats()), max_size=4)


@given(st.lists(st.tuples(st.text("xyz", min_size=1, max_size=2), _labels, _samples), max_size=8))
@settings(max_examples=60, deadline=None)
def test_whatever_is_sent_comes_out(requests: list[tuple[str, dict[str, str], list[tuple[int, float]]]]) -> None:
    request = WriteRequest()
    for name, labels, samples in requests:
        request.MergeFrom(series(dict(sorted({"__name__": name, **labels}.items())), *samples))
    decoder, known = RemoteWrite(), {}
    wanted = [(name, tuple(sorted(attributes)), time, value) for name, attributes, time, value in expected(request)]
    for _ in range(2):
        decoded = decode(request, decoder)
        assert [(name, tuple(sorted(attributes)), time, value) for name, attributes, time, value in points(decoded, known)] == wanted
        assert decoded.rejected == 0


@pytest.fixture(scope="module")
def wire(data: Path) -> bytes:
    return body_of(data, FILES[1])[:1500]


@given(st.lists(st.tuples(st.integers(0, 1499), st.integers(0, 255)), max_size=12), st.integers(0, 1500))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_interpreted_and_compiled_agree_on_damaged_bodies(
    wire: bytes, compiled: kernel.Kernels, monkeypatch: pytest.MonkeyPatch, changes: list[tuple[int, int]], end: int
) -> None:
    body = bytearray(wire)
    for place, byte in changes:
        body[place] = byte
    outcomes = []
    for loops in (kernel.interpreted, compiled):
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "_current", loops)
            try:
                decoded = RemoteWrite().decode(bytes(body[:end]), "prom", RECEIVED)
                outcomes.append(([repr(batch.rows.to_pylist()) for batch in decoded.batches], decoded.rejected, decoded.reason))
            except BadData as error:
                outcomes.append((error.reason, error.where))
    assert outcomes[0] == outcomes[1]
