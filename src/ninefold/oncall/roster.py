"""What was arranged, as of one transaction: who is on call, whose an incident is, which policy it follows, who a step means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.ground.clock import MINUTE
from ninefold.ground.errors import BadData
from ninefold.oncall import calendar, rotation
from ninefold.oncall.plans import PLANS, Condition, Person, Plan, Policy, Schedule, Target, Team
from ninefold.oncall.rotation import Shift
from ninefold.store.records.access import ROLES, Token
from ninefold.store.records.incidents import Incident
from ninefold.store.records.oncall import Arrangement, Calendar, Override

Some = TypeVar("Some", bound=Plan)


@dataclass(frozen=True, slots=True)
class Times:
    """A schedule between two times: who is on call, and what of its calendar could not be used."""

    shifts: list[Shift]
    problems: list[str]


class Roster:
    """Reads the arrangements once; cheap, for there are few.

    Args:
        session: the transaction.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._plans: dict[tuple[str, str], Plan] = {
            (row.kind, row.name): PLANS[row.kind].model_validate(row.body)
            for row in session.scalars(select(Arrangement).order_by(Arrangement.kind, Arrangement.name))
        }

    def all(self, kind: type[Some]) -> dict[str, Some]:
        """Everything of a kind by name."""
        return {name: plan for (_, name), plan in self._plans.items() if isinstance(plan, kind)}

    def people(self) -> list[str]:
        """Those who can be put on call: holders of tokens that may look, and whoever has contact methods."""
        holders = self._session.scalars(select(Token.name).where(Token.revoked.is_(None), Token.role.in_(ROLES[1:])))
        return sorted({*holders, *self.all(Person)})

    def times(self, name: str, start: int, end: int) -> Times:
        """A schedule between two times (ns); one that does not exist has no shifts."""
        schedule = self.all(Schedule).get(name)
        if schedule is None:
            return Times([], [f"there is no schedule {name!r}"])
        found = calendar.Found([], [])
        kept = self._session.get(Calendar, name)
        if kept is not None and kept.text:
            try:
                found = calendar.read(kept.text, self.people(), schedule.zone, start, end)
            except BadData as error:
                found.problems.append(str(error))
        if kept is not None and kept.problem:
            found.problems.append(kept.problem)
        standing_in = select(Override).where(Override.schedule == name, Override.ends > start, Override.starts < end).order_by(Override.id)
        overrides = [Shift(each.starts, each.ends, each.person, "override") for each in self._session.scalars(standing_in)]
        return Times(rotation.shifts(schedule, start, end, found.shifts, overrides), found.problems)

    def on_call(self, name: str, at: int) -> list[str]:
        """Who is on call by a schedule at a time (ns)."""
        return list(dict.fromkeys(shift.person for shift in rotation.on_call(self.times(name, at, at + MINUTE).shifts, at)))

    def meant(self, targets: Iterable[Target], at: int) -> dict[str, str]:
        """The people some targets mean at a time (ns), each with the reason."""
        found: dict[str, str] = {}
        teams = self.all(Team)
        for target in targets:
            if target.kind == "person":
                found.setdefault(target.name, "named by the policy")
            elif target.kind == "schedule":
                for person in self.on_call(target.name, at):
                    found.setdefault(person, f"on call by schedule {target.name}")
            elif target.name in teams:
                for person in teams[target.name].members:
                    found.setdefault(person, f"member of team {target.name}")
        return found

    def teams_of(self, incident: Incident) -> list[str]:
        """The teams whose conditions an incident meets."""
        labels = _labels(incident)
        return [name for name, team in self.all(Team).items() if team.matchers and _hold(team.matchers, labels)]

    def policy_of(self, incident: Incident) -> tuple[str, Policy] | None:
        """The policy an incident follows, with its name; None when none matches."""
        labels = _labels(incident)
        variants = [{**labels, "team": team} for team in incident.teams or [""]]
        for name, policy in sorted(self.all(Policy).items(), key=lambda item: (item[1].order, item[0])):
            if policy.enabled and any(_hold(policy.matchers, each) for each in variants):
                return name, policy
        return None


def _labels(incident: Incident) -> dict[str, str]:
    return {"entity": incident.entity, "severity": incident.severity, "title": incident.title}


def _hold(conditions: Sequence[Condition], labels: Mapping[str, str]) -> bool:
    return all(condition.matcher().holds(labels.get(condition.name, "")) for condition in conditions)
