"""Icinga 2: its event stream over HTTP, check results as metrics and state changes as alerts.

```yaml
sources:
  icinga:
    type: icinga
    url: https://icinga.example.org:5665
    user: ninefold
    password: "${ICINGA_PASSWORD}"
    tls: {enabled: true, ca: /etc/ninefold/icinga-ca.crt}
```

The API user needs the permissions ``events/*`` and, to catch up, ``objects/query/Host`` and ``objects/query/Service``.

| of the stream | becomes |
|---|---|
| CheckResult | the metrics ``icinga.check.state`` (0 OK … 3 unknown), ``icinga.check.execution_time``, ``icinga.check.latency`` and ``icinga.perf.<label>`` for each value of the performance data, in base units; attributes ``host.name``, ``icinga.check`` |
| StateChange (hard; soft ones with `soft`) | an alert, firing or resolved |
| Notification, AcknowledgementSet, AcknowledgementCleared | the same alert, as told, acknowledged or not any more |
| DowntimeAdded, DowntimeStarted, DowntimeRemoved | a change at that host |

All that concerns one check has the same fingerprint (``host!service``), its entity is the host, and the event as Icinga sent it stands
under ``icinga``. Not kept: thresholds and limits of performance data, check commands, comments.

Icinga keeps nothing for one who is not there. So after each connection the states that changed since (the first time: the problems)
are asked for and become alerts as well. While the journal is full the stream is not read and Icinga holds it.
"""  # noqa: E501 - a table's row is one line

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import httpx
import orjson
from pydantic import Field

from ninefold.ground.clock import iso, now
from ninefold.ground.errors import BadData, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.model.signal import Batch, quarantine
from ninefold.plugin import Emit, Extraction, Lent, Reached, Source
from ninefold.sources.delivery import deliver
from ninefold.sources.http_client import Http, HttpConfig
from ninefold.sources.measured import Measured, Sample
from ninefold.sources.reading import dump_json, raw_batch, time_of

_log = get("icinga")
_LINE_BYTES = 4 << 20
_SHOWN = 5
_SILENCE_S = 300.0
"""A stream that says nothing for so long is taken for dead and opened again; the catch-up finds what it missed."""
_STATES = {True: ("OK", "WARNING", "CRITICAL", "UNKNOWN"), False: ("UP", "DOWN", "UNREACHABLE", "UNKNOWN")}
_TYPES = (
    "CheckResult", "StateChange", "Notification", "AcknowledgementSet", "AcknowledgementCleared", "DowntimeAdded", "DowntimeStarted",
    "DowntimeRemoved",
)  # fmt: skip
_PERF = re.compile(r"(?:'((?:[^']|'')*)'|([^=' ]+))=(-?[0-9][0-9.,]*(?:[eE][-+]?[0-9]+)?)([a-zA-Z%]*)")
_UNITS = {
    "s": ("s", 1.0), "ms": ("s", 1e-3), "us": ("s", 1e-6), "ns": ("s", 1e-9), "%": ("%", 1.0), "b": ("By", 1.0), "kb": ("By", 1e3),
    "mb": ("By", 1e6), "gb": ("By", 1e9), "tb": ("By", 1e12), "kib": ("By", 2.0**10), "mib": ("By", 2.0**20), "gib": ("By", 2.0**30),
    "tib": ("By", 2.0**40),
}  # fmt: skip


