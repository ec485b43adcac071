"""What a message of a broker holds. Every subscription (MQTT, NATS, Redis Streams, RabbitMQ, Kafka) has the same choice of `format`:

| format | a message is |
|---|---|
| `json` (default) | one JSON record, a list of them, or an object with a list under ``alerts``, ``events``, ``records``, ``items`` or ``problems``; events by the webhook mapping named in `mapping`, or by the usual keys |
| `text` | one or more log lines; a stack trace belongs to the line it stands under |
| `syslog` | one or more syslog messages, one a line (RFC 5424 or 3164) |
| `otlp_metrics`, `otlp_logs`, `otlp_traces` | an OTLP export request, protobuf or JSON, as collectors write it to a broker |
| `remote_write` | a Prometheus remote write request (snappy, unless `encoding` says otherwise) |
| `influx` | lines of Influx' line protocol |
| `cloudevents` | a CloudEvent: structured JSON, or binary mode with its attributes in the message's headers |

Delivery is at least once: a message is acknowledged once what it holds is durable, and a crash in between brings it again. A JSON
record that holds a time is then the same event; one without a time gets the time at which the broker took it (Kafka, JetStream,
Redis and RabbitMQ with timestamps know it), so it is the same event as well. MQTT and plain NATS know no such time: a record without
one that is delivered again after a crash is a second event. Log lines and points delivered again are stored again.

An event's attributes say where it came from (``messaging.destination.name``; ``messaging.message.id`` where the record has no time).
Order is the broker's within one topic, partition or queue. A message that cannot be read goes to quarantine as it is, the rest is kept.
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field

from ninefold.ground.clock import iso, now
from ninefold.ground.errors import BadData
from ninefold.model.signal import Batch, Decoded, quarantine
from ninefold.plugin import Emit, Lent, Strict
from ninefold.sources import cloudevents, syslog_message
from ninefold.sources.body import decompress
from ninefold.sources.delivery import deliver
from ninefold.sources.guessing import guess
from ninefold.sources.influx import Influx
from ninefold.sources.otlp import Otlp
from ninefold.sources.reading import dump_json, leaves, load_json, raw_batch, time_of
from ninefold.sources.remote_write import RemoteWrite
from ninefold.sources.series import described
from ninefold.sources.text import LineClock, log_batch
from ninefold.sources.webhook import records_of

Format = Literal["json", "text", "syslog", "otlp_metrics", "otlp_logs", "otlp_traces", "remote_write", "influx", "cloudevents"]
LIMIT_BYTES = 64 << 20
_IN_THREAD_BYTES = 4096
_LOT_BYTES = 8 << 20
_SIGNALS = {
    "json": "event",
    "cloudevents": "event",
    "otlp_metrics": "metric",
    "otlp_traces": "span",
    "remote_write": "metric",
    "influx": "metric",
}
_CONTINUES = (b" ", b"\t", b"Caused by:")
_TIME_KEYS = ("timestamp", "time", "datetime", "clock")
_JSON, _PROTOBUF, _CLOUDEVENT = "application/json", "application/x-protobuf", "application/cloudevents+json"
_CE_PREFIXES = ("ce_", "cloudevents:", "cloudevents_", "ce-")


class PayloadConfig(Strict):
    """What the messages hold; part of every subscription's settings."""

    format: Format = Field("json", description="What a message holds; the table above.")
    mapping: str = Field("", description="For json: the name in `webhooks` whose mapping reads each record; the source's name by default.")
    precision: Literal["ns", "us", "ms", "s"] = Field("ns", description="For influx: the unit of its times.")
    entity: str = Field("", description="For text: what the lines are about, as ``type:name``.")
    encoding: Literal["", "gzip", "deflate", "snappy", "identity"] = Field(
        "", description="How messages are compressed when their headers do not say; remote_write is snappy by default."
    )


class Message(NamedTuple):
    """A message: its bytes, the topic, subject, stream or queue it was in, and, where the broker knows them, its place there ("" else),
    the time in ns at which the broker took it (0 else) and its headers with names in lower case."""

    body: bytes
    destination: str = ""
    id: str = ""
    time: int = 0
    headers: Mapping[str, str] = {}


Lot = list[tuple[Message, bytes]]
"""Messages with their bodies decompressed."""
Bad = list[tuple[str, str, bytes]]
"""What goes to quarantine: the reason, where, the bytes."""


