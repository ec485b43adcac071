"""An entity against its siblings: the deviant is found, a habitually busier one is not, and cuts and restarts change nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ninefold.analytics import warm
from ninefold.analytics.findings import described
from ninefold.analytics.metrics.gathering import About
from ninefold.analytics.metrics.peers import Peers, group_of
from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData
from ninefold.model.signal import METRIC, Batch, batch_of

START = 1_700_000_040 * 10**9
PODS = [f"checkout-7d9f8b6c5-{name}" for name in ("aaaa2", "bbbb2", "cccc2", "dddd2", "eeee2", "ffff2")]


def described_pods(names: list[str] = PODS) -> list[dict[str, Any]]:
    return [
        described(metric, "", "gauge", f"pod:shop/{pod}", {"k8s.pod.name": pod, "namespace": "shop"}, START)
        for pod in names
        for metric in ("cpu", "latency")
    ]


def fleet(minutes: int = 400, pods: int = 6, seed: int = 1) -> np.ndarray:
    """Pods that follow one traffic curve; the first is always half as busy again. [minutes, pods * 2]"""
    rng = np.random.default_rng(seed)
    curve = 100 + 60 * np.sin(np.arange(minutes) / 60)
    values = np.stack([curve + rng.normal(0, 3, minutes) for _ in range(2 * pods)], axis=1)
    values[:, :2] *= 1.5
    return values


def play(technique: Any, values: np.ndarray, about: list[dict[str, Any]], size: int = 60, first: int = 0) -> list[dict[str, Any]]:
    rows = [
        (one["series"], START + (first + minute) * MINUTE, float(values[minute, place]))
        for minute in range(len(values))
        for place, one in enumerate(about)
        if np.isfinite(values[minute, place])
    ]
    found: list[dict[str, Any]] = []
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        columns = [pa.array([r[0] for r in part], pa.uint64()), pa.array([r[1] for r in part], METRIC.field("time").type)]
        table = pa.RecordBatch.from_arrays([*columns, pa.array([r[2] for r in part], pa.float64())], schema=METRIC)
        for out in technique.process(Batch("metric", "test", max(r[1] for r in part), table)):
            found += out.rows.to_pylist()
    return found


def fresh(about: list[dict[str, Any]] | None = None) -> Peers:
    technique = Peers()
    technique.process(batch_of("series", "test", START, about or described_pods()))
    return technique


def deviant() -> np.ndarray:
    values = fleet()
    values[300:340, 5] *= 1.6
    values[300:340, 4] *= 1.3
    return values


def test_the_deviant_pod_is_one_finding_that_names_its_metrics() -> None:
    found = play(fresh(), deviant(), described_pods())
    assert [(row["entity"], row["status"]) for row in found] == [(f"pod:shop/{PODS[2]}", s) for s in ("firing", "resolved")]
    attributes = dict(found[0]["attributes"])
    assert attributes["metrics"] == "latency, cpu" or attributes["metrics"] == "cpu, latency"
    assert float(attributes["value"]) > 1.3 * float(attributes["expected"])
    assert "siblings let expect" in found[0]["body"]


def test_a_habitually_busier_pod_and_common_load_are_no_news() -> None:
    values = fleet(900, seed=4)
    values[600:] *= 3  # everybody has three times the load
    assert play(fresh(), values, described_pods()) == []


def test_fewer_than_four_are_not_compared() -> None:
    few = described_pods(PODS[:3])
    technique = fresh(few)
    values = fleet(300, pods=3)
    values[200:, 3] *= 5
    assert play(technique, values, few) == []
    assert technique.standing(f"pod:shop/{PODS[0]}") is None


def test_batches_may_be_cut_anywhere_and_a_restart_changes_nothing() -> None:
    about, values = described_pods(), deviant()
    expected = play(fresh(), values, about, 97)
    assert expected
    assert [row["id"] for row in play(fresh(), values, about, 7)] == [row["id"] for row in expected]
    one = fresh()
    early = play(one, values[:305], about, 97)
    two = Peers()
    two.restore(one.snapshot())
    assert [row["id"] for row in early + play(two, values[305:], about, 97, first=305)] == [row["id"] for row in expected]


def test_scale_does_not_matter_and_gaps_are_tolerated() -> None:
    values = deviant()
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    found = [(row["entity"], row["status"], row["time"]) for row in play(fresh(), values, described_pods())]
    assert found
    assert found == [(row["entity"], row["status"], row["time"]) for row in play(fresh(), values * 1e5, described_pods())]
    assert {entity for entity, _, _ in found} == {f"pod:shop/{PODS[2]}"}


def test_the_standing_of_a_pod() -> None:
    technique = fresh()
    play(technique, deviant()[:330], described_pods())
    standing = technique.standing(f"pod:shop/{PODS[2]}")
    assert standing is not None
    assert standing["group"] == "pod:shop/checkout"
    assert standing["since"]
    first = standing["metrics"][0]
    assert first["metric"] == "latency"
    assert first["siblings"] == 5
    assert first["value"] > first["usual"]
    assert first["deviation"] > 9


def test_pods_come_and_go() -> None:
    technique, values = fresh(), fleet(500, pods=8, seed=5)
    about = described_pods([*PODS, "checkout-7d9f8b6c5-gggg2", "checkout-7d9f8b6c5-hhhh2"])
    technique.process(batch_of("series", "test", START, about[12:]))
    values[:250, 12:], values[250:, :4] = np.nan, np.nan
    values[400:440, 13] *= 1.7
    found = play(technique, values, about)
    assert [(row["entity"], row["status"]) for row in found] == [(about[12]["entity"], status) for status in ("firing", "resolved")]


def test_a_part_that_is_missing_is_noticed() -> None:
    technique = fresh()
    play(technique, deviant()[:330], described_pods())
    parts = list(technique.parts())
    again = Peers()
    again.assemble(parts)
    assert list(again.parts()) == parts
    for missing in range(1, len(parts)):
        with pytest.raises(BadData):
            Peers().assemble(parts[:missing])


@pytest.mark.parametrize("count", range(1, 12))
def test_the_median_is_the_median(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 6, count).astype(float)
    assert warm.loops("metrics.likening").median(values.copy(), count) == np.median(values)


@pytest.mark.parametrize(
    ("entity", "attributes", "group"),
    [
        ("pod:shop/web-7d9f8b6c5-x2x4z", {}, "pod:shop/web"),
        ("pod:shop/db-0", {}, "pod:shop/db"),
        ("pod:shop/odd", {"k8s.deployment.name": "front"}, "pod:shop/front"),
        ("instance:node/10.0.0.1:9100", {"job": "node"}, "instance:node"),
        ("host:web-1", {}, "host:"),
        ("service:shop/cart", {}, ""),
    ],
)
def test_who_is_whose_sibling(entity: str, attributes: dict[str, str], group: str) -> None:
    assert group_of(About("cpu", "", 0, entity, attributes)) == group
