"""The critical path of traces: which spans the duration of a whole trace is made of.

From the end of the root backwards: the child that finished last before the point reached is on the path, what lies between its end and
that point is the parent's own, and from the child's beginning it goes on (Zhang et al., CRISP, USENIX ATC 2022). A child that outlives its
parent, by a skewed clock or because nobody waits for it, is cut at the parent's end. The parts of a path add up to the root's duration.
"""

from __future__ import annotations

from numba import njit, types

_I64 = types.Array(types.int64, 1, "C", readonly=True)
_WALK = types.void(_I64, _I64, _I64, _I64, _I64, _I64, types.int64[::1], types.int64[::1], types.int64[:, ::1])


@njit(_WALK, cache=True, nogil=True, error_model="numpy")
def walk(start, end, roots, children, first, count, own, tree, stack):  # type: ignore[no-untyped-def]
    """Divide the duration of each root among the spans on its critical path.

    Args:
        start, end: ns of each span.
        roots: rows to begin at.
        children: rows, those of one parent together, the last to finish first.
        first, count: where the children of each row begin in `children`, and how many there are.
        own: receives the ns that each row adds to its root's path; zeros at the beginning.
        tree: receives the root's place in `roots` for rows on a path; -1 at the beginning.
        stack: room for a row (span, begin and end of its part) per span.
    """
    for r in range(len(roots)):
        depth = 1
        stack[0, 0], stack[0, 1], stack[0, 2] = roots[r], start[roots[r]], end[roots[r]]
        while depth:
            depth -= 1
            row, begin, now = stack[depth, 0], stack[depth, 1], stack[depth, 2]
            if tree[row] >= 0:
                continue  # two roots, or a circle of broken ids
            tree[row] = r
            fresh = True
            for k in range(first[row], first[row] + count[row]):
                child = children[k]
                last = end[child]
                if last > now:
                    if not fresh:
                        continue
                    last = now
                if start[child] >= last or last <= begin:
                    continue
                own[row] += now - last
                now, fresh = max(start[child], begin), False
                stack[depth, 0], stack[depth, 1], stack[depth, 2] = child, now, last
                depth += 1
            own[row] += now - begin
