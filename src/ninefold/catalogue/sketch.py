"""Small memories of large streams: how many different values there were, and how a positive number is distributed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from ninefold.model.entity import hash64

_EXACT = 128
_BITS = 10
_SIZE = 1 << _BITS
_LOW = np.uint64((1 << (64 - _BITS)) - 1)
_ALPHA = 0.7213 / (1 + 1.079 / _SIZE)
_STEP = 2 ** (1 / 4)


class Distinct:
    """The number of different values: exact to 128, then HyperLogLog (Flajolet et al. 2007) with 1,024 registers, 3 % off."""

    __slots__ = ("_hashes", "_registers")

    def __init__(self, hashes: Iterable[int] = (), registers: str = "") -> None:
        self._hashes: set[int] | None = None if registers else set(hashes)
        self._registers = np.frombuffer(bytes.fromhex(registers), np.uint8).copy() if registers else np.zeros(0, np.uint8)

    def add(self, text: str) -> bool:
        """Count one text; whether it is surely new."""
        value = hash_of(text)
        if self._hashes is None:
            self._place(value)
            return False
        if value in self._hashes:
            return False
        self._hashes.add(value)
        self._shrink()
        return True

    def add_hashes(self, values: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
        """Count 64-bit values."""
        values = mixed(np.unique(values))
        if self._hashes is None:
            self._spread(values)
        else:
            self._hashes.update(values.tolist())
            self._shrink()

    def __len__(self) -> int:
        """The number, estimated when it is above 128."""
        if self._hashes is not None:
            return len(self._hashes)
        estimate = _ALPHA * _SIZE * _SIZE / float(np.sum(2.0 ** -self._registers.astype(np.float64)))
        empty = int(np.count_nonzero(self._registers == 0))
        return round(_SIZE * math.log(_SIZE / empty) if estimate < 2.5 * _SIZE and empty else estimate)

    @property
    def exact(self) -> bool:
        """Whether the number is counted, not estimated."""
        return self._hashes is not None

    def state(self) -> dict[str, Any]:
        """What the constructor takes to continue here."""
        return {"hashes": sorted(self._hashes)} if self._hashes is not None else {"registers": self._registers.tobytes().hex()}

    def _shrink(self) -> None:
        if self._hashes is not None and len(self._hashes) > _EXACT:
            hashes, self._hashes = np.array(sorted(self._hashes), np.uint64), None
            self._registers = np.zeros(_SIZE, np.uint8)
            self._spread(hashes)

    def _place(self, value: int) -> None:
        rest = value & int(_LOW)
        place, rank = value >> (64 - _BITS), 64 - _BITS - rest.bit_length() + 1
        if rank > self._registers[place]:
            self._registers[place] = rank

    def _spread(self, values: np.ndarray[Any, np.dtype[np.uint64]]) -> None:
        places = (values >> np.uint64(64 - _BITS)).astype(np.intp)
        _, exponents = np.frexp((values & _LOW).astype(np.float64))
        np.maximum.at(self._registers, places, (64 - _BITS - exponents + 1).astype(np.uint8))


def mixed(values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Evenly spread 64-bit hashes of any 64-bit values, one to one (the finalizer of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@lru_cache(maxsize=8192)
def hash_of(text: str) -> int:
    """An evenly spread 64-bit hash; those of the last 8,192 texts are remembered."""
    return hash64((text,))


@dataclass(slots=True)
class Spread:
    """The distribution of positive numbers in buckets 19 % wide; the past fades, so that a change is learned again.

    Attributes:
        buckets: number of the bucket -> weight; the bucket of 0 and less is -999.
        weight: the sum of the weights.
    """

    buckets: dict[int, float] = field(default_factory=dict)
    weight: float = 0.0
    memory: float = 2000.0

    def add(self, value: float, weight: float = 1.0) -> None:
        """Count a value."""
        place = math.floor(4 * math.log2(value)) if value > 1e-6 else -999
        self.buckets[place] = self.buckets.get(place, 0.0) + weight
        self.weight += weight
        if self.weight > self.memory:
            self.buckets = {place: w / 2 for place, w in self.buckets.items() if w > 0.25}
            self.weight = sum(self.buckets.values())

    def quantile(self, share: float) -> float | None:
        """The value below which `share` of the weight lies, None of nothing."""
        if not self.buckets:
            return None
        left = share * self.weight
        for place in sorted(self.buckets):
            left -= self.buckets[place]
            if left <= 1e-9:
                break
        return 0.0 if place == -999 else _STEP ** (place + 0.5)

    @classmethod
    def of(cls, state: dict[str, Any]) -> Spread:
        """Continue from what orjson made of one."""
        return cls({int(place): weight for place, weight in state["buckets"].items()}, state["weight"], state["memory"])
