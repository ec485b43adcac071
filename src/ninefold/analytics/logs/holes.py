"""What stands in the holes of a template: the type of each, examples, and how many different values there are.

Per hole the `KEPT` different values with the smallest hashes are remembered (k minimum values; Bar-Yossef et al., RANDOM 2002): a fair
sample of the different values that does not depend on their order, and ``(k - 1) / h_k`` of the k-th smallest hash, as a share of the
range, estimates how many there are. The type follows from the values kept: the one that nine tenths of them have.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

KEPT = 8
"""Different values that are remembered a hole."""
VALUE_LIMIT = 80
_RANGE = float(1 << 64)
_TYPES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("int", r"[-+]?\d{1,18}"),
        ("float", r"[-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?"),
        ("percent", r"[-+]?\d+(?:[.,]\d+)? ?%"),
        ("uuid", r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"),
        ("mac", r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}"),
        ("ip", r"/?\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?|[0-9a-fA-F]{0,4}(?::{1,2}[0-9a-fA-F]{1,4}){2,7}"),
        ("time", r"\d{4}[-/]\d\d[-/]\d\d.{0,30}|(?:[A-Z][a-z]{2},? )?[A-Z][a-z]{2} {1,2}\d.{0,26}|\d\d?:\d\d(?::\d\d(?:[.,]\d+)?)?"),
        ("duration", r"[-+]?\d+(?:[.,]\d+)? ?(?:ms|us|µs|ns|s|secs?|seconds?|mins?|minutes?|hours?|h|m)"),
        ("bytes", r"[-+]?\d+(?:[.,]\d+)? ?(?:[kKMGT]i?B?|[bB]ytes?|B)"),
        ("url", r"[a-z][a-z0-9+.-]{1,15}://\S+"),
        ("path", r"(?:[A-Za-z]:|~|\.{1,2})?(?:[/\\][^/\\\s]*)+"),
        ("hex", r"0[xX][0-9a-fA-F]+|(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{6,}"),
        ("host", r"(?=.*[A-Za-z])[\w-]+(?:\.[\w-]+)*:\d{2,5}|(?=.*[A-Za-z])[\w-]+(?:\.[\w-]+){2,}"),
        ("word", r"\S+"),
        ("text", r"[\s\S]*"),
    )
)
_WIDER = {
    frozenset(("int", "float")): "float", frozenset(("int", "hex")): "hex", frozenset(("int", "duration")): "duration",
    frozenset(("int", "bytes")): "bytes", frozenset(("ip", "host")): "host", frozenset(("float", "int", "duration")): "duration",
    frozenset(("float", "duration")): "duration",
}  # fmt: skip
TYPES = tuple(name for name, _ in _TYPES)


def type_of(value: str) -> str:
    """The first type of `TYPES` that a value is."""
    return next(name for name, pattern in _TYPES if pattern.fullmatch(value))


class Hole:
    """The values seen in one hole; `looked` counts them."""

    __slots__ = ("looked", "values")

    def __init__(self, looked: int = 0, values: Sequence[Sequence[Any]] = ()) -> None:
        self.looked = looked
        self.values: dict[int, list[Any]] = {hash_: [value, count] for hash_, value, count in values}

    def state(self) -> list[Any]:
        """What the constructor takes, as plain data."""
        return [self.looked, [[hash_, value, count] for hash_, (value, count) in self.values.items()]]

    def add(self, value: str) -> None:
        """See a value."""
        self.looked += 1
        hash_ = int.from_bytes(blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
        known = self.values.get(hash_)
        if known is not None:
            known[1] += 1
            return
        if len(self.values) == KEPT:
            largest = max(self.values)
            if hash_ > largest:
                return
            del self.values[largest]
        self.values[hash_] = [value[:VALUE_LIMIT], 1]

    @property
    def distinct(self) -> int:
        """How many different values there were among those looked at, exactly up to `KEPT`."""
        if len(self.values) < KEPT:
            return len(self.values)
        return min(self.looked, round((KEPT - 1) / (max(self.values) / _RANGE)))

    @property
    def type(self) -> str:
        """The type of nine tenths of the values kept, a wider one where two mix, ``*`` before there is any."""
        found = Counter(type_of(value) for value, _ in self.values.values())
        if not found:
            return "*"
        name, count = found.most_common(1)[0]
        if count >= 0.9 * found.total():
            return name
        return _WIDER.get(frozenset(found), "text" if "text" in found else "word")

    def examples(self) -> list[str]:
        """The values kept, the most frequent first."""
        return [value for value, _ in sorted(self.values.values(), key=lambda one: (-one[1], one[0]))]