class Icinga(Source):
    """The event stream of an Icinga 2."""

    kind = "icinga"
    title = "Icinga 2"
    extraction: ClassVar[Extraction] = "stream"
    signals = frozenset(("metric", "event"))

    class Config(HttpConfig):
        """Which Icinga, and what of it."""

        url: str = Field(pattern=r"^https?://", description="The API's address, with its port 5665.")
        queue: str = Field("", description="The event queue's name, one for each reader; ``ninefold-<source>`` by default.")
        soft: bool = Field(False, description="Take soft states as alerts too.")
        timeout_s: float = Field(10.0, gt=0, le=300, description="Longest time to connect and for one question.")

    def __init__(self, name: str, config: Config, lent: Lent) -> None:
        super().__init__(name, config, lent)
        self._site = config.url.rstrip("/")
        self._http = Http(self.title, f"sources.{name}", config, config.timeout_s)
        self._measured = Measured(name)

    async def run(self, emit: Emit) -> None:
        """Catch up, then deliver what the stream says, until cancelled or disconnected."""
        position = await asyncio.to_thread(self.lent.load)
        try:
            async with self._stream() as response:
                await self._take(emit, [dump_json(event) for event in await self._missed(position.get("time", 0.0))], position)
                async for lines in _lines(response):
                    position = await self._take(emit, lines, position)
            raise Unavailable(f"{self.title} at {self._site} ended its event stream")
        finally:
            await self._http.close()

    async def check(self) -> Reached:
        """Ask who we are and which problems there are."""
        try:
            status, _ = await self._http.ask("GET", f"{self._site}/v1", headers={"Accept": "application/json"})
            problems = await self._missed(0.0)
        finally:
            await self._http.close()
        batches, _ = self._read([dump_json(event) for event in problems[:_SHOWN]], now())
        self._measured.forget(batches)
        user = status["results"][0]["user"] if isinstance(status, dict) and status.get("results") else "?"
        return Reached(f"{self.title} at {self._site} knows us as {user}; it has {len(problems)} problems.", batches)

    def _stream(self) -> Any:
        wish = {"queue": self.config.queue or f"ninefold-{self.name}", "types": list(_TYPES)}
        wait = httpx.Timeout(self.config.timeout_s, read=_SILENCE_S)
        return self._http.stream("POST", f"{self._site}/v1/events", json=wish, headers={"Accept": "application/json"}, timeout=wait)

    async def _missed(self, since: float) -> list[dict[str, Any]]:
        """The checks whose hard state changed after `since`, as the stream would have told it; the problems when there is no `since`."""
        found = []
        for kind in ("host", "service"):
            wish = f"{kind}.last_hard_state_change > {since!r}" if since else f"{kind}.state != 0 && {kind}.state_type == 1"
            attrs = ["name", "host_name", "state", "last_hard_state_change", "last_check_result", "acknowledgement", "downtime_depth"]
            headers = {"Accept": "application/json", "X-HTTP-Method-Override": "GET"}
            try:
                answer, _ = await self._http.ask(
                    "POST", f"{self._site}/v1/objects/{kind}s", json={"filter": wish, "attrs": attrs}, headers=headers
                )
            except Refused as error:
                _log.warning("%s cannot catch up with %ss: %s", self.name, kind, error)
                continue
            for item in answer.get("results") or ():
                about = item["attrs"]
                found.append({
                    "type": "StateChange", "host": about.get("host_name") or about["name"], "state": about["state"], "state_type": 1,
                    "timestamp": about["last_hard_state_change"], "check_result": about.get("last_check_result"),
                    "acknowledgement": bool(about.get("acknowledgement")), "downtime_depth": about.get("downtime_depth", 0),
                } | ({"service": about["name"]} if kind == "service" else {}))  # fmt: skip
        return found

    async def _take(self, emit: Emit, lines: Sequence[bytes], position: dict[str, Any]) -> dict[str, Any]:
        batches, latest = self._read(lines, now())
        behind = {"time": latest} if latest > position.get("time", 0.0) else None
        try:
            await deliver(emit, batches, keep=behind)
        except BaseException:
            self._measured.forget(batches)
            raise
        return behind or position

    def _read(self, lines: Iterable[bytes], received: int) -> tuple[list[Batch], float]:
        """The batches of some lines of the stream, and the latest time in them."""
        samples, records, bad, latest = list[Sample](), list[bytes](), list[tuple[str, str, bytes]](), 0.0
        for line in lines:
            try:
                event = orjson.loads(line)
                _time(event["timestamp"])  # a place in the stream that is no time would be asked for again and again
                if event["type"] == "CheckResult":
                    samples += list(_measurements(event))  # all of a line or nothing: what is wrong with its end sends it to quarantine
                elif (record := self._record(event)) is not None:
                    records.append(dump_json(record))
                latest = max(latest, float(event["timestamp"]))
            except (BadData, ValueError, ArithmeticError, TypeError, KeyError, AttributeError) as error:
                bad.append((f"the line is no event of Icinga's: {type(error).__name__} {error}"[:200], "event stream", line))
        batches = self._measured.batches(samples, received)
        if records:
            batches.append(raw_batch(f"webhook:{self.name}", self.name, received, records))
        if bad:
            batches.append(quarantine(self.name, received, "event", "icinga", bad))
        return batches, latest

    def _record(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """An event as the generic reading understands it; None for what is not one."""
        type_ = event["type"]
        if type_ not in _TYPES or (type_ == "StateChange" and event.get("state_type") == 0 and not self.config.soft):
            return None
        downtime = event.get("downtime") or {}
        host, check = event.get("host") or downtime.get("host_name", ""), event.get("service") or downtime.get("service_name", "")
        what = f"{check} on {host}" if check else f"host {host}"
        result = event.get("check_result") or {}
        record = {
            "kind": "alert", "entity": f"host:{host}", "fingerprint": f"{host}!{check}", "host": host, "check": check,
            "timestamp": iso(_time(event["timestamp"])), "body": result.get("output") or "", "icinga": event,
        }  # fmt: skip
        if type_.startswith("Downtime"):
            verb = type_.removeprefix("Downtime").lower()
            text = f"downtime {verb} for {what}: {downtime.get('comment', '')} ({downtime.get('author', '')})"
            return record | {"kind": "change", "title": text, "body": "", "actor": downtime.get("author", "")}
        state = _state(event, check)
        record |= {"title": f"{what} is {state}", "severity": state, "status": "resolved" if state in ("OK", "UP") else "firing"}
        if type_ == "AcknowledgementSet" or event.get("notification_type") == "ACKNOWLEDGEMENT":
            text = event.get("comment") or event.get("text") or ""
            record |= {"status": "acknowledged", "title": f"{what} acknowledged by {event.get('author', '')}: {text}", "body": text}
        return record | ({"notified": ", ".join(event["users"])} if event.get("users") else {})


def _state(event: dict[str, Any], check: str) -> str:
    """The state as a word. Icinga tells a host's state as 0 and 1, but the check result behind it as a plugin's exit."""
    state = event.get("state")
    if state is None:
        state = (event.get("check_result") or {}).get("state", 3)
        state = state if check else min(int(state) // 2, 1)
    words = _STATES[bool(check)]
    return words[min(int(state), 3)]


def _time(seconds: float) -> int:
    """Raises: ValueError: it is no time."""
    time = time_of(seconds)
    if time is None:
        raise ValueError(f"{seconds} is no time")
    return time


def _measurements(event: dict[str, Any]) -> Iterator[Sample]:
    result = event["check_result"]
    time = _time(result.get("execution_end") or event["timestamp"])
    about = {"host.name": event["host"]} | ({"icinga.check": event["service"]} if event.get("service") else {})
    yield Sample("icinga.check.state", about, time, float(result["state"]))
    start, end, planned = (result.get(key) or 0.0 for key in ("execution_start", "execution_end", "schedule_start"))
    if start and end:
        yield Sample("icinga.check.execution_time", about, time, end - start, unit="s")
    if start and planned:
        yield Sample("icinga.check.latency", about, time, max(start - planned, 0.0), unit="s")
    for item in result.get("performance_data") or ():
        if isinstance(item, dict):  # a value with its own type, as Icinga's built-in checks give it
            yield Sample(
                f"icinga.perf.{item['label']}",
                about,
                time,
                float(item["value"]),
                "counter" if item.get("counter") else "gauge",
                item.get("unit") or "",
            )
        else:
            yield from perfdata(str(item), "icinga.perf.", about, time)


def perfdata(text: str, prefix: str, attributes: dict[str, str], time: int) -> Iterator[Sample]:
    """The values of performance data as monitoring plugins write it: ``'label'=value[unit];warn;crit;min;max …``; U is no value."""
    for match in _PERF.finditer(text):
        label = match[1].replace("''", "'") if match[1] is not None else match[2]
        unit, factor = _UNITS.get(match[4].lower(), (match[4], 1.0))
        try:
            value = float(match[3].replace(",", ".")) * factor
        except ValueError:
            continue
        counter = match[4] == "c"
        yield Sample(prefix + label, attributes, time, value, "counter" if counter else "gauge", "" if counter else unit)


async def _lines(response: httpx.Response) -> AsyncIterator[list[bytes]]:
    """The lines of a stream, as many together as came together."""
    rest = b""
    async for part in response.aiter_bytes():
        *lines, rest = (rest + part).split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise Refused(f"a line of the event stream is longer than {_LINE_BYTES} bytes; this is no Icinga 2")
        if whole := [line for line in lines if line.strip()]:
            yield whole
