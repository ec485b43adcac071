"""A connector that does real, countable things in a folder, and what tests need to run the engine."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, SecretStr
from sqlalchemy import select

from ninefold.config import WorkflowsConfig
from ninefold.ground.clock import now
from ninefold.ground.errors import Conflict, OutcomeUnknown, Refused, Unavailable
from ninefold.ground.meter import Meter
from ninefold.plugin import Connector, Strict, action
from ninefold.store.records.base import Base, Outbox, Records
from ninefold.store.records.incidents import Incident, incident_key
from ninefold.store.records.workflows import Approval, Definition, Dispatch, Run, Step
from ninefold.workflows.engine import Workflows
from ninefold.workflows.language import parse

T = TypeVar("T")
TROUBLES: dict[str, Callable[[], Exception]] = {
    "unavailable": lambda: Unavailable("the bench is busy", 0.0),
    "lost": lambda: OutcomeUnknown("no answer of the bench"),
    "refused": lambda: Refused("the bench says no"),
    "conflict": lambda: Conflict("somebody moved the bench"),
    "defect": lambda: ZeroDivisionError("a bug in the bench"),
    "half": lambda: Refused("the bench broke on the way", carried_out=True, answer={"text": "half", "count": 7, "token": ""}),
}


class Ask(Strict):
    text: str
    troubles: list[Literal["unavailable", "lost", "refused", "conflict", "defect", "half", "slow", "pause"]] = Field(default_factory=list)
    """What happens to the first, second, … call with this text; after that it works."""


class Answer(Strict):
    text: str
    count: int
    token: str = ""


class Bench(Connector):
    """Appends a line to a file for everything that is really carried out."""

    kind: ClassVar[str] = "bench"

    class Config(Strict):
        folder: Path
        key: SecretStr = SecretStr("bench-secret-key")

    def __init__(self, config: Bench.Config) -> None:
        super().__init__(config)
        self._calls: Counter[str] = Counter()

    async def _do(self, verb: str, ask: Ask) -> Answer:
        self._calls[ask.text] += 1
        number = self._calls[ask.text]
        trouble = ask.troubles[number - 1] if number <= len(ask.troubles) else ""
        if trouble in TROUBLES and trouble not in ("lost", "half"):
            raise TROUBLES[trouble]()
        with (self.config.folder / "done.log").open("a") as log:
            log.write(f"{verb} {ask.text}\n")
            log.flush()
            os.fsync(log.fileno())
        if trouble in ("lost", "half"):
            raise TROUBLES[trouble]()
        if trouble in ("slow", "pause"):
            await asyncio.sleep(60 if trouble == "slow" else 0.4)
        return Answer(text=f"{ask.text} with {self.config.key.get_secret_value()}", count=number, token="t0p")

    @action(risk="read")
    async def look(self, ask: Ask) -> Answer:
        """Read."""
        return await self._do("look", ask)

    @action(risk="write", idempotent=True)
    async def put(self, ask: Ask) -> Answer:
        """Write, repeatable."""
        return await self._do("put", ask)

    @action(risk="write")
    async def note(self, ask: Ask) -> Answer:
        """Write, not repeatable."""
        return await self._do("note", ask)

    @action(risk="dangerous")
    async def blow(self, ask: Ask) -> Answer:
        """Dangerous."""
        return await self._do("blow", ask)


class Workshop:
    """A records database, a bench and engines to run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = Records(f"sqlite:///{folder / 'records.db'}")
        Base.metadata.create_all(self.records.engine)
        self.meter = Meter()
        self.connectors: dict[str, Connector] = {"bench": Bench(Bench.Config(folder=folder))}

    def engine(self, *texts: str, enabled: bool = True, max_runs: int = 20, new: bool = False) -> Workflows:
        """An engine; its workflows have been there from the beginning, unless they are `new`."""
        config = WorkflowsConfig(enabled=enabled, max_runs=max_runs)
        workflows = [parse(text) for text in texts]
        with self.records.session() as session:
            for workflow in [] if new else workflows:
                if session.scalar(select(Definition.digest).where(Definition.workflow == workflow.name).limit(1)) is None:
                    session.add(Definition(digest=workflow.digest, workflow=workflow.name, source=workflow.source, since=0))
        return Workflows(self.records, self.connectors, workflows, config, self.meter)

    @asynccontextmanager
    async def running(self, *texts: str, **options: Any) -> AsyncIterator[Workflows]:
        """An engine at work; stopped in good order at the end."""
        engine = self.engine(*texts, **options)
        task = asyncio.create_task(engine.run())
        try:
            yield engine
            if task.done():
                task.result()
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def incident(self, kind: str = "opened", *, age_s: float = 0.0, number: int | None = None, **fields: Any) -> int:
        """A change of a new (or known) incident, as the incidents' part writes it: one transaction with its outbox row."""
        time = now() - int(age_s * 1e9)
        with self.records.session() as session:
            if number is None:
                known = {"title": "checkout is slow", "severity": "critical", "entity": "service:checkout", **fields}
                incident = Incident(opened=time, first_event=time, last_event=time, alerts=3, entities=2, **known)
                session.add(incident)
                session.flush()
                number = incident.id
            session.add(Outbox(time=time, topic="incident", kind=kind, key=incident_key(number), data={"incident": incident_key(number)}))
            return number

    def rows(self, table: type[T], *conditions: Any) -> list[T]:
        with self.records.reading() as session:
            return list(session.scalars(select(table).where(*conditions).order_by(*table.__table__.primary_key)))  # type: ignore[attr-defined]

    def runs(self) -> list[Run]:
        return self.rows(Run)

    def steps(self, run: int = 1) -> dict[str, Step]:
        return {step.id: step for step in self.rows(Step, Step.run == run)}

    def verdicts(self) -> list[tuple[str, str, str]]:
        return [(row.workflow, row.verdict, row.reason) for row in self.rows(Dispatch)]

    def waiting(self) -> list[Approval]:
        return self.rows(Approval, Approval.status == "waiting")

    def done(self) -> list[str]:
        """What was really carried out, in order."""
        path = self.folder / "done.log"
        return path.read_text().splitlines() if path.exists() else []

    def told(self) -> list[tuple[str, str]]:
        return [(row.topic, row.kind) for row in self.rows(Outbox) if row.topic != "incident"]


async def until(what: Callable[[], T], timeout_s: float = 20.0) -> T:
    """Wait until `what` yields something true."""
    async with asyncio.timeout(timeout_s):
        while not (found := await asyncio.to_thread(what)):  # noqa: ASYNC110 - what is waited for is another process's doing
            await asyncio.sleep(0.02)
    return found


def finished(shop: Workshop, count: int = 1) -> Callable[[], list[Run]]:
    """All runs, once `count` of them are over."""

    def look() -> list[Run]:
        runs = shop.runs()
        over = [run for run in runs if run.finished is not None]
        return runs if len(over) >= count else []

    return look


def workflow(steps: str, name: str = "flow", mode: str = "auto", on: str = "[opened]", extra: str = "") -> str:
    """The text of a workflow with these steps (YAML list items)."""
    return f"name: {name}\nmode: {mode}\ntrigger: {{incident: {{on: {on}}}}}\n{extra}\nsteps:\n{steps}\n"
