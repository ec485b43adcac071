"""The packaged recording as a time-ordered stream of OTLP requests, as collectors would have sent them. See data/ATTRIBUTION.md."""

from __future__ import annotations

import csv
import hashlib
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar

import pyarrow.parquet as pq
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ninefold.ground.clock import SECOND

DESCRIPTION = (
    "eight faults injected into TrainTicket (46 services) on 30 January 2023: metrics, logs and traces recorded by the Nezha project "
    "(MIT), moved in time to end now; minutes without recorded traces and logs are filled with ones of the recorded normal minute"
)
METRICS = {
    "CpuUsage(m)": ("k8s.pod.cpu.usage", "m{cpu}"), "CpuUsageRate(%)": ("k8s.pod.cpu.utilization", "%"),
    "MemoryUsage(Mi)": ("k8s.pod.memory.usage", "MiBy"), "MemoryUsageRate(%)": ("k8s.pod.memory.utilization", "%"),
    "SyscallRead": ("pod.syscall.read", "{call}"), "SyscallWrite": ("pod.syscall.write", "{call}"),
    "NetworkReceiveBytes": ("pod.network.receive", "By"), "NetworkTransmitBytes": ("pod.network.transmit", "By"),
    "PodServerLatencyP95(s)": ("pod.server.latency.p95", "s"),
    "PodWorkload(Ops)": ("pod.workload", "{operation}/s"), "PodSuccessRate(%)": ("pod.success.rate", "%"),
}  # fmt: skip
"""The recording's columns under OpenTelemetry's names where it has one; values are as recorded. Of the latency's three percentiles, which
are three views of one histogram, the 95th is sent; the client side's are not: every seventh value is an artefact of up to an hour."""
NODE_METRICS = {
    "NodeCpuUsageRate(%)": ("k8s.node.cpu.utilization", "%"), "NodeMemoryUsageRate(%)": ("k8s.node.memory.utilization", "%"),
    "NodeNetworkReceiveBytes": ("k8s.node.network.receive", "By"),
}  # fmt: skip
"""Figures of the node a pod runs on, the same for all its pods; sent once, for the node."""
SIGNALS = ("traces", "logs", "metrics")
STEP_S = 60
_FIRST_WINDOW = 1675078740
"""The label of the normal minute, in s; the rows of a window begin about 8 s before its label."""
_LEAD_S = 8
_IDS = re.compile(r"TraceID: ([0-9a-f]{32}) SpanID: ([0-9a-f]{16})")
_LEVEL = re.compile(r"^\S+ +(INFO|WARN|ERROR) ")
_NUMBER = {"INFO": 9, "WARN": 13, "ERROR": 17}

Row = dict[str, Any]
Key = TypeVar("Key")


class Fault(NamedTuple):
    """One injected fault: what the recording says is true. `time` in ns, moved like everything else."""

    number: int
    time: int
    service: str
    pod: str
    kind: str


class Request(NamedTuple):
    """One OTLP/HTTP request body: its signal (metrics, logs, traces) and how many records it has."""

    signal: str
    records: int
    body: bytes


