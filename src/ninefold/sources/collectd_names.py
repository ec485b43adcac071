"""What collectd's values are called here, whichever way they come.

A value is a plug-in, a type, an instance of each, and a data source of the type. Its metric is ``collectd_<plugin>_<type>_<data source>``,
without a type that repeats the plug-in and without a data source that is just ``value``, as in collectd's own Prometheus exporter:
``collectd_load_shortterm``, ``collectd_df_df_complex``. The host is ``host.name``; the instances are the attributes ``plugin_instance`` and
``type_instance``.
"""

from __future__ import annotations

from typing import Any

from ninefold.model.entity import entity_of, fingerprint, series_id
from ninefold.model.signal import event_id

_RX_TX, _READ_WRITE = ("rx", "tx"), ("read", "write")
DATA_SOURCES: dict[str, tuple[str, ...]] = {
    "load": ("shortterm", "midterm", "longterm"), "df": ("used", "free"),
    "if_octets": _RX_TX, "if_packets": _RX_TX, "if_errors": _RX_TX, "if_dropped": _RX_TX,
    "io_octets": _RX_TX, "io_packets": _RX_TX, "mysql_octets": _RX_TX, "node_octets": _RX_TX, "memcached_octets": _RX_TX,
    "disk_octets": _READ_WRITE, "disk_ops": _READ_WRITE, "disk_merged": _READ_WRITE, "disk_time": _READ_WRITE,
    "disk_latency": _READ_WRITE, "disk_io_time": ("io_time", "weighted_io_time"), "ps_count": ("processes", "threads"),
    "ps_cputime": ("user", "syst"), "ps_pagefaults": ("minflt", "majflt"), "ps_disk_octets": _READ_WRITE, "ps_disk_ops": _READ_WRITE,
    "vmpage_io": ("in", "out"), "vmpage_faults": ("minflt", "majflt"), "dns_octets": ("queries", "responses"), "serial_octets": _RX_TX,
}  # fmt: skip
"""The types of collectd's types.db that have several data sources and are common; all others have one, called value."""
KINDS = {"counter": "counter", "gauge": "gauge", "derive": "counter", "absolute": "delta"}
SEVERITIES = {"FAILURE": "critical", "WARNING": "warning", "OKAY": "info"}


def types_of(text: str) -> dict[str, tuple[str, ...]]:
    """The data sources of each type in a types.db."""
    lines = (line.partition("#")[0].split(None, 1) for line in text.splitlines())
    return {line[0]: tuple(source.strip().partition(":")[0] for source in line[1].split(",")) for line in lines if len(line) == 2}


def data_sources(type_: str, count: int, known: dict[str, tuple[str, ...]] = DATA_SOURCES) -> tuple[str, ...]:
    """The names of the `count` data sources of a type: those known, else ``value``, else numbers."""
    names = known.get(type_, ())
    return names if len(names) == count else ("value",) if count == 1 else tuple(map(str, range(count)))


def series_of(host: str, plugin: str, plugin_instance: str, type_: str, type_instance: str, data_source: str, kind: str) -> dict[str, Any]:
    """The series row of one data source; `kind` is collectd's, in lower case."""
    parts = ["collectd", plugin] + ([type_] if type_ != plugin else []) + ([data_source] if data_source != "value" else [])
    attributes = _about(host, plugin_instance, type_instance)
    name = "_".join(parts)
    return {
        "series": series_id(name, attributes), "name": name, "kind": KINDS.get(kind, "unknown"), "entity": entity_of(attributes),
        "attributes": attributes,
    }  # fmt: skip


def notification(
    host: str, plugin: str, plugin_instance: str, type_: str, type_instance: str, severity: str, message: str, time: int
) -> dict[str, Any]:
    """The event row of a notification; what is OKAY again resolves what failed before."""
    attributes = _about(host, plugin_instance, type_instance) | {"collectd.plugin": plugin, "collectd.type": type_}
    attributes = {key: value for key, value in attributes.items() if value}
    identity = (host, plugin, plugin_instance, type_, type_instance)
    return {
        "id": event_id("collectd", *identity, severity, message, str(time)), "time": time, "kind": "alert",
        "entity": entity_of(attributes), "title": message, "severity": SEVERITIES.get(severity, "info"), "severity_raw": severity,
        "status": "resolved" if severity == "OKAY" else "firing", "attributes": attributes,
        "fingerprint": fingerprint({"collectd": "notification", **dict(zip("hpitj", identity, strict=True))}),
    }  # fmt: skip


def _about(host: str, plugin_instance: str, type_instance: str) -> dict[str, str]:
    found = {"host.name": host, "plugin_instance": plugin_instance, "type_instance": type_instance}
    return {key: value for key, value in found.items() if value}
