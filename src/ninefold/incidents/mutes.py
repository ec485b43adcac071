"""Mutes: alerts that fire while one holds for them open no incident; they are kept aside, and come back when it ends.

An alert that is in an open incident stays there. Whether a mute holds is asked of the time an alert is told (the clock of receipt).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.analytics.alerts.correlate import EXPIRE_NS
from ninefold.ground.clock import MINUTE, SECOND, iso, now
from ninefold.ground.errors import BadData, Conflict, NotFound
from ninefold.incidents import folding
from ninefold.incidents.intake import Row, rule_of
from ninefold.incidents.ledger import Pages
from ninefold.incidents.windows import NEVER, edge, problem, window
from ninefold.model.matcher import Finder, Matcher, checked
from ninefold.store.records.base import Audit, Outbox, Records
from ninefold.store.records.incidents import RESOLVED, AlertState
from ninefold.store.records.mutes import HiddenAlert, Mute

State = Literal["pending", "active", "expired"]
_SWEEP = 10 * MINUTE
"""How often hidden alerts that nobody tells of any more are looked for."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants to be muted; times in ns, matchers as conditions that must all hold."""

    matchers: Sequence[Matcher]
    starts: int
    ends: int
    owner: str
    reason: str
    rrule: str = ""
    duration_s: int = 0
    timezone: str = "UTC"


def labels_of(row: Row) -> Mapping[str, str]:
    """What matchers are asked about: the attributes, and what every alert has whatever its sender calls it."""
    return {
        "alertname": rule_of(row.attributes, row.title), "entity": row.entity, "severity": row.severity, "source": row.source,
        "kind": row.kind, **row.attributes,
    }  # fmt: skip


def state_of(mute: Mute, at: int) -> State:
    """Whether a mute holds at a time, may hold later, or is over."""
    if at >= mute.ends or (mute.rrule and window(mute, at) is None and edge(mute, at) >= mute.ends):
        return "expired"
    return "active" if window(mute, at) is not None else "pending"


def matchers_of(mute: Mute) -> list[Matcher]:
    """Its matchers."""
    return [Matcher(m["name"], m["op"], m["value"]) for m in mute.matchers]


