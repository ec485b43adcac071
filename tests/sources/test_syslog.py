"""Syslog: captured messages value by value, both readers against each other, and framing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sockets import rows as rows_of

from ninefold.model.signal import Decoded
from ninefold.sources import kernel
from ninefold.sources.syslog import Framer, SyslogConfig
from ninefold.sources.syslog_message import parse, read

RECEIVED = int(datetime(2026, 11, 22, 13, tzinfo=UTC).timestamp()) * 10**9


@pytest.fixture(scope="module", autouse=True)
def compiled() -> kernel.Kernels:
    kernel.warm()
    return kernel.kernels()


@pytest.fixture(params=["one by one", "compiled"])
def loops(request: pytest.FixtureRequest, compiled: kernel.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds before Numba has compiled and after."""
    monkeypatch.setattr(kernel, "_current", compiled if request.param == "compiled" else kernel.interpreted)


def rows(decoded: Decoded, signal: str = "log") -> list[dict[str, Any]]:
    return rows_of(decoded, signal)


def ns(*moment: int, micros: int = 0) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 10**9 + micros * 1000  # type: ignore[misc]


# What was logged when the payloads were captured: facility, severity word and number, program, process, text.
SAID = [
    ("local0", "err", 17, "checkout", "", 'payment failed order=8123 err="timeout after 3000ms"'),
    ("user", "crit", 18, "kernel", "", "Out of memory: Killed process 4123 (java) total-vm:8123456kB"),
    ("auth", "info", 9, "sshd", "771", "Failed password for invalid user admin from 203.0.113.7 port 52144 ssh2"),
    ("daemon", "notice", 10, "app", "", "unicode: ümlaut 日本 ✓"),
    (
        "local3", "warning", 13, "nginx", "",
        "upstream timed out (110: Connection timed out) while reading response header from upstream, client: 10.1.2.3, server: shop",
    ),
]  # fmt: skip
QUALITY = [("syslog.timeQuality.tzKnown", "1"), ("syslog.timeQuality.isSynced", "0")]
ORIGIN = [("syslog.origin@32473.ip", "10.0.0.5"), ("syslog.origin@32473.svc", "checkout")]


def expected(times: list[int], msgid: bool, structured: list[list[tuple[str, str]]]) -> list[dict[str, Any]]:
    found = []
    for i, (facility, word, number, app, procid, body) in enumerate(SAID[: len(times)]):
        attributes = [("syslog.facility", facility)]
        attributes += [("syslog.procid", procid)] if procid else []
        attributes += [("syslog.msgid", "TCPIN")] if msgid and i == 0 else []
        found.append({
            "time": times[i], "received": RECEIVED, "source": "syslog", "entity": f"service:{app}", "severity_number": number,
            "severity_text": word, "body": body, "pattern": 0, "trace_id": "", "span_id": "", "attributes": attributes + structured[i],
            "resource": [("host.name", "vm"), ("service.name", app)],
        })  # fmt: skip
    return found


def without_vnode(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "vnode"} for row in found]


RSYSLOG = [ns(2026, 11, 22, 12, 35, 43, micros=micros) for micros in (134377, 139645, 142085, 144409, 146511)]
RSYSLOG_DATA = [QUALITY + ORIGIN, QUALITY, [], QUALITY, QUALITY]
NG = [ns(2026, 11, 22, 12, 36, 16)] * 5


def sequence(number: int) -> list[tuple[str, str]]:
    return [("syslog.meta.sequenceId", str(number))]


