"""The compiled loop that joins spans with their parents. Imported only by `warm`."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from ninefold.analytics.tables import IN, SPREAD

_MINUTE = 60_000_000_000
CLIENT, SERVER = 1, 2
_LINK = types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]
    IN["uint64"], IN["uint64"], IN["int64"], IN["int64"], IN["int64"], IN["int64"], IN["int64"],
    types.uint64[::1], types.int64[::1], types.uint64[:, ::1], types.int64[:, :, ::1], types.int64[:, ::1],
    types.int64[:, ::1], types.int64[:, ::1],
)  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _edge(a, b, t, known, edges, made):  # type: ignore[no-untyped-def]
    """Note a call from `a` to `b`, unless the small cache knows it from the last five minutes."""
    if a == b or a == 0 or b == 0:
        return made
    place = (np.uint64(a * 1_000_003 + b) * SPREAD >> np.uint64(40)) % np.uint64(len(known))
    code = (a << 32) | b
    if known[place, 0] == code + 1 and t - known[place, 1] < 5 * _MINUTE:
        return made
    known[place, 0], known[place, 1] = code + 1, t
    edges[made, 0], edges[made, 1], edges[made, 2] = a, b, t
    return made + 1


@njit(_LINK, cache=True, nogil=True, error_model="numpy")
def link(ids, parents, entities, kinds, durations, moments, peers, keys, facts, waiting, facts_waiting, known, edges, gaps):  # type: ignore[no-untyped-def]
    """Join spans with their parents, in either order of arrival, and note calls between entities and the time between them.

    Args:
        ids, parents: keys of the span and of its parent (0 = none).
        entities, peers: number of the entity, and of the one its attributes say it calls (0 = unknown, none).
        kinds, durations, moments: `CLIENT`, `SERVER` or another below 4; ns; start in ns.
        keys, facts: recent spans, directly mapped by key; a fact is ``duration << 22 | entity << 2 | kind``.
        waiting, facts_waiting: children whose parent has not come, four to a set: parent's key; fact and time.
        known: the cache of calls noted lately.
        edges: room for six rows (caller, callee, time) a span.
        gaps: room for five rows (row, callee, time, ns between client and server span) a span.

    Returns:
        The numbers of edges and of gaps written.
    """
    made = measured = 0
    recent, sets = np.uint64(len(keys)), np.uint64(len(waiting))
    for i in range(len(ids)):
        t, own, mother = moments[i], ids[i], parents[i]
        fact = (min(max(durations[i], 0), 1 << 40) << 22) | (entities[i] << 2) | kinds[i]
        made = _edge(entities[i], peers[i], t, known, edges, made)
        place = own % recent
        keys[place], facts[place] = own, fact
        place = own % sets
        for k in range(4):
            if waiting[place, k] == own:
                child = facts_waiting[place, k, 0]
                waiting[place, k] = 0
                made = _edge(entities[i], (child >> 2) & 0xFFFFF, facts_waiting[place, k, 1], known, edges, made)
                if kinds[i] == CLIENT and child & 3 == SERVER:
                    gaps[measured, 0], gaps[measured, 1] = i, (child >> 2) & 0xFFFFF
                    gaps[measured, 2], gaps[measured, 3] = facts_waiting[place, k, 1], durations[i] - (child >> 22)
                    measured += 1
        if mother == 0:
            continue
        place = mother % recent
        if keys[place] == mother:
            parent = facts[place]
            made = _edge((parent >> 2) & 0xFFFFF, entities[i], t, known, edges, made)
            if parent & 3 == CLIENT and kinds[i] == SERVER:
                gaps[measured, 0], gaps[measured, 1], gaps[measured, 2], gaps[measured, 3] = (
                    i,
                    entities[i],
                    t,
                    (parent >> 22) - durations[i],
                )
                measured += 1
            continue
        place, best = mother % sets, 0
        for k in range(4):
            if waiting[place, k] == 0:
                best = k
                break
            if facts_waiting[place, k, 1] < facts_waiting[place, best, 1]:
                best = k
        waiting[place, best], facts_waiting[place, best, 0], facts_waiting[place, best, 1] = mother, fact, t
    return made, measured