class Payloads:
    """Decodes the messages of one subscription. It remembers which metric series were described; `forget` takes that back."""

    def __init__(self, config: PayloadConfig, source: str, lent: Lent) -> None:
        self._config, self._source, self._lent = config, source, lent
        self._otlp, self._remote_write, self._influx = Otlp(), RemoteWrite(), Influx()
        decoders: dict[str, Callable[[Lot, int, Bad], Decoded]] = {
            "json": self._json,
            "text": self._text,
            "syslog": self._syslog,
            "cloudevents": self._each(self._cloudevent),
            "otlp_metrics": self._each(partial(self._export, self._otlp.metrics)),
            "otlp_logs": self._each(partial(self._export, self._otlp.logs)),
            "otlp_traces": self._each(partial(self._export, self._otlp.traces)),
            "remote_write": self._each(self._write_request),
            "influx": self._each(lambda message, body, received: self._influx.parse(body, source, received, config.precision)),
        }
        self._decoder = decoders[config.format]
        self._label = f"webhook:{config.mapping or source}" if config.format == "json" else config.format

    def decode(self, messages: Sequence[Message], received: int) -> Decoded:
        """What the messages hold, at most one batch a signal; each that cannot be read is a row in quarantine."""
        lot: Lot = []
        bad: Bad = []
        for message in messages:
            try:
                lot.append((message, self._plain(message)))
            except BadData as error:
                bad.append(_bad(message, error))
        decoded = self._decoder(lot, received, bad)
        if bad:
            decoded.batches.append(quarantine(self._source, received, _SIGNALS.get(self._config.format, "log"), self._label, bad))
            decoded.rejected += len(bad)
            decoded.reason = decoded.reason or bad[0][0]
        decoded.batches = merged(decoded.batches)
        return decoded

    def forget(self, batches: Sequence[Batch]) -> None:
        """Describe the series of these batches again: they were not kept."""
        gone = described(batches)
        self._otlp.forget(gone)
        self._remote_write.forget(gone)
        self._influx.forget(batches)

    def _plain(self, message: Message) -> bytes:
        said = message.headers.get("content-encoding", "") or self._config.encoding
        return decompress(message.body, said or ("snappy" if self._config.format == "remote_write" else ""), LIMIT_BYTES)

    def _json(self, lot: Lot, received: int, bad: Bad) -> Decoded:
        name = self._config.mapping or self._source
        mapping = self._lent.mapping(name)
        mapped_time = mapping is not None and "time" in mapping.fields
        payloads: list[bytes] = []
        for message, body in lot:
            try:
                records = records_of(load_json(body), name, mapping)
                if not records:
                    raise BadData("no record was found in the message; send an object or a list of objects", name)
                for place, record in enumerate(records):
                    if isinstance(record, dict):
                        payloads.append(dump_json(_placed(record, message, mapped_time)))
                    else:
                        wrong = BadData("a record is a JSON object; this one is not", f"records[{place}]")
                        bad.append(_bad(message, wrong, dump_json(record)))
            except BadData as error:
                bad.append(_bad(message, error))
        return Decoded([raw_batch(self._label, self._source, received, payloads)] if payloads else [])

    def _text(self, lot: Lot, received: int, bad: Bad) -> Decoded:
        clock, found = LineClock(), dict[str, tuple[list[int], list[str]]]()
        for message, body in lot:
            lines: list[bytes] = []
            for line in body.split(b"\n"):
                if lines and line.startswith(_CONTINUES):
                    lines[-1] += b"\n" + line.rstrip(b"\r")
                elif line.strip():
                    lines.append(line.rstrip(b"\r"))
            times, bodies = found.setdefault(message.destination, ([], []))
            texts = [line.decode("utf-8", "replace") for line in lines]
            times += clock.read(texts, message.time or received)
            bodies += texts
        entity = self._config.entity
        return Decoded([
            log_batch(self._source, received, times, bodies, entity, {"messaging.destination.name": place} if place else {})
            for place, (times, bodies) in found.items() if bodies
        ])  # fmt: skip

    def _syslog(self, lot: Lot, received: int, bad: Bad) -> Decoded:
        lines = [line for _, body in lot for line in body.split(b"\n") if line.strip()]
        return syslog_message.parse(lines, self._source, received) if lines else Decoded()

    def _each(self, decode: Callable[[Message, bytes, int], Decoded]) -> Callable[[Lot, int, Bad], Decoded]:
        """A decoder of lots from one of a message that is a body of many records."""

        def decode_all(lot: Lot, received: int, bad: Bad) -> Decoded:
            found = Decoded()
            for message, body in lot:
                try:
                    decoded = decode(message, body, received)
                except BadData as error:
                    bad.append(_bad(message, error))
                    continue
                found.batches += decoded.batches
                found.rejected += decoded.rejected
                found.reason = found.reason or decoded.reason
            return found

        return decode_all

    def _cloudevent(self, message: Message, body: bytes, received: int) -> Decoded:
        headers = {_ce_name(name): value for name, value in message.headers.items()}
        if "ce-specversion" not in headers:
            batch = headers.get("content-type", "").startswith("application/cloudevents-batch+json")
            headers["content-type"] = "application/cloudevents-batch+json" if batch else _CLOUDEVENT
        return cloudevents.accept(headers, body, self._source, received)

    def _export(self, decode: Callable[[bytes, str, str, int], Decoded], message: Message, body: bytes, received: int) -> Decoded:
        """Protobuf or JSON by the first byte: a protobuf request never begins with a brace, which would open a group."""
        return decode(body, _JSON if body[:1] == b"{" else _PROTOBUF, self._source, received)

    def _write_request(self, message: Message, body: bytes, received: int) -> Decoded:
        return self._remote_write.decode(body, self._source, received)