NG_DATA = [QUALITY + ORIGIN + sequence(1), QUALITY + sequence(2), sequence(3), QUALITY + sequence(4), QUALITY + sequence(5)]
NONE: list[list[tuple[str, str]]] = [[]] * 5


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    ("name", "times", "msgid", "structured"),
    [
        ("rsyslog_tcp_rfc5424_newline.raw", RSYSLOG, True, RSYSLOG_DATA),
        ("rsyslog_tcp_rfc5424_octet_counted.raw", RSYSLOG, True, RSYSLOG_DATA),
        ("rsyslog_tls_rfc5424_octet_counted.raw", RSYSLOG, True, RSYSLOG_DATA),
        ("rsyslog_udp_rfc5424.raw", RSYSLOG, True, RSYSLOG_DATA),
        ("rsyslog_udp_rfc5424.raw.dgram*.bin", RSYSLOG, True, RSYSLOG_DATA),
        ("rsyslog_udp_rfc3164.raw.dgram*.bin", [ns(2026, 11, 22, 12, 35, 43)] * 5, False, NONE),
        ("syslogng_tcp_rfc5424_octet_counted.raw", NG, True, NG_DATA),
        ("syslogng_tls_rfc5424.raw", NG, True, NG_DATA),
        ("syslogng_udp_rfc3164.raw", NG, False, NONE),
        ("syslogng_udp_rfc3164.raw.dgram*.bin", NG, False, NONE),
    ],
)
def test_captured_messages_value_by_value(
    data: Path, name: str, times: list[int], msgid: bool, structured: list[list[tuple[str, str]]]
) -> None:
    paths = sorted((data / "payloads/syslog").glob(name))
    assert paths
    if len(paths) > 1:
        lines = [path.read_bytes() for path in paths]
    else:
        lines, cut = Framer().feed(paths[0].read_bytes())
        assert cut == []
    decoded = parse(lines, "syslog", RECEIVED)
    assert decoded.rejected == 0
    assert without_vnode(rows(decoded)) == expected(times, msgid, structured)


@pytest.mark.usefixtures("loops")
def test_messages_that_rsyslog_wrapped_twice_are_unwrapped(data: Path) -> None:
    lines = (data / "payloads/syslog/rsyslog_TRAP_imuxsock_wrapped_rfc5424.txt").read_bytes().splitlines()
    found = rows(parse(lines, "syslog", RECEIVED))
    assert [(row["entity"], row["body"]) for row in found] == [(f"service:{app}", body) for *_, app, _, body in SAID[:4]]
    assert found[0]["time"] == ns(2026, 11, 22, 12, 35, 8, micros=520439)
    assert found[0]["attributes"] == [("syslog.facility", "local0"), ("syslog.msgid", "TCPIN"), *QUALITY, *ORIGIN]


@pytest.mark.usefixtures("loops")
def test_json_lines_stay_the_body(data: Path) -> None:
    lines = (data / "payloads/syslog/syslogng_tcp_json.raw").read_bytes().splitlines()
    found = rows(parse(lines, "syslog", RECEIVED))
    assert [row["body"].encode() for row in found] == lines
    assert [(row["severity_text"], row["severity_number"], row["entity"], row["time"]) for row in found] == [
        (word, number, f"service:{app}", NG[0]) for _, word, number, app, *_ in SAID
    ]
    (bare,) = rows(parse([b'{"level":"warn"}'], "syslog", RECEIVED))
    assert (bare["severity_number"], bare["severity_text"], bare["entity"], bare["time"]) == (0, "", "", RECEIVED)


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    ("line", "host", "app", "procid", "body", "time"),
    [
        (b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed on /dev/pts/8", "mymachine", "su", "", "'su root' failed on /dev/pts/8",
         ns(2026, 10, 11, 22, 14, 15)),
        (b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time.", "192.0.2.1", "myproc", "8710",
         "%% It's time.", ns(2003, 8, 24, 12, 14, 15, micros=3)),
        (b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - \xef\xbb\xbf'su root' failed", "mymachine.example.com", "su",
         "", "'su root' failed", ns(2003, 10, 11, 22, 14, 15, micros=3000)),
        (b"<13>1 - - - - - -", "", "", "", "", RECEIVED),
        (b"<13>1 2026-11-22T10:00:00Z h a - - without structured data", "h", "a", "", "without structured data", ns(2026, 11, 22, 10)),
        (b"<13>1 2026-02-30T10:00:00Z h a - - - no such day", "h", "a", "", "no such day", RECEIVED),
        (b"<13>hello world", "", "", "", "hello world", RECEIVED),
        (b"<13>app[7]: no header", "", "app", "7", "no header", RECEIVED),
        (b"<13>2026-11-22T12:35:43.1+02:00 vm sshd[1]: forward format", "vm", "sshd", "1", "forward format",
         ns(2026, 11, 22, 10, 35, 43, micros=100_000)),
        (b"<189>Nov 22 2026 12:35:43: %ASA-1-106021: no host", "", "%ASA-1-106021", "", "no host", ns(2026, 11, 22, 12, 35, 43)),
        (b"<13>Nov 22 12:00:00 h caf\xe9: Latin-1 \xfc", "h", "café", "", "Latin-1 ü", ns(2026, 11, 22, 12)),
        (b"<13>Nov 22 12:00:00 h a: line\nwith break\n\0", "h", "a", "", "line\nwith break", ns(2026, 11, 22, 12)),
    ],
)  # fmt: skip
def test_messages_as_the_world_sends_them(line: bytes, host: str, app: str, procid: str, body: str, time: int) -> None:
    (row,) = rows(parse([line], "syslog", RECEIVED))
    assert dict(row["resource"]) == {key: value for key, value in (("host.name", host), ("service.name", app)) if value}
    assert dict(row["attributes"]).get("syslog.procid", "") == procid
    assert (row["body"], row["time"]) == (body, time)
    assert row["entity"] == (f"service:{app}" if app else f"host:{host}" if host else "")


