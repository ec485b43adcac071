"""Where records come from: the attributes that many of them share, kept once and written beside each only as a column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import pyarrow as pa

from ninefold.ground.errors import TooLarge
from ninefold.model.entity import entity_of, vnode_of
from ninefold.model.signal import MAP
from ninefold.sources.kernel import Ints

_SPREAD_BYTES = 128 << 20
"""A large resource with many records must not become a flood."""
_numbers = count()


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """A resource: its attributes, the entity it is, and `number`, its identity within this process."""

    number: int
    attributes: dict[str, str]
    entity: str
    vnode: int
    size_bytes: int


def origin_of(resource: dict[str, str], scope: dict[str, str] | None = None) -> Origin:
    """The origin with these resource attributes; what `scope` says stands beside them and has no say in the entity."""
    attributes = resource | (scope or {})
    entity = entity_of(resource)
    size = sum(len(key) + len(value) for key, value in attributes.items())
    return Origin(next(_numbers), attributes, entity, vnode_of(entity), size)


def origin_columns(origins: Sequence[Origin], index: Ints) -> dict[str, pa.Array]:
    """The columns vnode, entity and resource of records, `index` saying which origin each has.

    Raises:
        TooLarge: the resource attributes repeated beside every record would fill more memory than any batch may.
    """
    sizes = np.array([origin.size_bytes for origin in origins], np.int64)
    if int(sizes[index].sum()) > _SPREAD_BYTES:
        raise TooLarge("the resource attributes are too large for so many records; send smaller batches", "resource")
    rows = pa.array(index)
    return {
        "vnode": pa.array([origin.vnode for origin in origins], pa.uint16()).take(rows),
        "entity": pa.array([origin.entity for origin in origins], pa.string()).take(rows),
        "resource": pa.array([list(origin.attributes.items()) for origin in origins], MAP).take(rows),
    }