def _bad(message: Message, error: BadData, payload: bytes | None = None) -> tuple[str, str, bytes]:
    """A quarantine entry: why, the place in the broker and in the message, and what it was."""
    where = " ".join(filter(None, (message.destination, message.id, error.where)))
    return error.reason, where, message.body if payload is None else payload


def _ce_name(name: str) -> str:
    """The HTTP spelling of a CloudEvents attribute in a message's headers: ``ce_id`` in Kafka, ``cloudEvents:id`` in AMQP."""
    for prefix in _CE_PREFIXES:
        if name.startswith(prefix):
            return f"ce-{name.removeprefix(prefix)}"
    return name


def _placed(record: dict[str, Any], message: Message, mapped_time: bool) -> dict[str, Any]:
    """The record with the place it came from; one without a time of its own is known by its place and the broker's time."""
    if message.destination:
        record = record | {"messaging.destination.name": message.destination}
    if message.time and not mapped_time and not _timed(record):
        key = next((key for key in _TIME_KEYS if key not in record), "")
        record |= {key: iso(message.time), "messaging.message.id": message.id} if key else {}
    return record


def _timed(record: Mapping[str, Any]) -> bool:
    """Whether the usual reading finds a time in a record; the most usual places are looked at first."""
    return any(time_of(record.get(key)) for key in _TIME_KEYS) or "time" in guess(leaves(record)).values


def merged(batches: Iterable[Batch]) -> list[Batch]:
    """The batches with those of one signal joined; series stand before the points that need them."""
    by_signal: dict[str, list[Batch]] = {}
    for batch in batches:
        by_signal.setdefault(batch.signal, []).append(batch)
    return [_joined(by_signal[signal]) for signal in sorted(by_signal, key=lambda signal: signal != "series")]


def _joined(batches: Sequence[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches([batch.rows for batch in batches]).combine_chunks()
    return Batch(batches[0].signal, batches[0].source, batches[0].received, table.to_batches()[0])


def _lots(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """The messages in lots that can be decoded at once without filling the memory."""
    start = size = 0
    for place, message in enumerate(messages):
        size += len(message.body)
        if size >= _LOT_BYTES:
            yield messages[start : place + 1]
            start, size = place + 1, 0
    if start < len(messages):
        yield messages[start:]


class Intake:
    """The way of messages into the journal: decode, hand over, and only then come back."""

    def __init__(self, config: PayloadConfig, source: str, lent: Lent) -> None:
        self._payloads = Payloads(config, source, lent)
        self._messages = lent.meter.counter("ninefold_messages_received_total", "Messages taken from brokers, by source.")
        self._source = source

    async def decode(self, messages: Sequence[Message]) -> Decoded:
        """What the messages hold; a large lot is decoded in a thread."""
        if sum(len(message.body) for message in messages) > _IN_THREAD_BYTES:
            return await asyncio.to_thread(self._payloads.decode, messages, now())
        return self._payloads.decode(messages, now())

    async def take(self, emit: Emit, messages: Sequence[Message], meanwhile: Callable[[], Awaitable[None]] | None = None) -> None:
        """Return once what the messages hold is durable: now they may be acknowledged. `meanwhile` as in `deliver`."""
        for lot in _lots(messages):
            decoded = await self.decode(lot)
            try:
                await deliver(emit, decoded.batches, meanwhile)
            except BaseException:
                self._payloads.forget(decoded.batches)
                raise
        self._messages.add(len(messages), source=self._source)

    async def show(self, messages: Sequence[Message]) -> list[Batch]:
        """What the messages would become, remembering nothing of it."""
        decoded = await self.decode(messages)
        self._payloads.forget(decoded.batches)
        return decoded.batches
