"""What people change of the arrangements, each with an audit row that has both, before and after."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso, now
from ninefold.ground.errors import BadData, Conflict, NotFound, Refused
from ninefold.oncall import calendar
from ninefold.oncall.plans import Person, Plan, Policy, Schedule, Team
from ninefold.oncall.reach import call_of
from ninefold.oncall.roster import Roster
from ninefold.plugin import Connector
from ninefold.store.records.base import Audit, Outbox
from ninefold.store.records.oncall import Arrangement, Calendar, Override

_LONGEST = 366 * 86_400 * 1_000_000_000


def save(
    session: Session, name: str, plan: Plan, actor: str, connectors: Mapping[str, Connector], version: int | None = None
) -> Arrangement:
    """Arrange something anew, or otherwise than it was.

    Raises:
        BadData: it names somebody or something that is not there.
        Refused: a contact method cannot work.
        Conflict: `version` is given and somebody changed it since.
    """
    row = session.get(Arrangement, (plan.kind, name))
    if version is not None and version != (row.version if row else 0):
        raise Conflict(f"the {plan.kind} {name} was changed by somebody else; reread it and decide again")
    _possible(Roster(session), name, plan, connectors)
    before, after = (row.body if row else None), plan.model_dump(mode="json")
    if row is None:
        row = Arrangement(kind=plan.kind, name=name, body=after)
        session.add(row)
    else:
        row.body, row.changed = after, now()
    hidden = plan.kind == "person"  # what a contact method is asked may hold a number or a key
    _told(
        session,
        f"{plan.kind} {'changed' if before else 'made'}",
        name,
        actor,
        _names(before) if hidden else before,
        _names(after) if hidden else after,
    )
    session.flush()
    return row


def remove(session: Session, kind: str, name: str, actor: str) -> None:
    """Take an arrangement away, with what belongs to it.

    Raises:
        NotFound: it is not there.
        Refused: something else needs it.
    """
    row = session.get(Arrangement, (kind, name))
    if row is None:
        raise NotFound(f"there is no {kind} {name!r}")
    users = list(_needing(Roster(session), kind, name))
    if users:
        raise Refused(f"the {kind} {name} is needed by {', '.join(users)}; change that first")
    session.delete(row)
    if kind == "schedule":
        session.execute(delete(Override).where(Override.schedule == name))
        session.execute(delete(Calendar).where(Calendar.schedule == name))
    _told(session, f"{kind} removed", name, actor, _names(row.body) if kind == "person" else row.body, None)


def stand_in(session: Session, schedule: str, person: str, starts: int, ends: int, reason: str, actor: str) -> Override:
    """Put somebody in place of whoever is on call between two times (ns).

    Raises:
        NotFound: there is no such schedule.
        BadData: the times cannot be, or the person is not known.
    """
    _schedule(session, schedule)
    if not 0 < ends - starts <= _LONGEST:
        raise BadData("an override ends after it starts, within a year")
    _known(Roster(session), [person])
    override = Override(schedule=schedule, person=person, starts=starts, ends=ends, reason=reason, actor=actor)
    session.add(override)
    session.flush()
    _told(session, "override made", schedule, actor, None, _shown(override))
    return override


def stand_down(session: Session, schedule: str, number: int, actor: str, at: int) -> None:
    """Take an override back; one that has begun ends at `at` (ns).

    Raises:
        NotFound: the schedule has none with this number.
        Conflict: it is over.
    """
    override = session.get(Override, number)
    if override is None or override.schedule != schedule:
        raise NotFound(f"the schedule {schedule!r} has no override {number}")
    if override.ends <= at:
        raise Conflict(f"the override {number} is over already")
    before = _shown(override)
    if override.starts < at:
        override.ends = at
    else:
        session.delete(override)
    _told(session, "override taken back", override.schedule, actor, before, None)


def take_calendar(session: Session, schedule: str, url: str, text: str, actor: str, at: int) -> None:
    """Read a schedule from a calendar: at a URL from now on, or once from a text; from none when both are empty.

    Raises:
        NotFound: there is no such schedule.
        BadData: the text is no calendar.
    """
    zone = _schedule(session, schedule).zone
    if text:
        calendar.read(text, (), zone, at, at + 1)
    kept = _calendar(session, schedule)
    before = _source(kept)
    kept.url, kept.text, kept.read, kept.tried, kept.problem = url, text, at if text else None, 0, ""
    _told(session, "calendar set", schedule, actor, before, _source(kept))


def link(session: Session, schedule: str, actor: str) -> str:
    """Give a schedule a secret address at which calendars of others read it; one it had ends. Returns the secret, which is not kept.

    Raises:
        NotFound: there is no such schedule.
    """
    _schedule(session, schedule)
    secret = secrets.token_urlsafe(32)
    _calendar(session, schedule).digest = hashlib.sha256(secret.encode()).hexdigest()
    _told(session, "calendar link made", schedule, actor, None, None)
    return secret


def unlink(session: Session, schedule: str, actor: str) -> None:
    """End the secret address of a schedule.

    Raises:
        NotFound: it has none.
    """
    kept = session.get(Calendar, schedule)
    if kept is None or not kept.digest:
        raise NotFound(f"the schedule {schedule!r} has no calendar link")
    kept.digest = ""
    _told(session, "calendar link revoked", schedule, actor, None, None)


def linked(session: Session, schedule: str, secret: str) -> bool:
    """Whether this is the secret of a schedule's address."""
    kept = session.get(Calendar, schedule)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return kept is not None and bool(kept.digest) and secrets.compare_digest(kept.digest, digest)


