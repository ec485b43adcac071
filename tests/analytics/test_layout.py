"""The map of an incident: layered from callers to what they need, the same every time, never too large."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.analytics.alerts.layout import LIMIT, draw, layers
from ninefold.model.topology import Relation, Topology

SHOP = Topology(
    Relation(f"service:{a}", f"service:{b}")
    for a, b in (("web", "cart"), ("web", "catalog"), ("cart", "db"), ("catalog", "db"), ("db", "disk"), ("mobile", "web"), ("far", "away"))
)


def test_callers_stand_left_of_what_they_need() -> None:
    found = draw(SHOP, {"service:web", "service:db"}, "service:cart")
    x = {node["id"]: node["x"] for node in found["nodes"]}
    assert x["service:mobile"] < x["service:web"] < x["service:cart"] < x["service:db"] < x["service:disk"]
    assert "service:far" not in x
    assert {node["id"]: node["state"] for node in found["nodes"]} == {
        "service:cart": "cause", "service:web": "affected", "service:db": "affected", "service:catalog": "silent",
        "service:mobile": "healthy", "service:disk": "healthy",
    }  # fmt: skip
    assert {(e["from"], e["to"]): e["affected"] for e in found["edges"]}["service:cart", "service:db"]


def test_an_entity_nobody_knows_is_drawn_alone() -> None:
    assert draw(SHOP, {"host:new"})["nodes"] == [{"id": "host:new", "label": "new", "x": 0.5, "y": 0.5, "state": "affected"}]
    assert draw(Topology(), set()) == {"nodes": [], "edges": []}


EDGES = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=60)


@given(EDGES, st.sets(st.integers(0, 15), max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_graph_is_drawn_once_inside_the_frame(edges: list[tuple[int, int]], affected: set[int]) -> None:
    topology = Topology(Relation(f"s:{a}", f"s:{b}") for a, b in edges)
    marked = {f"s:{i}" for i in affected}
    found = draw(topology, marked)
    ids = [node["id"] for node in found["nodes"]]
    assert len(ids) == len(set(ids)) <= LIMIT
    assert not affected or marked <= set(ids)
    assert all(0 <= node["x"] <= 1 and 0 <= node["y"] <= 1 for node in found["nodes"])
    assert len({(node["x"], node["y"]) for node in found["nodes"]}) == len(ids)
    again = Topology(Relation(f"s:{a}", f"s:{b}") for a, b in reversed(edges))
    assert draw(again, marked) == found


@given(EDGES)
@settings(max_examples=100, deadline=None)
def test_without_cycles_every_edge_goes_right(edges: list[tuple[int, int]]) -> None:
    needs: dict[str, set[str]] = {f"s:{i:02d}": set() for i in range(16)}
    for a, b in edges:
        if a < b:
            needs[f"s:{a:02d}"].add(f"s:{b:02d}")
    place = {name: i for i, column in enumerate(layers(needs)) for name in column}
    assert set(place) == set(needs)
    assert all(place[a] < place[b] for a, others in needs.items() for b in others)


def test_a_large_neighbourhood_is_cut_to_what_matters() -> None:
    star = Topology([Relation("s:hub", f"s:{i}") for i in range(200)] + [Relation("s:other", "s:7")])
    found = draw(star, {"s:hub", "s:other"})
    assert len(found["nodes"]) == LIMIT
    assert {"s:hub", "s:other", "s:7"} <= {node["id"] for node in found["nodes"]}
