"""An on-call room with a clock of its own, over a database and pagers that write down what really reached somebody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SecretStr
from sqlalchemy import select

from ninefold.config import OnCallConfig
from ninefold.ground.clock import SECOND
from ninefold.ground.errors import OutcomeUnknown, Refused, Unavailable
from ninefold.ground.meter import Meter
from ninefold.oncall import OnCall
from ninefold.oncall.arranging import save
from ninefold.oncall.plans import PLANS
from ninefold.plugin import Connector, Strict, action
from ninefold.store.records.access import create_token
from ninefold.store.records.base import Base, Outbox, Records
from ninefold.store.records.incidents import Incident, Ledger, incident_key
from ninefold.store.records.oncall import Escalation, Page

T0 = 1_760_000_000 * SECOND
PEOPLE = ("anna", "ben", "cleo")
MakeBoard = Callable[..., "Switchboard"]


class Words(Strict):
    title: str = ""
    body: str
    severity: str = "info"


class Taken(Strict):
    delivered: int = 1


class Pager(Connector):
    """Writes a line for everything that reached somebody; `trouble` says what happens instead."""

    kind: ClassVar[str] = "notify"

    class Config(Strict):
        folder: Path
        name: str
        trouble: str = ""
        key: SecretStr = SecretStr("pager-secret-key")

    def __init__(self, config: Pager.Config) -> None:
        super().__init__(config)
        self.trouble = config.trouble

    async def _do(self, ask: Words) -> Taken:
        if self.trouble == "down":
            raise Unavailable("the pager is down: pager-secret-key")
        if self.trouble == "no":
            raise Refused("the number is not in service")
        with (self.config.folder / "reached.log").open("a") as log:
            log.write(f"{self.config.name} {ask.title}\n")
            log.flush()
            os.fsync(log.fileno())
        if self.trouble == "lost":
            raise OutcomeUnknown("no answer")
        if self.trouble == "pause":
            await asyncio.sleep(20)
        return Taken()

    @action(risk="write")
    async def send(self, ask: Words) -> Taken:
        """Send."""
        return await self._do(ask)

    @action(risk="write", idempotent=True)
    async def put(self, ask: Words) -> Taken:
        """Send, repeatable."""
        return await self._do(ask)

    @action(risk="dangerous")
    async def blow(self, ask: Words) -> Taken:
        """Dangerous."""
        return await self._do(ask)


class Switchboard:
    """`anna`, `ben` and `cleo` have a pager each; `turn` is one look of the room, with what it sends."""

    def __init__(self, folder: Path, fresh: bool = True, **troubles: str) -> None:
        self.folder, self.at = folder, T0
        self.records = Records(f"sqlite:///{folder}/records.db")
        names = (*PEOPLE, "office")
        self.pagers = {name: Pager(Pager.Config(folder=folder, name=name, trouble=troubles.get(name, ""))) for name in names}
        if fresh:
            Base.metadata.create_all(self.records.engine)
            with self.records.session() as session:
                for name in PEOPLE:
                    create_token(session, name, "operator")
        self.restart()
        if fresh:
            for name in PEOPLE:
                self.save("person", name, contacts=[{"name": "pager", "uses": f"{name}.send"}])

    def restart(self, open_: bool = True) -> None:
        connectors: dict[str, Connector] = dict(self.pagers)
        hide = lambda text: str(text).replace("pager-secret-key", "•••")  # noqa: E731 - as short as it is
        config = OnCallConfig(fallback=["office"], console_url="https://ops.example.org/", calendar_hosts=["127.0.0.1"])
        self.room = OnCall(self.records, connectors, config, hide, Meter(), lambda: self.at)
        if open_:
            self.room.open()

    def save(self, kind: str, name: str, **body: Any) -> None:
        with self.records.session() as session:
            save(session, name, PLANS[kind].model_validate(body), "admin", self.pagers)

    def policy(self, *steps: dict[str, Any], name: str = "standard", **more: Any) -> None:
        self.save("policy", name, steps=list(steps), **more)

    def turn(self, after_s: float = 0) -> list[str]:
        """Look once, `after_s` later; what reached people since the beginning."""
        self.at += int(after_s * SECOND)
        for job in self.room.turn():
            asyncio.run(self.room.paging.send(job))
        return self.reached()

    def reached(self) -> list[str]:
        path = self.folder / "reached.log"
        return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []

    def incident(self, kind: str = "opened", number: int | None = None, **fields: Any) -> int:
        """A change of a new (or known) incident, as the incidents write it."""
        with self.records.session() as session:
            if number is None:
                known = {"title": "checkout is slow", "severity": "critical", "entity": "service:checkout", "last_event": self.at, **fields}
                incident = Incident(opened=self.at, first_event=self.at, alerts=3, entities=2, **known)
                session.add(incident)
                session.flush()
                number = incident.id
            else:
                incident = session.get_one(Incident, number)
                for name, value in fields.items():
                    setattr(incident, name, value)
            session.add(Outbox(time=self.at, topic="incident", kind=kind, key=incident_key(number), data={}))
            return number

    def told(self) -> list[tuple[str, str]]:
        with self.records.reading() as session:
            return [
                (row.kind, row.data["title"]) for row in session.scalars(select(Outbox).where(Outbox.topic == "page").order_by(Outbox.id))
            ]

    def pages(self) -> list[tuple[str, str]]:
        with self.records.reading() as session:
            return [(page.person, page.status) for page in session.scalars(select(Page).order_by(Page.id))]

    def escalations(self) -> list[str]:
        with self.records.reading() as session:
            return list(session.scalars(select(Escalation.status).order_by(Escalation.id)))

    def decided(self) -> list[str]:
        with self.records.reading() as session:
            return list(session.scalars(select(Ledger.text).order_by(Ledger.id)))


def person(name: str, after_s: int = 0) -> dict[str, Any]:
    """A step that pages one person."""
    return {"after_s": after_s, "targets": [{"kind": "person", "name": name}]}
