"""On-call as people and programs see it: plain JSON values, times as RFC 3339 text. What a contact method is asked is never told, for it
may hold a number or a key."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso
from ninefold.ground.errors import NotFound
from ninefold.oncall import calendar
from ninefold.oncall.arranging import remaining
from ninefold.oncall.plans import Person, Policy, Schedule, Team
from ninefold.oncall.roster import Roster, Times
from ninefold.oncall.rotation import Shift, gaps, on_call
from ninefold.store.records.access import Token
from ninefold.store.records.incidents import incident_key
from ninefold.store.records.oncall import RUNNING, Arrangement, Calendar, Escalation, Override, Page

Json = dict[str, Any]


def overview(session: Session, at: int, end: int) -> Json:
    """Everything: who is on call at a time (ns) and until `end`, and what was arranged."""
    roster = Roster(session)
    versions = {(row.kind, row.name): row.version for row in session.scalars(select(Arrangement))}
    schedules = [_schedule(session, roster, name, at, end) for name in roster.all(Schedule)]
    by_name = {each["name"]: each for each in schedules}
    return {
        "at": iso(at), "end": iso(end), "schedules": [each | {"version": versions["schedule", each["name"]]} for each in schedules],
        "teams": [
            {"name": name, "version": versions["team", name], **team.model_dump(mode="json"), "on_call": _of_team(team, by_name)}
            for name, team in roster.all(Team).items()
        ],
        "policies": [
            {"name": name, "version": versions["policy", name], **policy.model_dump(mode="json")}
            for name, policy in sorted(roster.all(Policy).items(), key=lambda item: (item[1].order, item[0]))
        ],
        "people": people(session, roster),
    }  # fmt: skip


def schedule(session: Session, name: str, start: int, end: int, at: int) -> Json:
    """One schedule between two times (ns).

    Raises:
        NotFound: there is none of this name.
    """
    roster = Roster(session)
    if name not in roster.all(Schedule):
        raise NotFound(f"there is no schedule {name!r}")
    row = session.get_one(Arrangement, ("schedule", name))
    return _schedule(session, roster, name, start, end, at) | {"version": row.version}


def people(session: Session, roster: Roster) -> list[Json]:
    """Those who can be put on call, and by which methods they are reached."""
    live = set(session.scalars(select(Token.name).where(Token.revoked.is_(None))))
    known = roster.all(Person)
    return [
        {"name": name, "live": name in live,
         "contacts": [{"name": c.name, "uses": c.uses, "after_s": c.after_s, "asks": sorted(c.ask)}
                      for c in (known[name].contacts if name in known else ())]}
        for name in roster.people()
    ]  # fmt: skip


def readable(session: Session, name: str, text: str) -> None:
    """Look whether a text is a calendar for a schedule.

    Raises:
        NotFound: there is no such schedule.
        BadData: it is none.
    """
    found = Roster(session).all(Schedule).get(name)
    if found is None:
        raise NotFound(f"there is no schedule {name!r}")
    calendar.read(text, (), found.zone, 0, 1)


def page(row: Page) -> Json:
    """One page."""
    return {
        "id": row.id, "incident": incident_key(row.incident) if row.incident else None, "person": row.person, "contact": row.contact,
        "uses": row.uses, "reason": row.reason, "status": row.status, "attempts": row.attempts, "due": iso(row.due),
        "sent": iso(row.sent) if row.sent else None, "finished": iso(row.finished) if row.finished else None, "error": row.error,
    }  # fmt: skip


def pages(session: Session, incident: int | None, limit: int) -> list[Json]:
    """The newest pages, of one incident or of all."""
    wanted = select(Page).order_by(Page.id.desc()).limit(limit)
    return [page(row) for row in session.scalars(wanted if incident is None else wanted.where(Page.incident == incident))]


def escalation(session: Session, incident: int) -> Json | None:
    """How far the paging about an incident has come, None if nobody was to be paged: the policy, the step taken last, and by when somebody
    must acknowledge before the next is taken."""
    wanted = select(Escalation).where(Escalation.incident == incident).order_by(Escalation.id.desc()).limit(1)
    found = session.scalars(wanted).one_or_none()
    if found is None:
        return None
    return {
        "policy": found.policy, "status": found.status, "step": found.step, "steps": len(found.rules["steps"]), "round": found.round + 1,
        "due": iso(found.due) if found.status == RUNNING else None,
    }  # fmt: skip


def override(row: Override) -> Json:
    """One override."""
    return {
        "id": row.id, "schedule": row.schedule, "person": row.person, "starts": iso(row.starts), "ends": iso(row.ends),
        "reason": row.reason, "actor": row.actor,
    }  # fmt: skip


def _schedule(session: Session, roster: Roster, name: str, start: int, end: int, at: int | None = None) -> Json:
    plan, at = roster.all(Schedule)[name], start if at is None else at
    times = roster.times(name, start, end)
    kept = session.get(Calendar, name)
    return {
        "name": name, **plan.model_dump(mode="json"), **_standing(times, at),
        "shifts": [_shift(shift) for shift in times.shifts],
        "gaps": [{"start": iso(a), "end": iso(b)} for a, b in gaps(times.shifts, start, end)],
        "overrides": [override(row) for row in remaining(session, name, at)],
        "calendar": {
            "from": "url" if kept and kept.url else "text" if kept and kept.text else "",
            "read": iso(kept.read) if kept and kept.read else None, "linked": bool(kept and kept.digest),
        },
        "problems": times.problems,
    }  # fmt: skip


def _standing(times: Times, at: int) -> Json:
    """Who is on call at a time, until when, and who is next."""
    now = on_call(times.shifts, at)
    edges = sorted({edge for shift in times.shifts for edge in (shift.start, shift.end) if edge > at})
    people_now = list(dict.fromkeys(shift.person for shift in now))
    for edge in edges:
        following = list(dict.fromkeys(shift.person for shift in on_call(times.shifts, edge)))
        if following != people_now and (edge != edges[-1] or following):
            return {"on_call": people_now, "until": iso(edge), "next": following}
    return {"on_call": people_now, "until": None, "next": []}


def _of_team(team: Team, schedules: dict[str, Json]) -> list[Json]:
    known = [schedules[name] for name in team.schedules if name in schedules]
    return [{"schedule": each["name"], "people": each["on_call"], "until": each["until"], "next": each["next"]} for each in known]


def _shift(shift: Shift) -> Json:
    return {"start": iso(shift.start), "end": iso(shift.end), "person": shift.person, "of": shift.of}
