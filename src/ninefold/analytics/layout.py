"""The picture of a dependency graph: layers from left to right, who needs whom.

A layered drawing (K. Sugiyama, S. Tagawa, M. Toda, "Methods for Visual Understanding of Hierarchical System Structures", 1981,
doi:10.1109/TSMC.1981.4308636): cycles are broken by depth-first search, each node stands one layer right of the longest path to it,
and the order within a layer follows the mean place of its neighbours. The same graph always gives the same picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_SWEEPS = 6


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands; both coordinates from 0 to 1, x to the right, y down."""

    x: float
    y: float


def layout(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> dict[str, Place]:
    """A place for every node.

    Args:
        nodes: the names.
        edges: pairs (who needs, what is needed); those with an unknown end are passed over.
    """
    names = sorted(set(nodes))
    needs: dict[str, list[str]] = {name: [] for name in names}
    for a, b in sorted(set(edges)):
        if a in needs and b in needs and a != b:
            needs[a].append(b)
    forward = _without_cycles(needs)
    depth = _depths(forward)
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for name in names:
        layers[depth[name]].append(name)
    near = {name: set(others) for name, others in forward.items()}
    for name, others in forward.items():
        for other in others:
            near[other].add(name)
    _order(layers, near)
    wide = max(len(layers) - 1, 1)
    return {
        name: Place(i / wide if len(layers) > 1 else 0.5, (j + 0.5) / len(layer))
        for i, layer in enumerate(layers)
        for j, name in enumerate(layer)
    }


def _without_cycles(needs: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """The graph without the edges that lead back to where a depth-first search comes from."""
    forward: dict[str, list[str]] = {name: [] for name in needs}
    done: set[str] = set()
    incoming = {other for others in needs.values() for other in others}
    for start in sorted(needs, key=lambda name: (name in incoming, name)):
        path: dict[str, None] = {}
        stack = [(start, iter(needs[start]))] if start not in done else []
        path.update(dict.fromkeys(name for name, _ in stack))
        while stack:
            name, rest = stack[-1]
            for other in rest:
                if other in path:
                    continue
                forward[name].append(other)
                if other not in done:
                    path[other] = None
                    stack.append((other, iter(needs[other])))
                    break
            else:
                stack.pop()
                path.pop(name)
                done.add(name)
    return forward


def _depths(forward: Mapping[str, list[str]]) -> dict[str, int]:
    """The length of the longest path to each node."""
    waiting = dict.fromkeys(forward, 0)
    for others in forward.values():
        for other in others:
            waiting[other] += 1
    depth = dict.fromkeys(forward, 0)
    ready = [name for name, count in waiting.items() if count == 0]
    while ready:
        name = ready.pop()
        for other in forward[name]:
            depth[other] = max(depth[other], depth[name] + 1)
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    return depth


def _order(layers: list[list[str]], near: Mapping[str, set[str]]) -> None:
    """Sort every layer by the mean height of its neighbours, in sweeps to the right and back."""
    height = {name: (j + 0.5) / len(layer) for layer in layers for j, name in enumerate(layer)}
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            wanted = {name: sum(map(height.__getitem__, near[name])) / len(near[name]) if near[name] else height[name] for name in layer}
            layer.sort(key=lambda name: (wanted[name], name))
            height.update({name: (j + 0.5) / len(layer) for j, name in enumerate(layer)})