class Recording:
    """The recording, moved in time.

    Args:
        end: when the recording is to have ended, in ns; its minutes are kept whole, so it ends up to a minute earlier.
        fill: fill the minutes without recorded traces and logs with ones of the normal minute, drawn at random (always the same draw).
    """

    def __init__(self, end: int, fill: bool = True) -> None:
        latest_s = end // SECOND - max(row["ts"] for row in self.metrics)
        self.shift = (latest_s - (latest_s - _LEAD_S) % STEP_S) * SECOND
        self._fill = fill

    @cached_property
    def metrics(self) -> list[Row]:
        """The pods' figures, one row a pod and minute; `ts` in recorded seconds."""
        return _rows("metrics.parquet")

    @cached_property
    def logs(self) -> list[Row]:
        """Log lines with the `trace` and `span` ids (hex) and the `level` written in them, by step and time."""
        rows = [row | {"normal": True} for row in _rows("normal_logs.parquet")] + [row | {"normal": False} for row in _rows("logs.parquet")]
        for row in rows:
            ids, level = _IDS.search(row["message"]), _LEVEL.match(row["message"])
            row["trace"], row["span"] = ids.groups() if ids else ("", "")
            row["level"] = level[1] if level else ""
        return rows

    @cached_property
    def spans(self) -> list[Row]:
        """Spans with `trace`, `span` and `parent` ids (hex, "" for none) and their `kind`, by step and time."""
        traces = {(row["normal"], row["trace_no"]): row["trace"] for row in self.logs}
        ids = {(row["trace"], row["span_no"]): row["span"] for row in self.logs}
        rows = [row | {"normal": True} for row in _rows("normal_traces.parquet")] + [
            row | {"normal": False} for row in _rows("traces.parquet")
        ]
        pods: dict[tuple[str, int], str] = {}
        for row in rows:
            row["trace"] = traces[row["normal"], row["trace_no"]]
            pods[row["trace"], row["span_no"]] = row["pod"]
        calling: set[tuple[str, int]] = set()
        for row in rows:
            above = row["trace"], row["parent_no"]
            row["span"] = _span_id(ids, row["trace"], row["span_no"])
            row["parent"] = _span_id(ids, *above) if above in pods else ""
            row["kind"] = Span.SPAN_KIND_INTERNAL
            if row["parent_no"] == -1 or pods.get(above, row["pod"]) != row["pod"]:
                row["kind"] = Span.SPAN_KIND_SERVER
                calling.add(above)
        for row in rows:
            if row["kind"] == Span.SPAN_KIND_INTERNAL and (row["trace"], row["span_no"]) in calling:
                row["kind"] = Span.SPAN_KIND_CLIENT
        return rows

    @cached_property
    def nodes(self) -> dict[str, str]:
        """The node of each pod: pods whose node figures are the same all along share one."""
        figures: dict[str, dict[int, float]] = defaultdict(dict)
        for row in self.metrics:
            figures[row["pod"]][_step_at(row["ts"])] = round(row["NodeMemoryUsageRate(%)"], 4)
        names: dict[tuple[float, float], str] = {}
        return {
            pod: names.setdefault((by_step[max(by_step)], by_step[sorted(by_step)[5]]), f"node-{len(names) + 1}")
            for pod, by_step in sorted(figures.items())
        }

    @property
    def steps(self) -> int:
        """How many minutes the recording lasts."""
        return max(_step_at(row["ts"]) for row in self.metrics) + 1

    def faults(self) -> list[Fault]:
        """What was injected, in order."""
        text = _file("faults.csv").read_text()
        rows = csv.DictReader(text.splitlines())
        return [
            Fault(number, int(row["inject_ts"]) * SECOND + self.shift, row["service"], row["pod"], row["fault_type"])
            for number, row in enumerate(rows, 1)
        ]

    def requests(self) -> Iterator[list[Request]]:
        """The requests of each minute, minute by minute: traces, logs, metrics (each only when there are any)."""
        spans, logs = _group(self.spans, _step_of), _group(self.logs, _step_of)
        metrics = _group(self.metrics, lambda row: _step_at(row["ts"]))
        for step in range(self.steps):
            lines = logs.get(step, [])
            calls = spans.get(step, [])
            if self._fill and not calls:
                calls, lines = self._drawn(step, [sum(row["parent_no"] == -1 for row in some) for some in spans.values()])
            found = [
                Request("traces", len(calls), _traces(calls, self.shift)) if calls else None,
                Request("logs", len(lines), _logs(lines, self.shift)) if lines else None,
                self._metrics(metrics[step]) if step in metrics else None,
            ]
            yield [request for request in found if request]

    @cached_property
    def _normal(self) -> list[tuple[list[Row], list[Row]]]:
        """The traces of the normal minute, each as its spans and its log lines."""
        lines = _group(self.logs, lambda row: row["trace"])
        traces = _group((row for row in self.spans if row["normal"]), lambda row: row["trace"])
        return [(spans, lines[trace]) for trace, spans in traces.items()]

    def _drawn(self, step: int, sizes: Sequence[int]) -> tuple[list[Row], list[Row]]:
        """As many traces of the normal minute as some recorded minute has, each at its place within the minute, under fresh ids."""
        chance = random.Random(step)  # noqa: S311 - a repeatable draw, not a secret
        spans: list[Row] = []
        lines: list[Row] = []
        for number in range(chance.choice(sizes)):
            calls, texts = chance.choice(self._normal)
            later = step * STEP_S * 1_000_000
            trace = hashlib.blake2b(f"{calls[0]['trace']}/{step}/{number}".encode(), digest_size=16).hexdigest()
            spans += [row | {"trace": trace, "start_us": row["start_us"] + later, "drawn": True} for row in calls]
            lines += [row | {"trace": trace, "ts_us": row["ts_us"] + later, "drawn": True} for row in texts]
        return spans, sorted(lines, key=lambda row: row["ts_us"])

    def _metrics(self, rows: Iterable[Row]) -> Request:
        message, records, seen = ExportMetricsServiceRequest(), 0, set()
        for row in rows:
            pod, node = row["pod"], self.nodes[row["pod"]]
            groups = [(METRICS, {"service.name": service_of(pod), "k8s.pod.name": pod, "k8s.node.name": node})]
            if node not in seen:
                seen.add(node)
                groups.append((NODE_METRICS, {"host.name": node}))
            time = row["ts"] * SECOND + self.shift
            for columns, resource in groups:
                scope = message.resource_metrics.add(resource=_resource(resource)).scope_metrics.add()
                for column, (name, unit) in columns.items():
                    if row[column] is not None:
                        metric = scope.metrics.add(name=name, unit=unit)
                        metric.gauge.data_points.add(time_unix_nano=time, as_double=row[column])
                        records += 1
        return Request("metrics", records, message.SerializeToString())


