"""The decoders behind no door: what listeners, subscriptions, pollers and files read, each as a function of bytes.

Where a protocol seals what it carries, there is a decoder for the bytes as they come and one for bytes that were sealed rightly.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import io
import struct
import tempfile
import zlib
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ninefold.ground.errors import NinefoldError
from ninefold.plugin import Lent
from ninefold.sources import (
    ciphers,
    collectd_names,
    discovery,
    exposition_kernel,
    kernel,
    native_histograms,
    otlp_grpc,
    payload,
    replay,
    syslog_kernel,
)
from ninefold.sources.collectd_network import Guard, Packets
from ninefold.sources.files import accept, parser_of
from ninefold.sources.fluent_forward import Entries, FluentForwardConfig, Session
from ninefold.sources.graphite import Plaintext
from ninefold.sources.icinga import Icinga
from ninefold.sources.influx import Influx
from ninefold.sources.listening import Lines
from ninefold.sources.otlp_grpc import OtlpGrpc
from ninefold.sources.parquet import Parquet
from ninefold.sources.payload import Message, PayloadConfig, Payloads
from ninefold.sources.postgresql_log import PostgresqlLog
from ninefold.sources.rows import Rows, RowsConfig
from ninefold.sources.scrape import ScrapeConfig, Target, read_page
from ninefold.sources.series import Known
from ninefold.sources.snmp import Datagram, Notifications, SnmpConfig
from ninefold.sources.snmp_message import SEQUENCE, TRAP, Item, wrap, wrap_number, wrap_oid
from ninefold.sources.snmp_usm import Engine, Report, User, _Header
from ninefold.sources.statsd import Aggregator
from ninefold.sources.syslog import Framer
from ninefold.sources.syslog_message import parse
from ninefold.sources.tailing import Tail

RECEIVED = 1_795_000_000_000_000_000
ANY = [b"{}", b"[]", b"a b=1 1\n", b"<13>1 - - - - - - x", b"\x0a\x00"]
_USER, _PASSWORD = b"fuzz", b"secret-of-fuzz"
_ENGINE = b"\x80\0\0\0\x04fuzz"
_PROTECTED = User("sha256", _PASSWORD, "aes", _PASSWORD)
_FORMATS = (
    "otlp_proto", "otlp_json", "remote_write", "syslog", "influx:s", "loki", "loki_proto", "elasticsearch", "splunk_hec", "collectd",
    "graphite", "fluent_forward", "batch.metric", "techniques.log", "rows.metric", "rows.log", "alertmanager", "cloudevents", "webhook:x",
)  # fmt: skip
_PAGES = {
    "text": "text/plain", "openmetrics": "application/openmetrics-text",
    "protobuf": "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
}  # fmt: skip


def wrap_trap() -> bytes:
    """A trap's PDU."""
    binds = [(b"\x2b\6\1\2\1\1\3\0", wrap_number(1, 0x43)), (b"\x2b\6\1\6\3\1\1\4\1\0", wrap_oid("1.3.6.1.6.3.1.1.5.3"))]
    return wrap(TRAP, *[wrap_number(0)] * 3, wrap(SEQUENCE, *(wrap(SEQUENCE, wrap(6, oid), value) for oid, value in binds)))


