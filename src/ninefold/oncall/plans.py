"""What people arrange: teams, how persons are reached, schedules, escalation policies. Each is kept as plain JSON of its model."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from ninefold.ground.errors import BadData
from ninefold.model.matcher import Matcher, checked
from ninefold.oncall.recurrence import rule_of
from ninefold.plugin import Strict

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,79}$"
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_LONGEST_S = 7 * 86_400
Day = Literal["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


class Plan(Strict):
    """The parent of what is arranged; `kind` is the word by which it is kept."""

    kind: ClassVar[str]


class Condition(Strict):
    """A condition on an incident's entity, severity, title, or team."""

    name: Literal["entity", "severity", "title", "team"]
    op: Literal["=", "!=", "=~", "!~"] = "="
    value: str = Field(max_length=1000)

    @model_validator(mode="after")
    def _readable(self) -> Self:
        try:
            self.matcher()
        except BadData as error:
            raise ValueError(str(error)) from error
        return self

    def matcher(self) -> Matcher:
        """The same as a matcher."""
        return Matcher(self.name, self.op, self.value)


class Team(Plan):
    """People who answer for something together."""

    kind = "team"
    title: str = Field("", max_length=200)
    members: tuple[str, ...] = Field((), max_length=200, description="Names of tokens.")
    schedules: tuple[str, ...] = Field((), max_length=50, description="Who of the team is on call.")
    matchers: tuple[Condition, ...] = Field(
        (), max_length=50, description="The incidents that are the team's when they open: all must hold."
    )

    @field_validator("matchers")
    @classmethod
    def _useful(cls, matchers: tuple[Condition, ...]) -> tuple[Condition, ...]:
        if any(condition.name == "team" for condition in matchers):
            raise ValueError("a team is found by entity, severity or title, not by team")
        try:
            checked([condition.matcher() for condition in matchers]) if matchers else None
        except BadData as error:
            raise ValueError(str(error)) from error
        return matchers


class Contact(Strict):
    """One way to reach a person: an action of a connector."""

    name: str = Field(pattern=NAME_PATTERN, description="What it is called, e.g. phone.")
    uses: str = Field(pattern=r"^[^.\s]+\.[^.\s]+$", description="connector.action, e.g. anna_phone.send.")
    ask: dict[str, Any] = Field(
        default_factory=dict,
        description="What the action is asked; in texts {title}, {body}, {incident}, {severity}, {entity}, {person} and {url} are "
        "filled in. Left out for actions that take a title and a body.",
    )
    after_s: int = Field(0, ge=0, le=3600, description="How long after the first of this person's pages this one is sent.")


class Person(Plan):
    """How a user of Ninefold is reached."""

    kind = "person"
    contacts: tuple[Contact, ...] = Field((), max_length=10)

    @field_validator("contacts")
    @classmethod
    def _distinct(cls, contacts: tuple[Contact, ...]) -> tuple[Contact, ...]:
        if len({contact.name for contact in contacts}) < len(contacts):
            raise ValueError("two contact methods have the same name")
        return contacts


class Restriction(Strict):
    """Hours of the wall clock; they reach into the next day when they end no later than they start."""

    days: tuple[Day, ...] = Field((), description="On which they start; every day when empty.")
    starts: str = Field("00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")
    ends: str = Field("00:00", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")


class Layer(Strict):
    """People who take turns. Where a later layer of a schedule names somebody, it counts before those above it."""

    name: str = Field("", max_length=100)
    people: tuple[str, ...] = Field(min_length=1, max_length=100, description="In the order of their turns.")
    starts: str = Field(description="Date and time of the wall clock at which the first turn begins, e.g. 2026-01-05T09:00.")
    ends: str = Field("", description="When the layer is over, likewise; never when left out.")
    rrule: str = Field("", max_length=300, description="RFC 5545: when the next one takes over, e.g. FREQ=WEEKLY. Never when left out.")
    restrictions: tuple[Restriction, ...] = Field((), max_length=50, description="The hours the layer covers; all when empty.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        starts = _local(self.starts)
        if self.ends and _local(self.ends) <= starts:
            raise ValueError("a layer ends after it starts")
        if self.rrule:
            try:
                rule_of(self.rrule, starts)
            except BadData as error:
                raise ValueError(str(error)) from error
        return self

    def begins(self) -> datetime:
        """The start, by the wall clock."""
        return _local(self.starts)

    def ceases(self) -> datetime | None:
        """The end, by the wall clock."""
        return _local(self.ends) if self.ends else None


class Schedule(Plan):
    """Who is on call when. Overrides count before its calendar, that before its layers."""

    kind = "schedule"
    title: str = Field("", max_length=200)
    timezone: str = Field("UTC", max_length=100, description="Whose wall clock it follows, e.g. Europe/Berlin.")
    layers: tuple[Layer, ...] = Field((), max_length=20)

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(f"the time zone {name!r} is not known; use a name such as Europe/Berlin") from error
        return name

    @property
    def zone(self) -> ZoneInfo:
        """Its time zone."""
        return ZoneInfo(self.timezone)


class Target(Strict):
    """Whom a step pages: who is on call by a schedule, a person, or all members of a team."""

    kind: Literal["schedule", "person", "team"]
    name: str = Field(min_length=1, max_length=80)


class Step(Strict):
    """One step of an escalation."""

    after_s: int = Field(
        0, ge=0, le=_LONGEST_S, description="Seconds after the step before, for the first after the incident opened, without an answer."
    )
    targets: tuple[Target, ...] = Field(min_length=1, max_length=20)


class Policy(Plan):
    """Who is paged about an incident, and who next when nobody acknowledges."""

    kind = "policy"
    title: str = Field("", max_length=200)
    order: int = Field(100, ge=0, le=10_000, description="The first that matches counts, by this number and then by name.")
    matchers: tuple[Condition, ...] = Field((), max_length=50, description="All must hold; every incident when empty.")
    steps: tuple[Step, ...] = Field(min_length=1, max_length=20)
    wait_s: int = Field(
        300, ge=10, le=_LONGEST_S, description="How long the last step waits for an answer before all begins again or is given up."
    )
    repeat: int = Field(0, ge=0, le=20, description="How often the steps are taken again.")
    enabled: bool = True


PLANS: dict[str, type[Plan]] = {plan.kind: plan for plan in (Team, Person, Schedule, Policy)}


def _local(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?)?", text):
        raise ValueError(f"{text!r} is no date and time such as 2026-01-05T09:00; without a zone, for the schedule has one")
    found = datetime.fromisoformat(text)
    if not datetime(2000, 1, 1) <= found < datetime(2200, 1, 1) - timedelta(days=1):
        raise ValueError(f"{text!r} is not between 2000 and 2200")
    return found
