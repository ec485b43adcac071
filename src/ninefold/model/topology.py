"""Topology: who needs whom, as a small directed graph with first and last seen times."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Relation:
    """`from_entity` needs `to_entity` (calls, runs_on, depends_on, member_of); times in ns."""

    from_entity: str
    to_entity: str
    kind: str = "calls"
    first_seen: int = 0
    last_seen: int = 0


class Topology:
    """A directed graph of entities; edges point from the caller to what it needs. Silent nodes stay in it."""

    def __init__(self, relations: Iterable[Relation] = ()) -> None:
        self.relations: dict[tuple[str, str, str], Relation] = {}
        self.needs: dict[str, set[str]] = {}
        self.needed_by: dict[str, set[str]] = {}
        self._component: dict[str, str] | None = None
        for relation in relations:
            self.add(relation)

    def add(self, relation: Relation) -> bool:
        """Add or refresh an edge; True when it is new."""
        a, b = relation.from_entity, relation.to_entity
        if not a or not b or a == b:
            return False
        key = (a, b, relation.kind)
        old = self.relations.get(key)
        first = min(old.first_seen, relation.first_seen) if old else relation.first_seen
        last = max(old.last_seen, relation.last_seen) if old else relation.last_seen
        self.relations[key] = Relation(a, b, relation.kind, first, last)
        if old is not None:
            return False
        for graph, one, other in ((self.needs, a, b), (self.needed_by, b, a)):
            graph.setdefault(one, set()).add(other)
            graph.setdefault(other, set())
        self._component = None
        return True

    def entities(self) -> list[str]:
        """Every entity that has an edge, sorted."""
        return sorted(self.needs)

    def component(self, entity: str) -> str:
        """A stable name (its smallest entity) of the connected component of `entity`; an unknown entity is its own."""
        if self._component is None:
            self._component = {}
            for start in self.entities():
                if start in self._component:
                    continue
                queue, self._component[start] = deque([start]), start
                while queue:
                    node = queue.popleft()
                    for other in self.needs[node] | self.needed_by[node]:
                        if other not in self._component:
                            self._component[other] = start
                            queue.append(other)
        return self._component.get(entity, entity)

    def distances(self, entity: str, limit: int = 4) -> dict[str, int]:
        """Hops from `entity` along edges in either direction, up to `limit`."""
        found, queue = {entity: 0}, deque([entity])
        while queue:
            node = queue.popleft()
            if found[node] == limit:
                continue
            for other in self.needs.get(node, set()) | self.needed_by.get(node, set()):
                if other not in found:
                    found[other] = found[node] + 1
                    queue.append(other)
        return found