@pytest.mark.usefixtures("loops")
@pytest.mark.parametrize(
    ("received", "stamp", "year"),
    [
        ((2027, 1, 1, 0, 5), b"Dec 31 23:59:59", 2026), ((2026, 12, 31, 23, 50), b"Jan  1 00:00:01", 2027),
        ((2026, 7, 1), b"Jul  1 00:00:00", 2026), ((2024, 3, 1), b"Feb 29 12:00:00", 2024),
    ],
)  # fmt: skip
def test_the_year_that_rfc3164_does_not_name(received: tuple[int, ...], stamp: bytes, year: int) -> None:
    (row,) = rows(parse([b"<13>" + stamp + b" h a: x"], "syslog", ns(*received)))
    assert datetime.fromtimestamp(row["time"] / 1e9, UTC).year == year


def test_escapes_in_structured_data() -> None:
    line = rb'<165>1 2003-10-11T22:14:15.003Z h e - ID47 [x@1 iut="3" source="App\"ic[]at\\ion\]"][y class="high"] text'
    (row,) = rows(parse([line], "syslog", RECEIVED))
    assert row["attributes"][2:] == [("syslog.x@1.iut", "3"), ("syslog.x@1.source", 'App"ic[]at\\ion]'), ("syslog.y.class", "high")]


@pytest.mark.usefixtures("loops")
def test_what_is_not_syslog_goes_to_quarantine() -> None:
    decoded = parse([b"GET / HTTP/1.1", b"<13>Nov 22 12:00:00 h a: x", b"<192>1 - - - - - -", b"{no json"], "syslog", RECEIVED, [b"tail"])
    assert len(rows(decoded)) == 1
    first, second = rows(decoded, "quarantine")
    assert (first["reason"], first["payload"]) == ("not a syslog message (3 lines)", b"GET / HTTP/1.1\n<192>1 - - - - - -\n{no json")
    assert (second["reason"], second["payload"]) == ("the rest of messages that are too long (1 pieces)", b"tail")
    assert decoded.rejected == 3


_time = st.one_of(
    st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(lambda moment: moment.isoformat() + "Z"),
    st.datetimes(datetime(1969, 1, 2), datetime(2300, 1, 1)).map(datetime.isoformat),
    st.datetimes().map(lambda moment: f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}"),
    st.text("0123456789-:T.,Z+ NovFeb", max_size=26),
)
_word = st.one_of(
    st.just("-"), st.just("1"), st.text(st.characters(exclude_categories=["Cs"]), max_size=6), st.text("ab[]:1 -", max_size=7)
)
_data = st.one_of(st.just("-"), st.just('[a b="c"]'), st.text('[]"\\ab= -', max_size=14))


_starts = st.sampled_from(["<13>1 ", "<13>", "<191>1 ", "<0>", "<1234>1 ", "<>", "<9>1"])


@given(st.tuples(_starts, _time, _word, _word, _word, _word, _data, _word))
@example(("<13>1 ", "2026-11-22T12:35:43.134377+00:00", "vm", "a", "-", "-", "-", "\ufeff x"))
@example(("<13>", "Nov 22 12:35:43", "vm", "sshd[771]", "x", "y", "-", "z"))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_readers_read_the_same(compiled: kernel.Kernels, monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...]) -> None:
    line = (parts[0] + " ".join(parts[1:])).encode()
    for message in (line, line.replace(b" - ", b": "), line[:-2], line + b"\xff"):
        outcomes = []
        for loops in (kernel.interpreted, compiled):
            with monkeypatch.context() as patch:
                patch.setattr(kernel, "_current", loops)
                decoded = parse([message, b"<13>next"], "syslog", RECEIVED)
                outcomes.append((rows(decoded), decoded.rejected))
        assert outcomes[0] == outcomes[1], repr(message)


