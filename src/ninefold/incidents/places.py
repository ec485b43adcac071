"""Which entities a mute is about, and the telling of those who learn from telemetry while one holds: nothing is learned of them then.

Only a mute that names a place and nothing else is told: one that names an alert, too, is about that alert, and its place is as ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product

from sqlalchemy import update
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso
from ninefold.incidents.windows import NEVER, edge, window
from ninefold.model.entity import entity_of
from ninefold.model.matcher import Matcher
from ninefold.store.records.base import Outbox
from ninefold.store.records.mutes import Mute

_GROUPED = re.compile(r"([^()|]*)\((?:\?:)?([^()]*)\)([^()|]*)")
_PART = re.compile(r"\\([^a-zA-Z0-9])|(\.[*+])|(\.)|([^\\.*+?\[\]{}^$()|])")
_MOST = 50


def places(matchers: Sequence[Matcher]) -> list[str]:
    """The entities, or globs of them, that matchers are about as a whole; none when they are about anything else or cannot be listed."""
    if len(matchers) == 1 and matchers[0].name == "entity":
        (only,) = matchers
        if only.op == "=":
            return [only.value]
        return list(_globs(only.value)) if only.op == "=~" else []
    if any(matcher.op != "=" for matcher in matchers):
        return []
    attributes = {matcher.name: matcher.value for matcher in matchers}
    entity = entity_of(attributes)
    narrower = any(entity_of({k: v for k, v in attributes.items() if k != name}) == entity for name in attributes)
    if not entity or narrower or len(attributes) < len(matchers):
        return []
    kind, _, name = entity.partition(":")
    return [entity] if "/" in name else [entity, f"{kind}:*/{name}"]


def _globs(pattern: str) -> Iterable[str]:
    """A regular expression as globs, when it is made of texts, alternatives and ``.*``."""
    grouped = _GROUPED.fullmatch(pattern)
    before, alternatives, after = grouped.groups() if grouped else ("", pattern, "")
    found = []
    for parts in product((before,), alternatives.split("|"), (after,)):
        glob = _glob("".join(parts))
        if glob is None:
            return ()
        found.append(glob)
    return found[:_MOST]


def _glob(text: str) -> str | None:
    glob, end = "", 0
    for part in _PART.finditer(text):
        if part.start() != end:
            return None
        escaped, many, one, plain = part.groups()
        glob, end = glob + (escaped or ("*" if many else "?" if one else plain)), part.end()
    return glob if end == len(text) else None


def tell(session: Session, mutes: Iterable[Mute], at: int) -> int:
    """Write down for the change feed which mutes hold their places at the time `at` (ns), hold them longer or shorter than was told, or no
    longer; returns when to look again."""
    again = NEVER
    for mute in mutes:
        named = places([Matcher(m["name"], m["op"], m["value"]) for m in mute.matchers])
        if not named:
            continue
        held = window(mute, at)
        if held is not None and held[1] != mute.told:
            _write(session, mute, named, at, "planned", held)
        elif held is None and mute.told > at and not _stands(mute):
            _write(session, mute, named, at, "ended", (mute.starts, at))
        again = min(again, edge(mute, at))
    return again


def _stands(mute: Mute) -> bool:
    """Whether the window that was told is as it was: then the clock, which may be behind where it was before a restart, will come to it."""
    held = window(mute, mute.told - 1)
    return held is not None and held[1] == mute.told


def _write(session: Session, mute: Mute, named: Sequence[str], at: int, kind: str, held: tuple[int, int]) -> None:
    mute.told = held[1] if kind == "planned" else 0
    session.execute(update(Mute).where(Mute.id == mute.id).values(told=mute.told))  # it may be of an earlier transaction
    for number, entity in enumerate(named):
        data = {
            "title": f"Muted: {mute.reason}", "entity": entity, "start": iso(held[0]), "end": iso(held[1]), "owner": mute.owner,
            "mute": mute.id, "severity": "info",
        }  # fmt: skip
        key = f"{mute.id} {number}" if number else mute.id
        session.add(Outbox(time=at, topic="maintenance", kind=kind, key=key, data=data))