_SEEDS = {
    "statsd": [b"a.b:1|c|@0.1|#x:y\na:2|ms\na:+3|g\nu:z|s\nt:1:2|h", b"_e{3,2}:abc|de|t:error|#a:b\n_sc|up|1|m:x"],
    "fluent_forward": [b"\x93\xa1t\xce\x6a\0\0\0\x81\xa3log\xa1x", b"\x92\xa1t\x91\x92\xd7\0\x6a\0\0\0\0\0\0\1\x81\xa1a\1"],
    "influx": [b'cpu,host=a\\ b usage=1.5,n=3i,ok=t,s="x\\"y" 1795000000000000000\n'],
    "file csv": [b'time,host,message\n2026-11-22T10:00:00Z,a,"x\ny"\n'],
    "file metrics": [b"time,host,cpu\n2026-11-22T10:00:00Z,a,1\n1795000000,b,2.5\n", b'time,name,value,host\n1795000000,up,1,"a\nb"\n'],
    "file jsonl": [b'{"time":1795000000,"message":"x","tags":"a:b,c:d","more":"{\\"a\\":[1]}"}\n'],
    "discovery": [b'[{"targets": ["a:1"], "labels": {"x": "y"}}]', b"- targets: [a]\n  labels: {x: 1}\n"],
    "loki /loki/api/v1/push application/x-protobuf": [
        b"\n(\n\x09{app=\"a\"}\x12\x1b\n\x06\x08\x80\xa0\xf5\xd3\6\x12\4line\x1a\x0b\n\x04user\x12\x03bob"
    ],
    "loki": [b'{"streams":[{"stream":{"app":"a"},"values":[["1795000000000000000","line",{"user":"bob"}]]}]}'],
    "elasticsearch": [b'{"create":{"_index":"logs"}}\n{"@timestamp":"2026-11-22T10:00:00Z","message":"x","host":{"name":"a"}}\n'],
    "cloudevents": [b'{"specversion":"1.0","id":"1","source":"/a","type":"t","time":"2026-11-22T10:00:00Z","data":{"host":"a"}}'],
    "splunk": [b'{"time":1795000000,"host":"a","event":"x"}{"event":"metric","fields":{"metric_name:cpu":1}}'],
    "native histograms": [b"\x08\3\x18\2 \5(\2x\1b\4\x08\0\x10\2j\2\2\2", b"\x09\0\0\0\0\0\0\xf0?"],
    "snmp sealed": [wrap_trap()],
    "body gzip": [gzip.compress(b"some text")],
    "body deflate": [zlib.compress(b"some text")],
    "body snappy": [b"\x05\x10hello"],
    "alertmanager": [b'{"alerts":[{"status":"firing","labels":{"alertname":"a"},"startsAt":"2026-11-22T10:00:00Z"}]}'],
    "webhook": [b'{"title":"x","severity":"high","host":"a","time":1795000000,"tags":"a:b","more":"{\\"a\\":[[1]]}"}'],
    "rows.metric": [b'[{"series":1,"time":1795000000000000000,"value":null}]'],
    "rows.log": [b'[{"time":1795000000000000000,"body":"x","attributes":{"a":"b"}}]'],
    "otlp_json": [b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1795000000000000000","body":{"stringValue":"x"}}]}]}]}'],
    "syslog": [b"<13>1 2026-11-22T10:00:00Z h app 1 m [a@1 x=\"y\"] text\n<34>Oct 11 22:14:15 h su[3]: text\n"],
    "graphite": [b"servers.a.cpu 1.5 1795000000\ncpu;host=a 2 -1\n"],
    "collectd": [b'[{"values":[1],"dstypes":["gauge"],"dsnames":["value"],"time":1795000000,"host":"a","plugin":"cpu","type":"cpu"}]'],
    "json": [b'{"title":"x","time":1795000000}'],
}  # fmt: skip


def refusing(work: Callable[..., Any], *about: Any) -> None:
    """Do work of which a refusal in words is a good end."""
    try:
        work(*about)
    except NinefoldError:
        return


def readers() -> dict[str, Callable[[bytes], Any]]:
    """All of them."""
    found: dict[str, Callable[[bytes], Any]] = {
        "syslog": lambda body: parse(body.split(b"\n"), "fuzz", RECEIVED),
        "syslog stream": _syslog_stream,
        "snmp": lambda body: _snmp({_USER: User()}, body),
        "snmp protected": lambda body: _snmp({_USER: _PROTECTED}, body),
        "snmp sealed": lambda body: _snmp({_USER: _PROTECTED}, _sealed(body)),
        "collectd_network plain": lambda body: _collectd("none", body),
        "collectd_network protected": lambda body: _collectd("sign", body),
        "collectd_network signed": lambda body: _collectd("sign", _signed(body)),
        "collectd_network encrypted": lambda body: _collectd("encrypt", _encrypted(body)),
        "graphite": lambda body: Plaintext(1).decode(b"\n".join(_lines(body)), "fuzz", RECEIVED),
        "statsd": _statsd,
        "fluent_forward": lambda body: _forward(FluentForwardConfig(port=0), body),
        "fluent_forward handshake": lambda body: _forward(
            FluentForwardConfig.model_validate({"shared_key": "k", "users": {"u": "p"}}), body
        ),
        "influx lines": lambda body: Influx().parse(body, "fuzz", RECEIVED),
        "native histograms": lambda body: native_histograms.read([body]),
        "parquet": lambda body: _on_disk(body, ".parquet", _parquet),
        "postgresql log": lambda body: PostgresqlLog("f", "f", "", "fuzz", "").parse(body, 0, RECEIVED),
        "icinga events": _icinga,
        "discovery json": lambda body: _on_disk(body, ".json", lambda path: list(discovery.read_groups(path))),
        "discovery yaml": lambda body: _on_disk(body, ".yml", lambda path: list(discovery.read_groups(path))),
    }
    for signal in ("metrics", "logs", "traces"):
        found[f"otlp_grpc {signal}"] = partial(_grpc, signal)
    for name, media_type in _PAGES.items():
        found[f"exposition {name}"] = partial(_page, media_type)
    for name in ("syslog", "exposition text", "exposition openmetrics"):
        found[f"{name} loops"] = partial(_with_loops, found[name])
    for format_ in get_args(payload.Format):
        found[f"payload {format_}"] = partial(_payload, format_)
    for format_ in ("csv", "jsonl", "log", "metrics"):
        found[f"file {format_} whole"] = lambda body, format_=format_: accept(body, format_, "m", "fuzz", RECEIVED)
        found[f"file {format_} followed"] = lambda body, format_=format_: _on_disk(body, "", partial(_followed, format_))
    for shape in ("events", "logs", "metrics"):
        found[f"rows {shape}"] = partial(_rows, shape)
    for format_ in _FORMATS:
        found[f"replay {format_}"] = partial(_replay, format_)
    return found


def seeds(name: str) -> list[bytes]:
    """Bytes to begin with that nobody captured."""
    if name == "parquet":
        file = io.BytesIO()
        pq.write_table(pa.table({"time": ["2026-11-22T10:00:00Z", "x"], "host": ["a", None], "cpu": [0.5, 1.5]}), file)
        return [file.getvalue()]
    word = name.removeprefix("replay ").removeprefix("payload ")
    return next((given for start, given in _SEEDS.items() if word.startswith(start)), [])


def _with_loops(decode: Callable[[bytes], Any], body: bytes) -> Any:
    """Decode by the loops that are otherwise compiled, uncompiled, so that a place outside of an array is noticed."""
    before = kernel._current
    kernel._current = kernel.interpreted._replace(syslog=syslog_kernel._lines, exposition=exposition_kernel.read_lines)
    try:
        return decode(body)
    finally:
        kernel._current = before


def _lines(body: bytes) -> list[bytes]:
    """A stream that comes in two pieces, cut into blocks of lines."""
    lines, half = Lines(), len(body) // 2
    return [*chain.from_iterable(lines.feed(piece)[0] for piece in (body[:half], body[half:])), *lines.close()]


def _syslog_stream(body: bytes) -> Any:
    framer, half = Framer(512), len(body) // 2
    found = [framer.feed(piece) for piece in (body[:half], body[half:])]
    lines = [line for lines, _ in found for line in lines] + framer.close()
    return parse(lines, "fuzz", RECEIVED, [piece for _, cut in found for piece in cut])


def _snmp(users: dict[bytes, User], body: bytes) -> Any:
    config = SnmpConfig.model_validate({"communities": ["public"]})
    try:
        return Notifications(config, Engine(_ENGINE, 1, users)).read(Datagram(body, "192.0.2.1", lambda data: None), RECEIVED)
    except Report:
        return None


def _sealed(body: bytes) -> bytes:
    """A message of version 3 around any scoped PDU, authenticated and encrypted."""
    header = _Header(1, 0, b"", 0, 0, _USER, Item(4, 0, 0), b"")
    return Engine(b"\x80\0\0\0\x04peer", 3, {})._seal(header, _PROTECTED, wrap(0x30, wrap(4), wrap(4), body))


def _collectd(level: str, body: bytes) -> Any:
    return Packets(Guard(level, {_USER: _PASSWORD}), collectd_names.DATA_SOURCES).decode([body], "fuzz", RECEIVED)


def _signed(body: bytes) -> bytes:
    return struct.pack("!HH", 0x200, 36 + len(_USER)) + hmac.digest(_PASSWORD, _USER + body, "sha256") + _USER + body


def _encrypted(body: bytes) -> bytes:
    head, start = len(_USER).to_bytes(2, "big") + _USER, bytes(16)
    plain = hashlib.sha1(body, usedforsecurity=False).digest() + body
    packed = ciphers.ofb(hashlib.sha256(_PASSWORD).digest(), start, plain[:60_000])
    return struct.pack("!HH", 0x210, 4 + len(head) + 16 + len(packed)) + head + start + packed


def _statsd(body: bytes) -> Any:
    aggregator = Aggregator("fuzz")
    decoded = aggregator.fold(b"\n".join(_lines(body)), RECEIVED)
    decoded.batches += aggregator.flush(RECEIVED, RECEIVED)
    return decoded


def _forward(config: FluentForwardConfig, body: bytes) -> Any:
    session, half = Session(config, lambda data: None), len(body) // 2
    found = [session.feed(piece) for piece in (body[:half], body[half:])]
    messages = [message for some, _ in found for message in some] + session.close()
    return Entries().decode(messages, [piece for _, rest in found for piece in rest], "fuzz", RECEIVED)


def _grpc(signal: str, body: bytes) -> Any:
    kept: list[Any] = []

    async def emit(batches: Sequence[Any]) -> None:
        kept.extend(batches)

    _drive(OtlpGrpc("fuzz", OtlpGrpc.Config(), Lent())._take(signal, emit, body[: otlp_grpc._INLINE_BYTES], "fuzz"))
    return kept


def _drive(work: Coroutine[Any, Any, Any]) -> None:
    """Run what never waits."""
    try:
        work.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


def _page(media_type: str, body: bytes) -> Any:
    target = Target("fuzz", {"instance": "a", "job": "b"}, ScrapeConfig(), Known(), 0)
    page = read_page(body, media_type)
    return [*target.take(page, RECEIVED, 0.1), *target.take(page, RECEIVED + 1, 0.1), *target.fail(RECEIVED + 2, 0.1)]


def _payload(format_: str, body: bytes) -> Any:
    payloads = Payloads(PayloadConfig.model_validate({"format": format_}), "fuzz", Lent())
    return payloads.decode([Message(body, "topic", "1", RECEIVED, {}), Message(body[::2])], RECEIVED)


def _icinga(body: bytes) -> Any:
    reader = Icinga("fuzz", Icinga.Config.model_validate({"url": "http://localhost"}), Lent())
    return reader._read([line for line in body.split(b"\n") if line.strip()], RECEIVED)[0]


def _rows(shape: str, body: bytes) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = {"text": body, "number": body[:1] and body[0] / 7}
    rows = [row for row in (document if isinstance(document, list) else [document]) if isinstance(row, dict)]
    return Rows(RowsConfig.model_validate({"shape": shape}), "fuzz").batches(rows, RECEIVED)


def _replay(format_: str, body: bytes) -> Any:
    signal = format_.partition(".")[2] or ("metric" if format_ in ("graphite", "remote_write", "influx:s", "collectd") else "log")
    table = pa.table({"source": ["fuzz"], "signal": [signal], "format": [format_], "payload": [body]})
    return replay.batches(table, RECEIVED)


def _on_disk(body: bytes, suffix: str, read: Callable[[Path], Any]) -> Any:
    with tempfile.NamedTemporaryFile(suffix=suffix, dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as file:
        file.write(body)
        file.flush()
        return read(Path(file.name))


def _parquet(path: Path) -> Any:
    found = []
    for metrics in (False, True):
        table = Parquet(path, metrics, "", "fuzz", "")
        found += [batch for group in range(table.groups) for batch in table.read(group, RECEIVED).batches]
    return found


def _followed(format_: Any, path: Path) -> Any:
    """A file as it is followed: nothing comes out of it but batches, not even a refusal, and it is read to its end."""
    try:
        return _tailed(format_, path)
    except NinefoldError as error:
        raise AssertionError("following ends") from error


def _tailed(format_: Any, path: Path) -> Any:
    found: list[Any] = []
    tail = Tail(path, path.open("rb"), "fuzz", lambda: parser_of(format_, path, "", "fuzz"))
    idle = 0
    while idle < 2:
        decoded, size = tail.next(True)
        idle = 0 if size else idle + 1
        found += decoded.batches if decoded else []
        tail.advance(size)
        again = Tail(path, path.open("rb"), "fuzz", lambda: parser_of(format_, path, "", "fuzz"), tail.offset)
        again.close()
    tail.close()
    assert tail.offset == path.stat().st_size, f"reading stops at byte {tail.offset}"
    return found