class Mutes:
    """The mutes of one records database. `hide` and `release` are called under the lock of the incidents; the others by anybody.

    Args:
        records: where they are kept.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._stale = True
        self._mutes: dict[str, Mute] = {}
        self._hidden: set[str] = set()
        self._finder: Finder[str] = Finder({})
        self._from = self._until = self._sweep = 0

    def forget(self) -> None:
        """Read the records again at the next question: they changed, or what was written to them was not kept."""
        self._stale = True

    def due(self, at: int) -> bool:
        """Whether `release` may have something to do at the time `at` (ns)."""
        return self._stale or (bool(self._hidden) and not (at < self._sweep and self._from <= at < self._until))

    def hide(self, session: Session, rows: Sequence[Row], taken: Callable[[str], bool], pages: Pages) -> list[Row]:
        """The alerts that no mute hides. Those it does are kept aside, with the decision in the ledger.

        Args:
            session: the transaction it belongs to.
            rows: alerts and anomalies, in order of receipt.
            taken: says whether a fingerprint is in an open incident.
            pages: takes the decisions.
        """
        self._read(session, min((row.received for row in rows), default=0))
        if not self._mutes and not self._hidden:
            return list(rows)
        found = self._found(rows)
        aside = self._aside(session, [mark(row) for row in rows if found[row.id] or mark(row) in self._hidden])
        over = {s.fingerprint: s.last for s in _states(session, [mark(row) for row in rows if found[row.id]]) if s.status == RESOLVED}
        shown, hidden = [], []
        for row in rows:
            key = mark(row)
            ids = found[row.id] if row.status != "resolved" and not taken(key) else []
            if ids and over.get(key, -1) >= row.time:
                continue  # its end was told before its beginning
            if ids:
                self._put(session, aside, row, ids, pages)
                hidden.append(row)
                continue
            if key in aside:
                session.delete(aside.pop(key))
                self._hidden.discard(key)
            shown.append(row)
        folding.write_hidden(session, hidden)
        return shown

    def release(self, session: Session, at: int, pages: Pages) -> list[Row]:
        """The hidden alerts that no mute hides any more at the time `at` (ns) and that still fire, as if they were told now."""
        self._read(session, at)
        if not self.due(at):
            return []
        self._sweep = at + _SWEEP
        aside = list(session.scalars(select(HiddenAlert).order_by(HiddenAlert.since, HiddenAlert.fingerprint)))
        rows = [Row(**each.row) for each in aside]
        found = self._at(at).find([labels_of(row) for row in rows])
        back = []
        for each, row, ids in zip(aside, rows, found, strict=True):
            silent = at - each.heard >= EXPIRE_NS
            if ids and not silent:
                each.mutes = ids
                continue
            session.delete(each)
            self._hidden.discard(each.fingerprint)
            if silent or not row.status:
                pages.decided(None, row.id, at, "mute", "it was hidden until it was over", fingerprint=row.fingerprint)
            else:
                pages.decided(None, row.id, at, "mute", "shown: no mute holds any more, and it still fires", fingerprint=row.fingerprint)
                back.append(replace(row, time=max(row.time, at), received=each.heard))
        return back

    def create(self, wish: Wish, actor: str) -> Mute:
        """Mute something.

        Raises:
            BadData: the matchers or times cannot be, or owner or reason are missing.
        """
        mute = _made(wish)
        with self._records.session() as session:
            session.add(mute)
            _told(session, mute, "created", actor)
        self.forget()
        return mute

    def change(self, key: str, wish: Wish, actor: str) -> Mute:
        """Change a mute. What it hides stays the same mute; other matchers, or one that is over, make a new one in its place.

        Raises:
            NotFound: there is no such mute.
            BadData: as `create`.
        """
        fresh = _made(wish)
        with self._records.session() as session:
            mute = _get(session, key)
            at = now()
            if fresh.starts // SECOND == mute.starts // SECOND:
                fresh.starts = mute.starts  # a client's clock may know less of a second than ours
            begun = mute.starts <= at and fresh.starts != mute.starts
            if begun or state_of(mute, at) == "expired" or mute.matchers != fresh.matchers:
                if state_of(mute, at) != "expired":
                    self._end(session, mute, at, actor)
                session.add(fresh)
                _told(session, fresh, "created", actor)
                mute = fresh
            else:
                for name in ("starts", "ends", "rrule", "duration_s", "timezone", "owner", "reason"):
                    setattr(mute, name, getattr(fresh, name))
                mute.changed = at
                _told(session, mute, "changed", actor)
        self.forget()
        return mute

    def expire(self, key: str, actor: str) -> Mute:
        """End a mute now.

        Raises:
            NotFound: there is no such mute.
            Conflict: it is over already.
        """
        with self._records.session() as session:
            mute = _get(session, key)
            if state_of(mute, now()) == "expired":
                raise Conflict(f"the mute {key} is over already")
            self._end(session, mute, now(), actor)
        self.forget()
        return mute

    @staticmethod
    def _end(session: Session, mute: Mute, at: int, actor: str) -> None:
        mute.ends = mute.changed = at
        mute.starts = min(mute.starts, at)
        _told(session, mute, "expired", actor)

    def _read(self, session: Session, at: int) -> None:
        if self._stale:
            self._stale = False  # first: who changes them from now on commits after this transaction, and then says so again
            self._mutes = {mute.id: mute for mute in session.scalars(select(Mute).where(Mute.ends > at - EXPIRE_NS).order_by(Mute.id))}
            self._hidden = set(session.scalars(select(HiddenAlert.fingerprint)))
            self._from = self._until = self._sweep = 0

    def _at(self, at: int) -> Finder[str]:
        if not self._from <= at < self._until:
            self._finder = Finder({key: matchers_of(mute) for key, mute in self._mutes.items() if window(mute, at) is not None})
            self._from, self._until = at, min((edge(mute, at) for mute in self._mutes.values()), default=NEVER)
        return self._finder

    def _found(self, rows: Sequence[Row]) -> dict[str, list[str]]:
        by_time: dict[int, list[Row]] = {}
        for row in rows:
            by_time.setdefault(row.received, []).append(row)
        found: dict[str, list[str]] = {}
        for received, some in by_time.items():
            finder = self._at(received)
            hits = finder.find([labels_of(row) for row in some]) if len(finder) else [[] for _ in some]
            found.update(zip((row.id for row in some), hits, strict=True))
        return found

    def _aside(self, session: Session, marks: Iterable[str]) -> dict[str, HiddenAlert]:
        found: dict[str, HiddenAlert] = {}
        for some in folding.chunks(sorted(set(marks) & self._hidden)):
            wanted = select(HiddenAlert).where(HiddenAlert.fingerprint.in_(some))
            found.update((each.fingerprint, each) for each in session.scalars(wanted))
        return found

    def _put(self, session: Session, aside: dict[str, HiddenAlert], row: Row, ids: list[str], pages: Pages) -> None:
        key = mark(row)
        known = aside.get(key)
        if known is None:
            known = aside[key] = HiddenAlert(fingerprint=key, since=row.received, heard=0, mutes=[], event_id="", row={})
            session.add(known)
            self._hidden.add(key)
        if known.event_id != row.id or known.mutes != ids:
            by = "; ".join(_named(self._mutes[each]) for each in ids)
            pages.decided(None, row.id, row.time, "mute", f"hidden by {by}", fingerprint=row.fingerprint, mutes=ids)
        known.mutes, known.event_id, known.heard, known.row = ids, row.id, max(known.heard, row.received), asdict(row)


def mark(row: Row) -> str:
    """What an alert is known by."""
    return row.fingerprint or row.id


def _states(session: Session, marks: Iterable[str]) -> Iterable[AlertState]:
    for some in folding.chunks(sorted(set(marks))):
        yield from session.scalars(select(AlertState).where(AlertState.fingerprint.in_(some)))


def _named(mute: Mute) -> str:
    kind = "maintenance" if mute.rrule else "silence"
    return f"{kind} {mute.id} of {mute.owner} until {iso(mute.ends)}: {mute.reason}"


def _made(wish: Wish) -> Mute:
    """The record of a wish; times are kept to the microsecond, as they are told."""
    for name, what in ((wish.owner, "an owner"), (wish.reason, "a reason")):
        if not name.strip():
            raise BadData(f"a mute needs {what}, so that others know whom to ask and why")
    matchers = [{"name": m.name, "op": m.op, "value": m.value} for m in checked(wish.matchers)]
    mute = Mute(
        id=str(uuid4()), matchers=matchers, starts=wish.starts // 1000 * 1000, ends=wish.ends // 1000 * 1000, rrule=wish.rrule.strip(),
        duration_s=wish.duration_s, timezone=wish.timezone, owner=wish.owner.strip(), reason=wish.reason.strip(), created=now(),
        changed=now(),
    )  # fmt: skip
    wrong = problem(mute)
    if wrong:
        raise BadData(wrong)
    return mute


def _get(session: Session, key: str) -> Mute:
    mute = session.get(Mute, key)
    if mute is None:
        raise NotFound(f"there is no mute {key!r}")
    return mute


def _told(session: Session, mute: Mute, kind: str, actor: str) -> None:
    detail: dict[str, Any] = {
        "matchers": ", ".join(map(str, matchers_of(mute))), "starts": iso(mute.starts), "ends": iso(mute.ends), "rrule": mute.rrule,
        "duration_s": mute.duration_s, "owner": mute.owner, "reason": mute.reason,
    }  # fmt: skip
    session.add(Audit(actor=actor, action=f"mute {kind}", target=mute.id, detail=detail))
    title = f"Mute {kind} by {actor}: {detail['matchers']}, {mute.reason}"
    session.add(Outbox(topic="mute", kind=kind, key=mute.id, data={"title": title, "actor": actor, **detail}))
