"""Mutes that tickets open: an approved change with a planned end hides the alerts of its entities while it lasts.

Off unless the configuration names the sources that may. What a ticket says is ordered by its own times, so that it does not matter in which
order it arrives. A person's word stands: what is changed or ended by hand is touched again only when the ticket plans something new.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.config import ChangeWindows
from ninefold.ground.clock import SECOND, iso, parse
from ninefold.incidents.intake import Row
from ninefold.incidents.ledger import Pages
from ninefold.store.records.incidents import RESOLVED
from ninefold.store.records.mutes import Mute

_SEPARATED = re.compile(r"[,\s]+")
_LISTED = 100
_STATUS = ("ticket.status", "change.status", "status", "state")
_CALLED_OFF = frozenset(("cancelled", "canceled", "closed", "completed", "ended", "rejected", "resolved"))
_US = 1000


class Plan(NamedTuple):
    """What a ticket says of its entities, from start to end (ns); without entities it plans nothing."""

    origin: str
    entities: tuple[str, ...]
    starts: int
    ends: int
    approved: bool

    def __str__(self) -> str:
        """For comparing with what it said before."""
        return f"{iso(self.starts)} {iso(self.ends)} {' '.join(self.entities)}" if self.approved else "none"


def follow(session: Session, rows: Iterable[Row], config: ChangeWindows, pages: Pages) -> list[tuple[Mute, str]]:
    """Open, change and end the mutes of tickets as events of changes say.

    Returns:
        The mutes that are others now, each with created, changed or expired.
    """
    found = []
    for row in sorted((row for row in rows if _may(row, config)), key=lambda row: (row.time, row.received)):
        for mute, verb in _heed(session, row, _plan(row, config)):
            text = f"{verb} a mute until {iso(mute.ends)} by the ticket {row.source_id} of {row.source}"
            pages.decided(None, row.id, row.time, "mute", text, mutes=[mute.id])
            found.append((mute, verb))
        session.flush()
    return found


def _may(row: Row, config: ChangeWindows) -> bool:
    named = any(fnmatchcase(row.source, source) for source in config.sources)
    return named and bool(row.source_id) and not row.ours and row.kind in config.kinds


def _plan(row: Row, config: ChangeWindows) -> Plan:
    said, nothing = row.attributes, Plan(f"{row.source} {row.source_id}", (), 0, 0, False)
    try:
        starts = parse(said["start"]) if said.get("start") else row.time
        ends = min(parse(said.get("end") or said.get("until", "")), starts + int(config.longest_s * SECOND))
    except ValueError:
        return nothing  # it names no end, or no time as one
    entities = tuple(sorted({row.entity, *_SEPARATED.split(said.get("entities", ""))[:_LISTED]} - {""}))
    if not entities or ends <= starts:
        return nothing
    return Plan(nothing.origin, entities, starts // _US * _US, ends // _US * _US, _word(row) in config.approved)


def _heed(session: Session, row: Row, plan: Plan) -> list[tuple[Mute, str]]:
    asked = select(Mute).where(Mute.origin == plan.origin).order_by(Mute.planned.desc(), Mute.ends.desc()).limit(1)
    mute, at = session.scalar(asked), row.received
    if mute is None:
        if plan.ends <= at or not (plan.approved or _word(row) in _CALLED_OFF):
            return []
        mute = _opened(session, row, plan)
        if plan.approved:
            return [(mute, "created")]
        _end(mute, at)  # kept, for its approval may come late
        return [(mute, "expired")]
    if row.time < mute.planned:
        return []
    mute.planned = row.time
    if str(plan) == mute.plan:
        return []
    mute.plan, alive = str(plan), mute.ends > at
    if alive and plan.approved and mute.matchers == _matchers(plan.entities):
        mute.starts, mute.ends, mute.changed, mute.reason = plan.starts, plan.ends, at, _reason(row)
        return [(mute, "changed")]
    done = []
    if alive:
        _end(mute, at)
        done.append((mute, "expired"))
    if plan.approved and plan.ends > at:
        done.append((_opened(session, row, plan), "created"))
    return done


def _end(mute: Mute, at: int) -> None:
    mute.ends = mute.changed = at // _US * _US
    mute.starts = min(mute.starts, mute.ends)


def _word(row: Row) -> str:
    """The ticket's status in its own word; the event's own status may only know of open and resolved."""
    own = "" if row.status == RESOLVED else next((row.attributes[key] for key in _STATUS if row.attributes.get(key)), "")
    return (own or row.status).lower()


def _opened(session: Session, row: Row, plan: Plan) -> Mute:
    mute = Mute(
        id=str(uuid4()), matchers=_matchers(plan.entities), starts=plan.starts, ends=plan.ends, rrule="", duration_s=0, timezone="UTC",
        owner=row.attributes.get("owner") or row.source, reason=_reason(row), created=row.received, changed=row.received,
        origin=plan.origin, plan=str(plan), planned=row.time, told=0,
    )  # fmt: skip
    session.add(mute)
    return mute


def _reason(row: Row) -> str:
    return f"change {row.source_id} of {row.source}: {row.title or 'without a title'}"


def _matchers(entities: Sequence[str]) -> list[dict[str, str]]:
    if len(entities) == 1:
        return [{"name": "entity", "op": "=", "value": entities[0]}]
    return [{"name": "entity", "op": "=~", "value": "|".join(re.escape(entity) for entity in entities)}]