def _possible(roster: Roster, name: str, plan: Plan, connectors: Mapping[str, Connector]) -> None:
    if isinstance(plan, Team):
        _known(roster, plan.members)
        _there("schedule", plan.schedules, roster.all(Schedule))
    elif isinstance(plan, Person):
        _known(roster, [name])
        for contact in plan.contacts:
            call_of(contact, connectors, dict.fromkeys(("title", "body", "incident", "severity", "entity", "person", "url"), "test"))
    elif isinstance(plan, Schedule):
        _known(roster, [person for layer in plan.layers for person in layer.people])
    elif isinstance(plan, Policy):
        targets = [target for step in plan.steps for target in step.targets]
        _known(roster, [target.name for target in targets if target.kind == "person"])
        _there("schedule", [target.name for target in targets if target.kind == "schedule"], roster.all(Schedule))
        _there("team", [target.name for target in targets if target.kind == "team"], roster.all(Team))


def _needing(roster: Roster, kind: str, name: str) -> Iterable[str]:
    for other, policy in roster.all(Policy).items():
        if any(target.kind == kind and target.name == name for step in policy.steps for target in step.targets):
            yield f"policy {other}"
    if kind == "schedule":
        yield from (f"team {other}" for other, team in roster.all(Team).items() if name in team.schedules)


def _known(roster: Roster, names: Iterable[str]) -> None:
    missing = sorted(set(names) - set(roster.people()))
    if missing:
        raise BadData(f"nobody is named {', '.join(missing)}; a person is the holder of a token of at least the role viewer")


def _there(kind: str, names: Iterable[str], known: Mapping[str, Plan]) -> None:
    missing = sorted(set(names) - known.keys())
    if missing:
        raise BadData(f"there is no {kind} {', '.join(missing)}; make it first")


def _schedule(session: Session, name: str) -> Schedule:
    row = session.get(Arrangement, ("schedule", name))
    if row is None:
        raise NotFound(f"there is no schedule {name!r}")
    return Schedule.model_validate(row.body)


def _calendar(session: Session, schedule: str) -> Calendar:
    kept = session.get(Calendar, schedule)
    if kept is None:
        kept = Calendar(schedule=schedule, url="", text="", tried=0, problem="", digest="")
        session.add(kept)
    return kept


def _source(kept: Calendar) -> str:
    return "url" if kept.url else f"text of {len(kept.text)} characters" if kept.text else "none"


def _shown(override: Override) -> dict[str, Any]:
    return {"person": override.person, "starts": iso(override.starts), "ends": iso(override.ends), "reason": override.reason}


def _names(body: Mapping[str, Any] | None) -> Any:
    return body and {"contacts": [f"{each['name']}: {each['uses']}, after {each['after_s']} s" for each in body["contacts"]]}


def _told(session: Session, what: str, name: str, actor: str, before: Any, after: Any) -> None:
    session.add(Audit(actor=actor, action=what, target=name, detail={"before": before, "after": after}))
    session.add(Outbox(topic="oncall", kind="changed", key=name, data={"title": f"{what.capitalize()}: {name}", "actor": actor}))


def remaining(session: Session, schedule: str, at: int) -> list[Override]:
    """The overrides of a schedule that are not over at a time (ns)."""
    wanted = select(Override).where(Override.schedule == schedule, Override.ends > at)
    return list(session.scalars(wanted.order_by(Override.starts, Override.id)))