def service_of(pod: str) -> str:
    """The service of a deployment's pod: its name without the two generated parts."""
    return pod.rsplit("-", 2)[0]


def _traces(rows: Iterable[Row], shift: int) -> bytes:
    message = ExportTraceServiceRequest()
    for pod, some in _group(rows, lambda row: row["pod"]).items():
        scope = message.resource_spans.add(resource=_of_pod(pod)).scope_spans.add()
        for row in some:
            start = row["start_us"] * 1000 + shift
            scope.spans.add(
                trace_id=bytes.fromhex(row["trace"]), span_id=bytes.fromhex(row["span"]), parent_span_id=bytes.fromhex(row["parent"]),
                name=row["operation"], kind=row["kind"], start_time_unix_nano=start,
                end_time_unix_nano=start + row["duration_us"] * 1000, attributes=_marks(row),
            )  # fmt: skip
    return message.SerializeToString()


def _logs(rows: Iterable[Row], shift: int) -> bytes:
    message = ExportLogsServiceRequest()
    for pod, some in _group(rows, lambda row: row["pod"]).items():
        scope = message.resource_logs.add(resource=_of_pod(pod)).scope_logs.add()
        for row in some:
            time = row["ts_us"] * 1000 + shift
            scope.log_records.add(
                time_unix_nano=time, observed_time_unix_nano=time, severity_text=row["level"], severity_number=_NUMBER.get(row["level"], 0),
                body=AnyValue(string_value=row["message"]), trace_id=bytes.fromhex(row["trace"]), span_id=bytes.fromhex(row["span"]),
                attributes=[*_attributes({"k8s.container.name": row["container"]}), *_marks(row)],
            )  # fmt: skip
    return message.SerializeToString()


def _file(name: str) -> Any:
    return files("ninefold.demo") / "data" / name


def _rows(name: str) -> list[Row]:
    with _file(name).open("rb") as file:
        return pq.read_table(file).to_pylist()  # type: ignore[no-any-return]


def _step_at(seconds: int) -> int:
    return (seconds - _FIRST_WINDOW + _LEAD_S) // STEP_S


def _step_of(row: Row) -> int:
    return int(row["window"] - _FIRST_WINDOW) // STEP_S


def _group(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, list[Row]]:
    found: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return dict(found)


def _span_id(ids: Mapping[tuple[str, int], str], trace: str, number: int) -> str:
    """The id a log line gives the span, else one derived from its trace and number."""
    known = ids.get((trace, number))
    return known or hashlib.blake2b(f"{trace}/{number}".encode(), digest_size=8).hexdigest()


def _of_pod(pod: str) -> Resource:
    return _resource({"service.name": service_of(pod), "k8s.pod.name": pod})


def _resource(attributes: Mapping[str, str]) -> Resource:
    return Resource(attributes=_attributes(attributes))


def _attributes(attributes: Mapping[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=value)) for key, value in attributes.items()]


def _marks(row: Row) -> list[KeyValue]:
    return [KeyValue(key="demo.drawn", value=AnyValue(bool_value=True))] if "drawn" in row else []
