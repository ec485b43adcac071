"""Mutes and inhibition: alerts that fire while one holds for them open no incident; they are kept aside, and come back when it ends.

An alert that is in an open incident stays there. Whether a mute holds is asked of the time an alert is told (the clock of receipt).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.analytics.alerts.correlate import EXPIRE_NS
from ninefold.config import ChangeWindows
from ninefold.ground.clock import MINUTE, SECOND, iso, now
from ninefold.ground.errors import BadData, Conflict, NotFound
from ninefold.incidents import folding, inhibition, places, plans
from ninefold.incidents.inhibition import Inhibited, Inhibitions
from ninefold.incidents.intake import Row, rule_of
from ninefold.incidents.ledger import Pages
from ninefold.incidents.rules import Rules
from ninefold.incidents.windows import NEVER, edge, problem, window
from ninefold.model.matcher import Finder, Matcher, checked
from ninefold.store.records.base import Audit, Outbox, Records
from ninefold.store.records.incidents import RESOLVED, AlertState, Ledger
from ninefold.store.records.mutes import HiddenAlert, Mute

State = Literal["pending", "active", "expired"]
_SHOWN = "shown"
_COLUMNS = tuple(each.name for each in fields(Row))
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


def kind_of(mute: Mute) -> str:
    """What people call it: silence, maintenance, change."""
    return "change" if mute.origin else "maintenance" if mute.rrule else "silence"


def matchers_of(mute: Mute) -> list[Matcher]:
    """Its matchers."""
    return [Matcher(m["name"], m["op"], m["value"]) for m in mute.matchers]


class Hiding(NamedTuple):
    """What hides an alert: the ids of mutes, and inhibitions."""

    mutes: list[str]
    inhibitions: list[Inhibited]


_NOTHING = Hiding([], [])


@dataclass(slots=True)
class _Kept:
    """What must be known of a hidden alert to say whether it still is."""

    labels: Mapping[str, str]
    by: Hiding
    heard: int


class Mutes:
    """The mutes of one records database. `create`, `change` and `expire` are called by anybody, the others under the lock of the incidents.

    Args:
        records: where they are kept.
        rules: knows the inhibitions.
        windows: which tickets may open mutes.
    """

    def __init__(self, records: Records, rules: Rules, windows: ChangeWindows) -> None:
        self._records, self._rules, self._windows = records, rules, windows
        self._inhibitions = Inhibitions()
        self._stale = True
        self._mutes: dict[str, Mute] = {}
        self._held: dict[str, tuple[int, int, bool]] = {}
        self._hidden: dict[str, _Kept] | None = None
        self._finder: Finder[str] = Finder({})
        self._from = self._until = self._sweep = self._tell = 0

    def forget(self) -> None:
        """Read the records again at the next question: what was written to them was not kept."""
        self._stale, self._hidden = True, None
        self._inhibitions.forget()

    def due(self, at: int) -> bool:
        """Whether `release` may have something to do at the time `at` (ns)."""
        return self._stale or at >= self._tell or (bool(self._hidden) and not (at < self._sweep and self._from <= at < self._until))

    def plan(self, session: Session, rows: Sequence[Row], pages: Pages) -> None:
        """Open, change and end the mutes of tickets as these events say."""
        if not self._windows.sources:
            return
        for mute, verb in plans.follow(session, rows, self._windows, pages):
            _told(session, mute, verb, mute.origin.partition(" ")[0])
            self._stale = True

    def hide(self, session: Session, rows: Sequence[Row], taken: Callable[[str], bool], pages: Pages) -> list[Row]:
        """The alerts that nothing hides. Those that a mute or an inhibition does are kept aside, with the decision in the ledger.

        Args:
            session: the transaction it belongs to.
            rows: alerts and anomalies, in order of receipt.
            taken: says whether a fingerprint is in an open incident.
            pages: takes the decisions.
        """
        self._read(session, min((row.received for row in rows), default=0))
        if not self._mutes and not self._known and not self._inhibitions:
            return list(rows)
        rows = _ended_late(session, rows, taken)
        found = self._found(session, rows)
        aside = self._aside(session, [mark(row) for row in rows if found[row.id] != _NOTHING or mark(row) in self._known])
        wanted = [mark(row) for row in rows if found[row.id] != _NOTHING]
        over = {s.fingerprint: s.last for s in _states(session, wanted) if s.status == RESOLVED}
        shown, hidden = [], []
        for row in rows:
            key = mark(row)
            by = found[row.id] if row.status != RESOLVED and not taken(key) else _NOTHING
            if by != _NOTHING and over.get(key, -1) >= row.time:
                continue  # its end was told before its beginning
            if by != _NOTHING:
                self._put(session, aside, row, by, pages)
                hidden.append(row)
                continue
            if row.status == RESOLVED:
                over[key] = max(over.get(key, -1), row.time)
            if key in aside and row.time >= aside[key].row["time"]:
                gone = aside.pop(key)
                if gone in session.new:  # put aside and over in the same batch
                    session.expunge(gone)
                else:
                    session.delete(gone)
                del self._known[key]
            shown.append(row)
        folding.write_hidden(session, hidden)
        return shown

    def release(self, session: Session, at: int, pages: Pages) -> list[Row]:
        """The hidden alerts that nothing hides any more at the time `at` (ns) and that still fire, as if they were told now. Tells those
        who learn which mutes hold their places, too."""
        self._read(session, at)
        if not self.due(at):
            return []
        if at >= self._tell:
            self._tell = places.tell(session, self._mutes.values(), at)
        self._sweep = at + _SWEEP
        return self._back(session, at, self._others(session, at), pages)

    def _others(self, session: Session, at: int) -> dict[str, Hiding]:
        """The hidden alerts that something else hides than before at the time `at` (ns), or nothing, or of which nobody tells any more."""
        hidden = self._known
        for gone in inhibition.over(session, sorted({one.by for kept in hidden.values() for one in kept.by.inhibitions})):
            self._inhibitions.end(gone)
        labels = [kept.labels for kept in hidden.values()]
        muted, held = self._at(at).find(labels), self._inhibitions.ask(labels, self._inhibitions.sides(labels))
        found: dict[str, Hiding] = {}
        for (key, kept), by in zip(hidden.items(), map(Hiding, muted, held), strict=True):
            if by == _NOTHING or at - kept.heard >= EXPIRE_NS:
                found[key] = _NOTHING
            elif not self._stands(kept.by, by):
                found[key] = kept.by = by
        return found

    def _stands(self, told: Hiding, by: Hiding) -> bool:
        """Whether what was told of what hides an alert still holds: other alerts that inhibit it, too, are no news."""
        if told.mutes != by.mutes or bool(told.inhibitions) != bool(by.inhibitions):
            return False
        return all(self._inhibitions.fires(one.rule, one.by) for one in told.inhibitions)

    def _back(self, session: Session, at: int, others: Mapping[str, Hiding], pages: Pages) -> list[Row]:
        """Write down what hides alerts now; those that nothing hides and that still fire."""
        back, over = [], []
        for each in sorted(self._aside(session, others).values(), key=lambda each: (each.since, each.fingerprint)):
            row, by = Row(**each.row), others[each.fingerprint]
            if by != _NOTHING:
                each.mutes, each.inhibitions = by.mutes, [one._asdict() for one in by.inhibitions]
                continue
            session.delete(each)
            del self._known[each.fingerprint]
            if at - each.heard >= EXPIRE_NS or not row.status:
                over.append(each.fingerprint)
                pages.muted(each.fingerprint, row.id, at, "it was hidden until it was over")
            else:
                pages.muted(each.fingerprint, row.id, at, f"{_SHOWN}: nothing hides it any more, and it still fires", began=row.time)
                back.append(replace(row, time=max(row.time, at), received=each.heard))
        folding.expire(session, at, over)
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
        self._stale = True
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
                before = _said(mute)
                for name in ("starts", "ends", "rrule", "duration_s", "timezone", "owner", "reason"):
                    setattr(mute, name, getattr(fresh, name))
                mute.changed = at
                _told(session, mute, "changed", actor, before)
        self._stale = True
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
        self._stale = True
        return mute

    @staticmethod
    def _end(session: Session, mute: Mute, at: int, actor: str) -> None:
        before = _said(mute)
        mute.ends = mute.changed = at
        mute.starts = min(mute.starts, at)
        _told(session, mute, "expired", actor, before)

    def _read(self, session: Session, at: int) -> None:
        version = self._rules.read(session)
        if self._inhibitions.read(session, self._rules.inhibitions, version):
            self._sweep = 0
        if self._stale:
            self._stale = False  # first: who changes them from now on commits after this transaction, and then says so again
            self._mutes = {mute.id: mute for mute in session.scalars(select(Mute).where(Mute.ends > at - EXPIRE_NS).order_by(Mute.id))}
            self._held = {}
            self._from = self._until = self._sweep = self._tell = 0

        if self._hidden is None:
            self._hidden = {}
            for each in session.scalars(select(HiddenAlert)):
                by = Hiding(each.mutes, [Inhibited(**one) for one in each.inhibitions])
                self._hidden[each.fingerprint] = _Kept(labels_of(Row(**each.row)), by, each.heard)

    @property
    def _known(self) -> dict[str, _Kept]:
        return self._hidden if self._hidden is not None else {}

    def _at(self, at: int) -> Finder[str]:
        if not self._from <= at < self._until:
            for key, mute in self._mutes.items():
                begin, end, _ = self._held.get(key, (0, 0, False))
                if not begin <= at < end:
                    self._held[key] = at, edge(mute, at), window(mute, at) is not None
            self._finder = Finder({key: matchers_of(mute) for key, mute in self._mutes.items() if self._held[key][2]})
            self._from = max((begin for begin, _, _ in self._held.values()), default=0)
            self._until = min((end for _, end, _ in self._held.values()), default=NEVER)
        return self._finder

    def _found(self, session: Session, rows: Sequence[Row]) -> dict[str, Hiding]:
        by_time: dict[int, list[Row]] = {}
        for row in rows:
            by_time.setdefault(row.received, []).append(row)
        found: dict[str, Hiding] = {}
        newest: dict[str, int] = {}
        for received, some in sorted(by_time.items()):
            labels = [labels_of(row) for row in some]
            finder = self._at(received)
            muted = finder.find(labels) if len(finder) else [[] for _ in some]
            held = self._inhibited(session, some, labels, newest) if self._inhibitions else [[] for _ in some]
            found.update((row.id, Hiding(ids, by)) for row, ids, by in zip(some, muted, held, strict=True))
        return found

    def _inhibited(
        self, session: Session, rows: Sequence[Row], labels: Sequence[Mapping[str, str]], newest: dict[str, int]
    ) -> list[list[Inhibited]]:
        """What inhibits alerts that were told at the same time, of which each may inhibit the others. `newest` takes the time of the
        newest event of each alert that may."""
        sides = self._inhibitions.sides(labels)
        places = [place for place, row in enumerate(rows) if self._inhibitions.concerns(mark(row), sides[place])]
        for some in folding.chunks(sorted({mark(rows[place]) for place in places} - newest.keys())):
            known = select(AlertState.fingerprint, AlertState.last).where(AlertState.fingerprint.in_(some))
            newest.update((key, last) for key, last in session.execute(known))
        last: dict[str, int] = {}
        for place in places:
            key, time = mark(rows[place]), rows[place].time
            if time >= newest.get(key, time):
                newest[key], last[key] = time, place
        for key, place in last.items():
            row = rows[place]
            if row.status in ("", RESOLVED):
                self._sweep = 0 if self._inhibitions.end(key) else self._sweep
            else:
                self._inhibitions.fire(key, row.title, labels[place], sides[place])
        return self._inhibitions.ask(labels, sides)

    def _aside(self, session: Session, marks: Iterable[str]) -> dict[str, HiddenAlert]:
        found: dict[str, HiddenAlert] = {}
        for some in folding.chunks(sorted(set(marks) & self._known.keys())):
            wanted = select(HiddenAlert).where(HiddenAlert.fingerprint.in_(some))
            found.update((each.fingerprint, each) for each in session.scalars(wanted))
        return found

    def _put(self, session: Session, aside: dict[str, HiddenAlert], row: Row, by: Hiding, pages: Pages) -> None:
        key = mark(row)
        known = aside.get(key)
        if known is None:
            known = aside[key] = HiddenAlert(
                fingerprint=key, since=row.received, heard=0, mutes=[], inhibitions=[], event_id="", row={"time": row.time}
            )  # fmt: skip
            session.add(known)
        told = Hiding(known.mutes, [Inhibited(**one) for one in known.inhibitions])
        by = told if self._stands(told, by) else by
        if known.event_id != row.id or by is not told:
            known.mutes, known.inhibitions = by.mutes, [one._asdict() for one in by.inhibitions]
            why = [_named(self._mutes[each]) for each in by.mutes]
            why += [f"inhibition {one.rule}: {one.title} ({one.by}) is firing" for one in by.inhibitions]
            detail = {"mutes": known.mutes, "inhibitions": known.inhibitions}
            pages.muted(key, row.id, row.time, f"hidden by {'; '.join(why)}", **detail)
        known.heard = max(known.heard, row.received)
        if row.time >= known.row["time"]:
            known.event_id, known.row = row.id, {name: getattr(row, name) for name in _COLUMNS}
        self._known[key] = _Kept(labels_of(Row(**known.row)), by, known.heard)


def _ended_late(session: Session, rows: Sequence[Row], taken: Callable[[str], bool]) -> list[Row]:
    """`rows`, but that ends count which are told after their alert was shown again and are older than that: it was over by then."""
    ends = {mark(row): row.time for row in rows if row.status == RESOLVED and taken(mark(row))}
    states: dict[str, tuple[int, str]] = {}
    for some in folding.chunks(sorted(ends)):
        wanted = select(AlertState.fingerprint, AlertState.last, AlertState.last_event)
        fires = session.execute(wanted.where(AlertState.fingerprint.in_(some), AlertState.status != RESOLVED))
        states.update((key, (last, event)) for key, last, event in fires if last > ends[key])
    shown: dict[str, int] = {}
    for some in folding.chunks([event for _, event in states.values()]):
        about = select(Ledger.event_id, Ledger.detail).where(
            Ledger.event_id.in_(some), Ledger.step == "mute", Ledger.text.startswith(_SHOWN)
        )
        shown.update((key, detail.get("began", 0)) for key, detail in session.execute(about))

    def counts(row: Row) -> Row:
        last, event = states.get(mark(row), (0, ""))
        return replace(row, time=last) if row.status == RESOLVED and shown.get(event, last) <= row.time < last else row

    return [counts(row) for row in rows] if shown else list(rows)


def mark(row: Row) -> str:
    """What an alert is known by."""
    return row.fingerprint or row.id


def _states(session: Session, marks: Iterable[str]) -> Iterable[AlertState]:
    for some in folding.chunks(sorted(set(marks))):
        yield from session.scalars(select(AlertState).where(AlertState.fingerprint.in_(some)))


def _named(mute: Mute) -> str:
    return f"{kind_of(mute)} {mute.id} of {mute.owner} until {iso(mute.ends)}: {mute.reason}"


def _made(wish: Wish) -> Mute:
    """The record of a wish; times are kept to the microsecond, as they are told."""
    for name, what in ((wish.owner, "an owner"), (wish.reason, "a reason")):
        if not name.strip():
            raise BadData(f"a mute needs {what}, so that others know whom to ask and why")
    matchers = [{"name": m.name, "op": m.op, "value": m.value} for m in checked(wish.matchers)]
    mute = Mute(
        id=str(uuid4()), matchers=matchers, starts=wish.starts // 1000 * 1000, ends=wish.ends // 1000 * 1000, rrule=wish.rrule.strip(),
        duration_s=wish.duration_s, timezone=wish.timezone, owner=wish.owner.strip(), reason=wish.reason.strip(), created=now(),
        changed=now(), origin="", plan="", planned=0, told=0,
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


def _said(mute: Mute) -> dict[str, Any]:
    return {
        "matchers": ", ".join(map(str, matchers_of(mute))), "starts": iso(mute.starts), "ends": iso(mute.ends), "rrule": mute.rrule,
        "duration_s": mute.duration_s, "owner": mute.owner, "reason": mute.reason,
    }  # fmt: skip


def _told(session: Session, mute: Mute, kind: str, actor: str, before: dict[str, Any] | None = None) -> None:
    detail = _said(mute)
    session.add(Audit(actor=actor, action=f"mute {kind}", target=mute.id, detail={"before": before, "after": detail}))
    title = f"Mute {kind} by {actor}: {detail['matchers']}, {mute.reason}"
    session.add(Outbox(topic="mute", kind=kind, key=mute.id, data={"title": title, "actor": actor, **detail}))
