"""Event batches as what the incident room needs of them: plain rows, correlator alerts, stored events."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ninefold.analytics.alerts.groups import Alert
from ninefold.ground.clock import iso
from ninefold.model.signal import Batch
from ninefold.model.topology import Relation

CORRELATED = frozenset(("alert", "anomaly"))
CHANGES = frozenset(("change", "deployment"))
TRUTH = "truth"
OWN = ("incident", "workflow", "approval", "page", "regrouping")
"""Kinds that tell of Ninefold's own doings; from anybody else such an event is an event like any other."""
_OURS = "ninefold"
INCIDENT = "ninefold.incident"
_RULE = ("alertname", "rule", "ninefold.rule", "check")
_SUMMARY = re.compile(r"[._](?:p\d{1,3}|quantile|mean|avg|max|min|median)$")
_ANOMALY_INTERVAL_S = 60.0
_LINKS = ("trace_id", "change.id", "deployment.id")
_TRAITS = ("k8s.node.name", "host.name", "cloud.availability_zone", "k8s.namespace.name", "service.version", "team")
_INTERVAL = ("ninefold.interval_s", "interval_s")
_BODY_LIMIT = 2000


@dataclass(slots=True)
class Row:
    """One event: its columns that matter here; `body` is cut at 2,000 characters."""

    id: str
    time: int
    kind: str
    source: str
    source_id: str
    entity: str
    title: str
    body: str
    severity: str
    status: str
    fingerprint: str
    attributes: dict[str, str]
    position: int
    received: int
    ours: bool
    """Ninefold itself wrote it, so that what it says of incidents and people can be believed."""

    def alert(self) -> Alert:
        """What the correlator needs of it. Without a fingerprint it is like nothing but itself."""
        attributes = self.attributes
        return Alert(
            self.id,
            self.time,
            self.fingerprint or self.id,
            self.entity,
            rule_of(attributes, self.title),
            self.title,
            self.severity,
            self.status != "resolved",
            bool(self.status),
            _seconds(attributes) or (_ANOMALY_INTERVAL_S if self.kind == "anomaly" else 0.0),
            tuple(f"{key} {attributes[key]}" for key in _LINKS if attributes.get(key)),
            self.received if self.kind == "alert" else 0,
            tuple(f"{key} {attributes[key]}" for key in _TRAITS if attributes.get(key)),
        )

    def event(self) -> dict[str, Any]:
        """The event in the API's form."""
        event = {
            "id": self.id, "time": iso(self.time), "kind": self.kind, "source": self.source, "entity": self.entity, "title": self.title,
            "severity": self.severity, "status": self.status, "fingerprint": self.fingerprint, "attributes": self.attributes,
        }  # fmt: skip
        if self.body:
            event["body"] = self.body
        if self.source_id:
            event["source_id"] = self.source_id
        return event


def rule_of(attributes: Mapping[str, str], title: str) -> str:
    """The rule that fired: its name when the sender gives one, else the metric behind it, else the title.

    Percentiles and other summaries of one metric are one rule: that three of them moved together is no second opinion.
    """
    name = next((attributes[key] for key in _RULE if attributes.get(key)), "")
    return name or _SUMMARY.sub("", attributes.get("metric", "")) or title


def _seconds(attributes: Mapping[str, str]) -> float:
    for key in _INTERVAL:
        if key in attributes:
            try:
                return max(0.0, float(attributes[key]))
            except ValueError:
                return 0.0
    return 0.0


def rows(batches: Iterable[Batch]) -> list[Row]:
    """The rows of event batches, in order; an event that is told again is there again."""
    return [row for batch in batches if batch.signal == "event" for row in _rows(batch)]


def once(told: Iterable[Row]) -> list[Row]:
    """Each event once, as it was told first."""
    found: dict[str, Row] = {}
    for row in told:
        found.setdefault(row.id, row)
    return list(found.values())


def _rows(batch: Batch) -> Iterator[Row]:
    column = {name: batch.rows.column(name) for name in batch.rows.schema.names}
    texts = [column[n].to_pylist() for n in ("kind", "source", "source_id", "entity", "title", "body", "severity", "status", "fingerprint")]
    times = column["time"].cast(pa.int64()).to_pylist()
    ours = batch.source.partition(".")[0] == _OURS
    for id_, time, attributes, kind, source, source_id, entity, title, body, severity, status, fingerprint in zip(
        column["id"].to_pylist(), times, column["attributes"].to_pylist(), *texts, strict=True
    ):
        rest = (severity, status, fingerprint, dict(attributes), batch.position, batch.received, ours)
        yield Row(id_, time, kind if ours or kind not in OWN else "event", source, source_id, entity, title, body[:_BODY_LIMIT], *rest)


def relations(batches: Iterable[Batch]) -> list[Relation]:
    """The edges in relation batches, one each, with first and last time seen."""
    found: dict[tuple[str, str, str], Relation] = {}
    for batch in batches:
        if batch.signal != "relation":
            continue
        columns = [batch.rows.column(n).to_pylist() for n in ("from_entity", "to_entity", "kind")]
        for a, b, kind, time in zip(*columns, batch.rows.column("time").cast(pa.int64()).to_pylist(), strict=True):
            old = found.get((a, b, kind))
            first, last = (min(old.first_seen, time), max(old.last_seen, time)) if old else (time, time)
            found[a, b, kind] = Relation(a, b, kind, first, last)
    return list(found.values())
