"""The part of the topology an incident touches, laid out in layers from left (callers) to right (what they need).

Layers by longest path after cycles are broken (Sugiyama et al., 1981), order within a layer by barycentres. Deterministic: the
same topology and the same affected entities always give the same picture.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ninefold.model.topology import Topology

LIMIT = 40
_SWEEPS = 4


def select(topology: Topology, affected: Collection[str], limit: int = LIMIT) -> list[str]:
    """The entities worth drawing: the affected ones and their neighbours, nearest to many affected ones first, at most `limit`."""
    chosen = sorted(affected)[:limit]
    touching: dict[str, int] = {}
    for entity in chosen:
        for other in topology.needs.get(entity, set()) | topology.needed_by.get(entity, set()):
            if other not in affected:
                touching[other] = touching.get(other, 0) + 1
    near = sorted(touching, key=lambda entity: (-touching[entity], entity))
    return sorted(chosen + near[: limit - len(chosen)])


def layers(needs: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Entities by layer: each stands to the right of everything that needs it, edges against the order of a cycle aside."""
    forward = _acyclic(needs)
    depth: dict[str, int] = {}
    waiting = {entity: sum(entity in others for others in forward.values()) for entity in forward}
    ready = sorted(entity for entity, count in waiting.items() if count == 0)
    while ready:
        entity = ready.pop(0)
        depth.setdefault(entity, 0)
        for other in sorted(forward[entity]):
            depth[other] = max(depth.get(other, 0), depth[entity] + 1)
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    columns: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for entity in sorted(depth):
        columns[depth[entity]].append(entity)
    return _ordered(columns, forward)


def _acyclic(needs: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """The graph without the edges that close a cycle in a depth-first walk from the entities with the fewest callers."""
    callers = {entity: sum(entity in others for others in needs.values()) for entity in needs}
    kept: dict[str, set[str]] = {entity: set() for entity in needs}
    state: dict[str, int] = {}
    for root in sorted(needs, key=lambda entity: (callers[entity], entity)):
        stack = [(root, iter(sorted(needs[root])))] if root not in state else []
        state.setdefault(root, 1)
        while stack:
            entity, rest = stack[-1]
            for other in rest:
                if other not in needs or other == entity or state.get(other) == 1:
                    continue
                kept[entity].add(other)
                if other not in state:
                    state[other] = 1
                    stack.append((other, iter(sorted(needs[other]))))
                    break
            else:
                state[entity] = 2
                stack.pop()
    return kept


def _ordered(columns: list[list[str]], forward: Mapping[str, Collection[str]]) -> list[list[str]]:
    backward: dict[str, set[str]] = {entity: set() for entity in forward}
    for entity, others in forward.items():
        for other in others:
            backward[other].add(entity)
    for sweep in range(_SWEEPS):
        place = {entity: i / max(1, len(column) - 1) for column in columns for i, entity in enumerate(column)}
        graph = backward if sweep % 2 == 0 else forward
        for column in columns if sweep % 2 == 0 else reversed(columns):
            column.sort(key=lambda entity: (_centre(graph[entity], place, place[entity]), entity))
            place.update((entity, i / max(1, len(column) - 1)) for i, entity in enumerate(column))
    return columns


def _centre(others: Collection[str], place: Mapping[str, float], own: float) -> float:
    return sum(place[other] for other in others) / len(others) if others else own


def draw(topology: Topology, affected: Collection[str], cause: str = "", limit: int = LIMIT) -> dict[str, Any]:
    """The map of the API: nodes with x and y in 0 to 1 and a state, edges with whether both ends are affected.

    `silent` is an entity without alerts of its own between affected ones: something both sides of it feel.
    """
    names = select(topology, affected, limit) if affected else topology.entities()[:limit]
    inside = set(names)
    needs = {name: {other for other in topology.needs.get(name, set()) if other in inside} for name in names}
    nodes = []
    columns = layers(needs)
    for i, column in enumerate(columns):
        for j, name in enumerate(column):
            state = _state(topology, name, affected, cause)
            x = (i + 0.5) / len(columns)
            y = (j + 0.5) / len(column)
            nodes.append({"id": name, "label": name.partition(":")[2] or name, "x": round(x, 4), "y": round(y, 4), "state": state})
    hit = set(affected) | ({cause} if cause else set())
    edges = [
        {"from": a, "to": b, "kind": kind, "affected": a in hit and b in hit}
        for a, b, kind in sorted(topology.relations)
        if a in inside and b in inside
    ]
    return {"nodes": nodes, "edges": edges}


def _state(topology: Topology, name: str, affected: Collection[str], cause: str) -> str:
    if name == cause:
        return "cause"
    if name in affected:
        return "affected"
    callers, needed = topology.needed_by.get(name, set()), topology.needs.get(name, set())
    between = any(a in affected for a in callers) and any(b in affected for b in needed)
    return "silent" if between or sum(a in affected for a in callers) >= 2 else "healthy"