@given(st.binary(max_size=80))
def test_no_line_breaks_the_reader(line: bytes) -> None:
    read(line, RECEIVED)
    parse([line, b"<13>" + line, b"<13>1 " + line], "syslog", RECEIVED)


def chunks(stream: bytes, sizes: list[int]) -> list[bytes]:
    found = []
    for size in sizes:
        found.append(stream[:size])
        stream = stream[size:]
    return [*found, stream]


_message = st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"]), max_size=30).map(
    lambda text: b"<13>" + text.encode()
)


@given(st.lists(st.tuples(st.booleans(), _message), max_size=8), st.lists(st.integers(1, 25), max_size=20))
@settings(deadline=None)
def test_mixed_framing_split_anywhere(messages: list[tuple[bool, bytes]], sizes: list[int]) -> None:
    stream = b"".join(b"%d %b" % (len(text), text) if counted else text + b"\n" for counted, text in messages)
    framer, found = Framer(), []
    for chunk in chunks(stream, sizes):
        lines, cut = framer.feed(chunk)
        assert cut == []
        found += lines
    assert found == [text for _, text in messages]
    assert framer.close() == []


def test_a_counted_message_may_hold_newlines_and_a_line_may_begin_with_a_number() -> None:
    lines, _ = Framer().feed(b"13 <13>a\nb\nc d e12 monkeys\n7 <13>abc<13>end\n")
    assert lines == [b"<13>a\nb\nc d e", b"12 monkeys", b"<13>abc", b"<13>end"]


@given(st.lists(st.integers(1, 30), max_size=40))
def test_overlong_messages_are_cut_and_the_rest_comes_out_apart(sizes: list[int]) -> None:
    stream = b"<13>" + b"x" * 100 + b"\n<13>short\n120 <13>" + b"y" * 116 + b"<13>last\n"
    framer = Framer(limit=50)
    lines: list[bytes] = []
    rest: list[bytes] = []
    for chunk in chunks(stream, sizes):
        more, cut = framer.feed(chunk)
        lines += more
        rest += cut
    assert lines == [b"<13>" + b"x" * 46, b"<13>short", b"<13>" + b"y" * 46, b"<13>last"]
    assert b"".join(rest) == b"x" * 54 + b"y" * 70


def test_the_end_of_a_stream_ends_a_message() -> None:
    framer = Framer()
    assert framer.feed(b"<13>no newline") == ([], [])
    assert framer.close() == [b"<13>no newline"]
    framer.feed(b"99 <13>half")
    assert framer.close() == [b"<13>half"]
    assert framer.close() == []


def test_a_message_wrapped_a_thousand_times_is_read_once() -> None:
    line = b"<13>1 2026-01-01T00:00:00Z h " + b"1 - - - - - " * 3000 + b"x"
    decoded = parse([line], "s", 1_800_000_000_000_000_000)
    assert sum(batch.rows.num_rows for batch in decoded.batches) == 1


def test_rfc3164_times_are_of_the_configured_zone(compiled: kernel.Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    received = int(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()) * 10**9
    lines = [
        b"<13>Jul  1 13:59:00 h app: x", b"<13>Jul  1 2026 13:59:00 h app: x", b"<13>1 2026-07-01T11:59:00Z h app - - - x",
        b"<13>2026-07-01T13:59:00+02:00 h app: x", b"<13>Jan  1 00:30:00 h app: x",
    ]  # fmt: skip
    expected = [datetime(2026, 7, 1, 11, 59, tzinfo=UTC)] * 4 + [datetime(2025, 12, 31, 23, 30, tzinfo=UTC)]
    for loops in (compiled, kernel.interpreted):
        monkeypatch.setattr(kernel, "_current", loops)
        found = rows_of(parse(lines, "s", received, zone=ZoneInfo("Europe/Berlin")), "log")
        assert [datetime.fromtimestamp(row["time"] / 1e9, UTC) for row in found] == expected
    with pytest.raises(ValidationError, match="time zone database"):
        SyslogConfig.model_validate({"timezone": "Mars/Olympus"})
