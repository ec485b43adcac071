"""Rules for alerts, heartbeats and inhibitions: those of the configuration, and before them those people saved."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from ninefold.config import AlertRule, AlertsConfig, HeartbeatConfig, Inhibition
from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import Conflict, NotFound, Refused
from ninefold.ground.log import get
from ninefold.incidents.condition import Limits
from ninefold.model.matcher import Finder, Matcher
from ninefold.store.records.alerts import AlertSetting
from ninefold.store.records.base import Audit, Records

Json = dict[str, Any]
_log = get("incidents")
Asked = AlertRule | HeartbeatConfig | Inhibition
RULE, HEARTBEAT, INHIBITION = "rule", "heartbeat", "inhibition"
FLAPPING_WITHIN_S = 600.0


class Rules:
    """What is asked of alerts.

    Args:
        records: where people's rules are saved.
        config: those of the configuration; they cannot be changed here.
    """

    def __init__(self, records: Records, config: AlertsConfig) -> None:
        self._records, self._config = records, config
        self._lock = threading.Lock()
        self._stale = True
        self._version = 0
        self.heartbeats: dict[str, HeartbeatConfig] = {}
        self.inhibitions: dict[str, Inhibition] = {}
        self._rules: list[tuple[str, AlertRule]] = []
        self._finder: Finder[int] = Finder({})
        self._limits: dict[tuple[int, ...], Limits] = {}

    def read(self, session: Session) -> int:
        """Take over what was changed; returns a number that is another then."""
        with self._lock:
            if self._stale:
                self._stale = False  # first: who saves one from now on says so again
                try:
                    rules, self.heartbeats, self.inhibitions = _all(session, self._config)
                except BaseException:
                    self._stale = True
                    raise
                self._rules = list(rules.items())
                self._finder = Finder({place: parsed(rule.matchers) for place, (_, rule) in enumerate(self._rules)})
                self._limits = {}
                self._version += 1
        return self._version

    @property
    def some(self) -> bool:
        """Whether anything is asked of any alert."""
        return bool(self._rules)

    def limits(self, labels: Sequence[Mapping[str, str]]) -> list[Limits]:
        """What is asked of alerts with these labels; of each setting, what the first rule that fits says."""
        return [self._joined(tuple(places)) for places in self._finder.find(labels)]

    def _joined(self, places: tuple[int, ...]) -> Limits:
        if not places:
            return DEFAULT
        found = self._limits.get(places)
        if found is None:
            found = self._limits[places] = limits_of([self._rules[place] for place in places])
        return found

    def save(self, kind: str, name: str, body: Asked, actor: str, version: int | None) -> Json:
        """Save a rule, a heartbeat or an inhibition; returns it in the API's form.

        Raises:
            Refused: the configuration has one of this name.
            Conflict: `version` is given and somebody changed it since.
        """
        self._ours(kind, name)
        after = body.model_dump(mode="json", exclude_none=True)
        with self._records.session() as session:
            row = session.get(AlertSetting, (kind, name))
            if version is not None and version != (row.version if row else 0):
                raise Conflict(f"the {kind} {name} was changed by somebody else; reread it and decide again")
            before = row.body if row else None
            if row is None:
                row = AlertSetting(kind=kind, name=name, body=after, author=actor)
                session.add(row)
            else:
                row.body, row.author, row.changed = after, actor, now()
            _told(session, kind, "changed" if before else "made", name, actor, before, after)
            session.flush()
            shown = _shown(row)
        self._stale = True
        return shown

    def remove(self, kind: str, name: str, actor: str) -> None:
        """Take a rule, a heartbeat or an inhibition away.

        Raises:
            NotFound: nobody saved one of this name.
            Refused: it is in the configuration.
        """
        self._ours(kind, name)
        with self._records.session() as session:
            row = session.get(AlertSetting, (kind, name))
            if row is None:
                raise NotFound(f"there is no {kind} {name!r}")
            session.delete(row)
            _told(session, kind, "removed", name, actor, row.body, None)
        self._stale = True

    def _ours(self, kind: str, name: str) -> None:
        if name in self._configured(kind):
            raise Refused(f"the {kind} {name} is in the configuration; change it there, or save one of another name")

    def _configured(self, kind: str) -> Mapping[str, Asked]:
        ours: Mapping[str, Mapping[str, Asked]] = {
            RULE: self._config.rules, HEARTBEAT: self._config.heartbeats, INHIBITION: self._config.inhibitions,
        }  # fmt: skip
        return ours[kind]

    def listed(self, session: Session, kind: str) -> list[Json]:
        """All of a kind in the API's form, in the order in which they are asked."""
        saved = session.scalars(select(AlertSetting).where(AlertSetting.kind == kind).order_by(AlertSetting.name))
        return [
            *map(_shown, saved),
            *({"name": name, "origin": "configuration", "author": "", "version": 0, **one.model_dump(mode="json", exclude_none=True)}
              for name, one in self._configured(kind).items()),
        ]  # fmt: skip


def _shown(row: AlertSetting) -> Json:
    return {"name": row.name, "origin": "saved", "author": row.author, "version": row.version, **row.body}


def limits_of(rules: Sequence[tuple[str, AlertRule]]) -> Limits:
    """What rules, the first one first, ask together."""

    def first(name: str, default: float) -> float:
        return next((value for _, rule in rules if (value := getattr(rule, name)) is not None), default)

    def ns(name: str, default: float = 0.0) -> int:
        return int(first(name, default) * SECOND)

    return Limits(
        hold=ns("for_s"), keep=ns("keep_firing_for_s"), samples=int(first("samples", 1)), samples_within=ns("samples_within_s"),
        flapping=int(first("flapping", 0)), flapping_within=ns("flapping_within_s", FLAPPING_WITHIN_S),
        expire=ns("expire_after_s"), by=" and ".join(f"the rule {name}" for name, _ in rules),
    )  # fmt: skip


def parsed(matchers: Sequence[str]) -> list[Matcher]:
    """Matchers of what is written."""
    return [Matcher.parse(text) for text in matchers]


def _all(session: Session, config: AlertsConfig) -> tuple[dict[str, AlertRule], dict[str, HeartbeatConfig], dict[str, Inhibition]]:
    rules: dict[str, AlertRule] = {}
    heartbeats: dict[str, HeartbeatConfig] = {}
    inhibitions: dict[str, Inhibition] = {}
    for row in session.scalars(select(AlertSetting).order_by(AlertSetting.name)):
        try:
            if row.kind == RULE:
                rules[row.name] = AlertRule.model_validate(row.body)
            elif row.kind == INHIBITION:
                inhibitions[row.name] = Inhibition.model_validate(row.body)
            else:
                heartbeats[row.name] = HeartbeatConfig.model_validate(row.body)
        except ValidationError as error:
            _log.error("the saved %s %s cannot be read and is not asked; save it again: %s", row.kind, row.name, error)
    return rules | config.rules, heartbeats | config.heartbeats, inhibitions | config.inhibitions


def _told(session: Session, kind: str, verb: str, name: str, actor: str, before: Json | None, after: Json | None) -> None:
    what = "alert rule" if kind == RULE else kind
    session.add(Audit(actor=actor, action=f"{what} {verb}", target=name, detail={"before": before, "after": after}))


DEFAULT = limits_of([])
