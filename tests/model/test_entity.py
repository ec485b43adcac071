"""Identity: hashes are framed, entities meet under one name, an empty fingerprint is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.model.entity import VNODES, entity_of, fingerprint, hash64, series_id, vnode_of
from ninefold.model.severity import log_severity_number, severity_of, severity_of_number
from ninefold.model.signal import SCHEMAS, batch_of, from_ipc, to_ipc
from ninefold.model.topology import Relation, Topology

LABELS = st.dictionaries(st.text(min_size=1, max_size=8), st.text(max_size=8), max_size=6)


def test_fields_are_framed() -> None:
    assert hash64(("ab", "c")) != hash64(("a", "bc"))
    assert hash64(("", "a")) != hash64(("a", ""))
    assert hash64(()) == hash64([])


@given(LABELS, st.randoms())
def test_identity_does_not_depend_on_order(labels: dict[str, str], random) -> None:
    items = list(labels.items())
    random.shuffle(items)
    assert series_id("m", dict(items)) == series_id("m", labels)
    assert 0 <= vnode_of(str(labels)) < VNODES


@given(LABELS)
def test_a_fingerprint_needs_a_present_field_and_ignores_absent_ones(labels: dict[str, str]) -> None:
    present = {key: value for key, value in labels.items() if value}
    if not present:
        with pytest.raises(ValueError, match="no fingerprint field"):
            fingerprint(labels)
        return
    assert fingerprint(labels) == fingerprint(present)
    assert len(fingerprint(labels)) == 16


@pytest.mark.parametrize(
    ("attributes", "entity"),
    [
        ({"service.name": "cart"}, "service:cart"),
        ({"service.name": "cart", "service.namespace": "shop", "k8s.pod.name": "cart-1"}, "service:shop/cart"),
        ({"service": "cart", "instance": "10.0.0.1:80", "job": "x"}, "service:cart"),
        ({"service.name": "unknown_service:python", "host.name": "web-1"}, "host:web-1"),
        ({"namespace": "shop", "pod": "cart-1"}, "pod:shop/cart-1"),
        ({"instance": "web-1:9100", "job": "node"}, "instance:node/web-1:9100"),
        ({"job": "batch"}, "service:batch"),
        ({"service": ""}, ""),
        ({}, ""),
    ],
)
def test_entities(attributes: dict[str, str], entity: str) -> None:
    assert entity_of(attributes) == entity


def test_severities() -> None:
    assert [severity_of(raw) for raw in ("CRITICAL", "page", "Error", "P3", "minor", "none", "strange", "")] == [
        "critical", "critical", "high", "warning", "warning", "info", "info", "info",
    ]  # fmt: skip
    assert [severity_of_number(n) for n in (24, 18, 13, 9, 0)] == ["critical", "high", "warning", "info", "info"]
    assert (log_severity_number("WARN"), log_severity_number("nonsense")) == (13, 0)


@pytest.mark.parametrize("signal", sorted(SCHEMAS))
def test_batches_survive_the_journal(signal: str) -> None:
    row = {"series": 5, "time": 7, "value": 1.5, "entity": "service:a", "attributes": {"k": "v"}, "payload": b"\x00", "from_entity": "a"}
    batch = batch_of(signal, "s", 9, [row, row])
    assert batch.rows.schema.equals(SCHEMAS[signal])
    assert from_ipc(to_ipc(batch.rows)).equals(batch.rows)


def test_topology_keeps_silent_nodes_and_names_components() -> None:
    graph = Topology([Relation("a", "b", first_seen=5, last_seen=5), Relation("b", "c"), Relation("x", "y")])
    assert graph.component("c") == graph.component("a") == "a"
    assert graph.component("y") == "x"
    assert graph.component("unknown") == "unknown"
    assert graph.distances("a") == {"a": 0, "b": 1, "c": 2}
    assert graph.add(Relation("a", "b", first_seen=1, last_seen=9)) is False
    assert graph.relations["a", "b", "calls"] == Relation("a", "b", "calls", 1, 9)
    assert graph.add(Relation("c", "x")) is True
    assert graph.component("y") == "a"
    assert graph.add(Relation("a", "a")) is False
    assert graph.add(Relation("", "a")) is False
