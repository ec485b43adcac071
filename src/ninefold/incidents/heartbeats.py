"""Heartbeats: events that are expected again and again. When one stays away Ninefold raises an alert of its own, which ends when it is
heard again. The alert goes the way of every event: from the change feed through the front door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.config import HeartbeatConfig
from ninefold.ground.clock import SECOND, iso
from ninefold.incidents.intake import Row
from ninefold.incidents.ledger import Pages
from ninefold.incidents.mutes import labels_of
from ninefold.incidents.rules import parsed
from ninefold.model.matcher import Finder
from ninefold.store.records.alerts import Heartbeat
from ninefold.store.records.base import Outbox
from ninefold.store.records.incidents import FIRING, RESOLVED

Json = dict[str, Any]
NEVER = 1 << 62
_AGAIN_S = 300.0
"""So long after a start nothing is late that was not before, or for its whole period where that is shorter."""


class Heartbeats:
    """The heartbeats of one records database; called under the lock of the incidents."""

    def __init__(self) -> None:
        self._version = 0
        self._finder: Finder[str] = Finder({})
        self._wanted: Mapping[str, HeartbeatConfig] = {}
        self._known: dict[str, Heartbeat] = {}
        self._begun = 0

    def forget(self) -> None:
        """Read the records again: what was written to them was not kept."""
        self._version = 0

    def stale(self, version: int) -> bool:
        """Whether `read` would take something over."""
        return version != self._version

    def read(self, session: Session, wanted: Mapping[str, HeartbeatConfig], version: int, at: int) -> None:
        """Take over what was changed; a new one is waited for from `at` (ns) on."""
        if version == self._version:
            self._known = {name: session.merge(one, load=False) for name, one in self._known.items()}
            return
        self._version, self._wanted, self._begun = version, wanted, self._begun or at
        self._finder = Finder({name: parsed(one.matchers) for name, one in wanted.items()})
        known = {row.name: row for row in session.scalars(select(Heartbeat))}
        for name, one in known.items():
            kept = wanted.get(name)
            if one.late is not None and (kept is None or kept.entity != one.entity):
                _raise(session, one, kept, RESOLVED, at, "it is waited for no longer" if kept is None else "it is about another entity now")
                one.late = None
            if kept is None:
                session.delete(one)
            else:
                one.entity = kept.entity
        fresh = {"since": at, "last": None, "late": None, "beats": 0, "event": ""}
        self._known = {name: known.get(name) or Heartbeat(name=name, entity=one.entity, **fresh) for name, one in wanted.items()}
        session.add_all(self._known.values())

    @property
    def due(self) -> int:
        """When the next one would be late (ns)."""
        return min((self._deadline(name) for name, one in self._known.items() if one.late is None), default=NEVER)

    def advance(self, session: Session, at: int) -> None:
        """Raise the alerts of those that are late at `at` (ns)."""
        for name, one in self._known.items():
            deadline = self._deadline(name)
            if one.late is None and deadline <= at:
                one.late = deadline
                heard = f"last heard {iso(one.last)}" if one.last else f"never heard since {iso(one.since)}"
                _raise(session, one, self._wanted[name], FIRING, deadline, f"{heard}; expected every {self._wanted[name].every_s:g} s")

    def beats(self, session: Session, rows: Sequence[Row], pages: Pages) -> set[str]:
        """Note the beats among `rows`; returns their event ids."""
        if not len(self._finder):
            return set()
        found: set[str] = set()
        for row, names in zip(rows, self._finder.find([labels_of(row) for row in rows]), strict=True):
            for name in names if row.status != RESOLVED and not row.ours else ():
                one = self._known[name]
                if one.event != row.id:
                    pages.decided(None, row.id, row.time, "state", f"it is a beat of the heartbeat {name}: while it comes all is well")
                one.last, one.beats, one.event = max(one.last or 0, row.received), one.beats + 1, row.id
                found.add(row.id)
                if one.late is not None:
                    one.late = None
                    _raise(session, one, self._wanted[name], RESOLVED, row.received, "it is heard again")
        return found

    def _deadline(self, name: str) -> int:
        one, wanted = self._known[name], self._wanted[name]
        period = wanted.every_s + wanted.grace_s
        # What would have come while the program was down is nobody's fault but its own: senders have some minutes to say it again.
        patience = min(period, max(wanted.grace_s, _AGAIN_S))
        return max((one.last or one.since) + int(period * SECOND), self._begun + int(patience * SECOND))


def _raise(session: Session, one: Heartbeat, wanted: HeartbeatConfig | None, status: str, at: int, why: str) -> None:
    data = {
        "title": f"The heartbeat {one.name} is {'late' if status == FIRING else 'no longer late'}", "body": why,
        "alertname": f"heartbeat {one.name}", "severity": wanted.severity if wanted else "info",
        "entity": one.entity,
    }  # fmt: skip
    session.add(Outbox(time=at, topic="heartbeat", kind=status, key=one.name, data=data))


def shown(session: Session, wanted: Sequence[Json]) -> list[Json]:
    """Heartbeats in the API's form, with what was heard of each."""
    known = {row.name: row for row in session.scalars(select(Heartbeat))}
    items = []
    for one in wanted:
        row = known.get(one["name"])
        heard = {
            "state": "waiting" if row is None or (row.last is None and row.late is None) else "late" if row.late is not None else "beating",
            "last": iso(row.last) if row and row.last else None, "late": iso(row.late) if row and row.late is not None else None,
            "beats": row.beats if row else 0, "event": row.event if row else "",
        }  # fmt: skip
        items.append(one | heard)
    return items
