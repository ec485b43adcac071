"""Which series can run full, by name, unit and configuration; and what is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from ninefold.config import ThresholdConfig
from ninefold.foresight.thresholds import Threshold, thresholds, words


def about(series: int, name: str, unit: str = "", kind: str = "gauge", entity: str = "host:a", **attributes: str) -> dict[str, Any]:
    return {"series": series, "name": name, "unit": unit, "kind": kind, "entity": entity, "attributes": attributes}


def only(name: str, unit: str = "", kind: str = "gauge") -> Threshold | None:
    return thresholds([about(1, name, unit, kind)]).get(1)


@pytest.mark.parametrize(
    ("name", "unit", "value", "above"),
    [
        ("system.filesystem.utilization", "1", 1.0, True),
        ("disk_used_percent", "", 100.0, True),
        ("memoryUsedPercent", "%", 100.0, True),
        ("node_filesystem_avail_bytes", "By", 0.0, False),
        ("node_filesystem_files_free", "", 0.0, False),
        ("slo_error_budget_remaining_ratio", "", 0.0, False),
        ("aws_burst_credits_remaining", "", 0.0, False),
        ("certificate_expiry_days", "d", 0.0, False),
    ],
)
def test_names_tell(name: str, unit: str, value: float, above: bool) -> None:
    found = only(name, unit)
    assert found is not None
    assert (found.value, found.above, found.date) == (value, above, False)


def test_an_end_that_is_a_date() -> None:
    found = only("x509_cert_not_after")
    assert found is not None
    assert found.date


@pytest.mark.parametrize(
    ("name", "unit", "kind"),
    [
        ("http_requests_total", "1", "counter"), ("system.cpu.utilization", "1", "gauge"), ("node_memory_MemTotal_bytes", "By", "gauge"),
        ("http_request_duration_seconds", "s", "gauge"), ("temperature", "Cel", "gauge"), ("cache_hit_ratio", "1", "gauge"),
        ("queue_depth", "", "gauge"), ("disk_io_time_percent", "%", "gauge"),
    ],
)  # fmt: skip
def test_others_have_none(name: str, unit: str, kind: str) -> None:
    assert only(name, unit, kind) is None


@pytest.mark.parametrize(
    ("used", "limit"),
    [
        ("kubelet_volume_stats_used_bytes", "kubelet_volume_stats_capacity_bytes"),
        ("container_memory_working_set_bytes", "container_spec_memory_limit_bytes"),
        ("process_open_fds", "process_max_fds"),
        ("jvm_memory_used_bytes", "jvm_memory_max_bytes"),
        ("hikaricp_connections_active", "hikaricp_connections_max"),
    ],
)
def test_what_is_used_meets_the_limit_of_the_same_thing(used: str, limit: str) -> None:
    rows = [
        about(1, used, id="x"), about(2, limit, id="x"), about(3, limit, id="y"), about(4, limit, entity="host:b", id="x"),
    ]  # fmt: skip
    for order in (rows, rows[::-1]):
        found = thresholds(order)
        assert found == {1: Threshold(None, True, "its limit is reached", 2)}
    assert thresholds([rows[0], rows[2], rows[3]]) == {}, "a limit of something else is none"


def test_configuration_comes_first() -> None:
    rules = [ThresholdConfig(metric="queue_*", entity="service:*", above=500), ThresholdConfig(metric="*", entity="host:z", below=3)]
    rows = [about(1, "queue_depth", entity="service:shop"), about(2, "queue_depth"), about(3, "disk_used_percent", "%", entity="host:z")]
    found = thresholds(rows, rules)
    assert found == {1: Threshold(500, True, "as configured"), 3: Threshold(3, False, "as configured")}
    with pytest.raises(ValueError, match="either above or below"):
        ThresholdConfig(metric="x")


def test_words() -> None:
    assert words("nodeFs.used_bytes-2") == ["node", "fs", "used", "bytes", "2"]
