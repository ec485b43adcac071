"""The templates for people: what is listed of each, and all that is known of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ninefold.analytics.logs.known import Known
from ninefold.analytics.logs.lift import Lift
from ninefold.analytics.logs.log_findings import as_row
from ninefold.analytics.logs.surges import ENTITY, GONE, MEAN, NOW, SINCE, TEMPLATE, Surges
from ninefold.analytics.minutes import I64
from ninefold.ground.clock import MINUTE

KINDS = ("new", "surging", "vanished", "rare")
NEW_FOR = 1440 * MINUTE
"""How long a template that came after the first minutes counts as new."""
RARE = 3
"""At most so many lines of a template make it rare."""
_ENTITIES, _PATTERNS = 20, 2000


def listed(
    known: Known, surges: Surges, names: Sequence[str], learned: int, now: int, *, entity: str, q: str, kind: str,
    only: int | None, limit: int,
) -> tuple[list[dict[str, Any]], int]:  # fmt: skip
    """Templates as plain data, and how many match.

    Args:
        known, surges: the state of the technique.
        names: of the entities, by number.
        learned: event time (ns) from which what is first seen is new.
        now: the latest event time (ns).
        entity, q, kind, only: templates of this entity, with all these words, of this kind, of this number.
        limit: at most so many, the most frequent first (of the new and rare the latest, of the surging the strongest).
    """
    roots = known.roots()
    size = len(roots)
    figures = np.zeros((size, 3), np.int64)
    figures[:, 1] = np.iinfo(np.int64).max
    np.add.at(figures[:, 0], roots, known.seen[:, 0])
    np.minimum.at(figures[:, 1], roots, known.seen[:, 1])
    np.maximum.at(figures[:, 2], roots, known.seen[:, 2])
    of_pair = roots[surges.pairs[:, TEMPLATE]]
    asked = np.ones(len(of_pair), bool)
    if entity:
        asked = surges.pairs[:, ENTITY] == (names.index(entity) if entity in names else -1)
    usual = np.bincount(of_pair[asked], surges.moments[asked, MEAN], size)
    current = np.bincount(of_pair[asked], surges.moments[asked, NOW], size)
    flags = {
        "new": (figures[:, 1] >= learned) & (figures[:, 1] > now - NEW_FOR),
        "surging": np.bincount(of_pair[asked & (surges.pairs[:, SINCE] > 0)], minlength=size) > 0,
        "vanished": np.bincount(of_pair[asked & (surges.pairs[:, GONE] > 0)], minlength=size) > 0,
        "rare": figures[:, 0] <= RARE,
    }
    chosen = roots == np.arange(size) if only is None else np.arange(size) == only
    if entity:
        chosen &= np.bincount(of_pair[asked], minlength=size) > 0
    if kind:
        chosen &= flags[kind]
    rank = {"new": figures[:, 1], "rare": figures[:, 2], "surging": current / np.maximum(usual, 1e-3), "vanished": usual}
    order = np.flatnonzero(chosen)
    order = order[np.argsort(-rank.get(kind, figures[:, 0])[order], kind="stable")]
    words = q.lower().split()
    if words:
        order = np.array([t for t in order.tolist() if all(word in known.text(t).lower() for word in words)], np.int64)
    rows = [
        _row(template, known, figures, current, usual, flags, surges.pairs[of_pair == template, ENTITY], names)
        for template in order[:limit].tolist()
    ]
    return rows, len(order)


def detailed(
    root: int, row: Mapping[str, Any], known: Known, names: Sequence[str], why: Mapping[tuple[int, int], Sequence[Lift]]
) -> dict[str, Any]:
    """A row of `listed` with holes, aliases, pattern keys and explanations of its surges."""
    identity, holes = known.holes.get(root, ("", []))
    mine = known.roots()[known.figures[:, 0]] == root
    recent = np.flatnonzero(mine)[np.argsort(-known.figures[mine, 3], kind="stable")][:_PATTERNS]
    return {
        **row,
        "aliases": known.miner.aliases().get(root, []),
        "holes": [
            {"type": hole.type, "distinct": hole.distinct, "looked": hole.looked, "examples": hole.examples()}
            for hole in (holes if identity == row["id"] else [])
        ],
        "patterns": known.keys[recent].tolist(),
        "surges": [
            {"entity": names[entity], "fields": [as_row(lift) for lift in lifts]}
            for (entity, template), lifts in why.items()
            if known.miner.find(template) == root
        ],
    }


def _row(
    template: int, known: Known, figures: I64, now: Any, usual: Any, flags: Mapping[str, Any], entities: I64, names: Sequence[str]
) -> dict[str, Any]:
    return {
        "id": known.miner.id(template),
        "text": known.text(template),
        "count": int(figures[template, 0]),
        "rate_now": float(now[template]),
        "rate_usual": float(usual[template]),
        "severity": int(known.seen[template, 3]),
        "first_seen": int(figures[template, 1]),
        "last_seen": int(figures[template, 2]),
        "entities": [names[entity] for entity in entities[:_ENTITIES].tolist()],
        "kinds": [kind for kind in KINDS if flags[kind][template]],
        "example": known.miner.examples[template],
    }
