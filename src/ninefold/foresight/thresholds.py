"""Which series can run full, run out or expire, and at what value: by configuration, and by name and unit.

A name is read as words. Used beside a limit of the same entity and labels (``fs_used_bytes`` and ``fs_size_bytes``): the limit. A share or
per cent of something used: 1 or 100. What is free, available, remaining: 0. A certificate's end: that time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ninefold.config import ThresholdConfig

_WORDS = re.compile(r"[a-z]+|\d+")
_USED = frozenset(
    ("used", "usage", "open", "active", "current", "working", "set", "in", "use", "busy", "allocated", "consumed", "count", "size")
)
_LIMIT = frozenset(("limit", "limits", "capacity", "max", "maximum", "quota", "hard", "total", "size", "spec", "settings", "allocatable"))
_SURE_LIMIT = frozenset(("limit", "limits", "capacity", "max", "maximum", "quota", "hard", "allocatable"))
_FREE = frozenset(("free", "avail", "available", "remaining", "left", "headroom", "unused"))
_SHARE = frozenset(
    ("utilization", "utilisation", "util", "used", "usage", "usedpercent", "full", "fill", "occupancy", "saturation", "burned")
)
_PER_CENT = frozenset(("percent", "pct", "percentage"))
_FILLING = frozenset(
    [
        "disk",
        "filesystem",
        "fs",
        "volume",
        "storage",
        "inode",
        "inodes",
        "files",
        "fds",
        "fd",
        "descriptors",
        "memory",
        "mem",
        "heap",
        "swap",
        "quota",
        "queue",
        "queued",
        "pool",
        "connection",
        "connections",
        "tablespace",
        "license",
        "licenses",
        "partition",
        "space",
        "bytes",
        "budget",
        "bucket",
        "threads",
        "sessions",
        "addresses",
        "ips",
        "slots",
        "buffer",
        "conntrack",
        "entries",
        "credits",
        "requests",
        "tokens",
    ]
)
_SHARES = frozenset(("utilization", "utilisation", "share", "fraction"))
_NOT = frozenset(("rate", "total", "seconds", "idle", "cpu", "time", "duration", "latency"))
_CERTIFICATE = frozenset(("cert", "certificate", "ssl", "tls", "x509"))
_END = frozenset(("expiry", "expires", "expiration", "notafter", "not", "after", "expire"))
_EPOCH = 1e9
_COUNTS = ("counter", "delta")


@dataclass(frozen=True, slots=True)
class Threshold:
    """Where a series must not come.

    Attributes:
        value: the threshold; None while it must be read from the newest value of `beside`.
        above: it is met from below.
        why: one phrase for people.
        beside: the series that holds the threshold, 0 if none.
        date: the value itself is the time (s since the epoch) at which it ends.
    """

    value: float | None
    above: bool
    why: str
    beside: int = 0
    date: bool = False


def words(name: str) -> list[str]:
    """A metric's name as words in lower case."""
    return _WORDS.findall(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower())


def thresholds(rows: Iterable[Mapping[str, Any]], configured: Sequence[ThresholdConfig] = ()) -> dict[int, Threshold]:
    """The thresholds of those series that have one.

    Args:
        rows: series with series, name, unit, kind, entity, attributes (a dictionary).
        configured: what the configuration says; the first that fits a series wins over everything else.
    """
    described = list(rows)
    limits: dict[tuple[Any, ...], int] = {}
    for row in described:
        said = words(row["name"])
        if row["kind"] not in _COUNTS and _LIMIT & set(said) and not _FREE & set(said):
            key = _key(row, said, _LIMIT)
            if key not in limits or _SURE_LIMIT & set(said):
                limits[key] = int(row["series"])
    found: dict[int, Threshold] = {}
    for row in described:
        threshold = _configured(row, configured) or _named(row, limits)
        if threshold is not None:
            found[int(row["series"])] = threshold
    return found


def _key(row: Mapping[str, Any], said: Sequence[str], roles: frozenset[str]) -> tuple[Any, ...]:
    stem = tuple(word for word in said if word not in roles)
    return row["entity"], stem, tuple(sorted((k, v) for k, v in row["attributes"].items() if k not in ("state", "type", "resource")))


def _configured(row: Mapping[str, Any], configured: Sequence[ThresholdConfig]) -> Threshold | None:
    for one in configured:
        if fnmatchcase(row["name"], one.metric) and fnmatchcase(row["entity"], one.entity):
            value = one.above if one.above is not None else one.below
            return Threshold(value, one.above is not None, "as configured")
    return None


def _named(row: Mapping[str, Any], limits: Mapping[tuple[Any, ...], int]) -> Threshold | None:
    said = words(row["name"])
    have, unit = set(said), row["unit"]
    if have & _CERTIFICATE and have & _END and row["kind"] not in _COUNTS:
        return Threshold(0.0, False, "the certificate ends", date=unit not in ("d", "h") and "days" not in have)
    if row["kind"] in _COUNTS:
        return None
    percent = unit == "%" or bool(have & _PER_CENT)
    share = "ratio" in have or (unit == "1" and bool(have & _SHARES))
    if have & _FREE and have & (_FILLING | _PER_CENT | {"ratio"}) and not have & _NOT:
        return Threshold(0.0, False, "nothing is left")
    if (percent or share) and have & _SHARE and have & _FILLING and not have & _NOT:
        return Threshold(100.0 if percent else 1.0, True, "it is full")
    if have & (_USED - {"set", "in", "count", "size"}) or have & _FILLING:
        beside = limits.get(_key(row, said, _USED))
        if beside and beside != int(row["series"]) and not have & _SURE_LIMIT:
            return Threshold(None, True, "its limit is reached", beside)
    return None
