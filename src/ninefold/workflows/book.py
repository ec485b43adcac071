"""The book of runs: each method is one transaction that moves a run on and tells others by an outbox row.

Whoever works on a run holds its lease; a method called with one that is over raises `Conflict`, so that two workers (or one that was
thought dead) never write the same run.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from ninefold.ground.clock import SECOND, iso, now
from ninefold.ground.errors import Conflict, NotFound
from ninefold.plugin import Risk
from ninefold.store.records.base import Outbox, Records
from ninefold.store.records.incidents import incident_key
from ninefold.store.records.workflows import UNFINISHED, Approval, Definition, Run, Step
from ninefold.workflows.context import incident_view
from ninefold.workflows.language import Workflow, parse
from ninefold.workflows.mask import Mask
from ninefold.workflows.tickets import mirror

LEASE_S = 15.0
_PROCESS = secrets.token_hex(4)
_OUTPUT_BYTES = 256 << 10
_BODY_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Lease:
    """A run as one claim has it: a second claim of the same run, also by the same process, is another lease."""

    run: int
    owner: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a run a step stands."""

    id: str
    number: int
    uses: str
    risk: Risk


@dataclass(slots=True)
class StepState:
    """How far a step has come."""

    status: str
    output: dict[str, Any] | None = None
    error: str = ""
    sent: bool = False


@dataclass(slots=True)
class Standing:
    """A run as the book has it: `answers` holds the latest question about each step, `ending` the verdict while steps are taken back."""

    workflow: Workflow
    steps: dict[str, StepState] = field(default_factory=dict)
    answers: dict[str, Approval] = field(default_factory=dict)
    ending: dict[str, Any] | None = None


def tell(session: Session, run: Run, kind: str, title: str, *, topic: str = "run", key: str = "", **data: Any) -> None:
    """Add the outbox row of a transition. It comes back through the front door as an event of the run's incident; kind `progress` (a run
    is queued, a step begins) is only for those who watch."""
    incident = incident_key(run.incident) if run.incident is not None else ""
    about = {"incident": incident, "workflow": run.workflow, "run": run.id, "entity": run.entity, "title": title}
    session.add(Outbox(topic=topic, kind=kind, key=key or str(run.id), data=about | data))


class Book:
    """The runs of one database, as one process works on them.

    Args:
        records: the database.
        mask: takes secrets out of whatever is written.
    """

    def __init__(self, records: Records, mask: Mask) -> None:
        self._records, self.mask = records, mask
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{_PROCESS}:{secrets.token_hex(4)}"

    def claim(self, room: int, concurrency: Mapping[str, int], busy: Collection[int] = ()) -> list[tuple[Lease, float]]:
        """Take up to `room` runs that may go on now: queued ones, and those whose worker died.

        Args:
            room: how many.
            concurrency: workflow -> its limit; 1 for one that no longer exists.
            busy: runs that are left alone, because this process still works on them whatever their leases say.

        Returns:
            (lease, seconds since the run's trigger) of each.

        Raises:
            Conflict: another worker took one of them first; ask again.
        """
        with self._records.reading() as session:
            open_ = or_(Run.status == "queued", self._perhaps_dead(now()))
            if session.scalar(select(Run.id).where(open_, Run.id.not_in(busy)).limit(1)) is None:
                return []
        with self._records.session() as session:
            time = now()
            for run in session.scalars(select(Run).where(self._perhaps_dead(time), Run.id.not_in(busy))):
                if run.lease_until < time or _is_dead(run.lease_owner):
                    run.status, run.lease_owner = "queued", ""
            session.flush()
            running = {name: int(count) for name, count in session.execute(_busy())}
            queued = select(Run.workflow).where(Run.status == "queued", Run.id.not_in(busy))
            waiting = session.scalars(queued.group_by(Run.workflow).order_by(func.min(Run.id)))
            taken: list[Run] = []
            for workflow in waiting.all():
                free = min(room - len(taken), concurrency.get(workflow, 1) - running.get(workflow, 0))
                taken += session.scalars(_next(workflow, busy).limit(free)) if free > 0 else []
            for run in taken:
                run.status, run.lease_owner = "running", f"{self._owner}:{secrets.token_hex(4)}"
                run.lease_until = time + int(LEASE_S * SECOND)
                if run.started is None:
                    run.started = time
                    tell(session, run, "started", f"Workflow {run.workflow} started: {run.trigger}")
            return [(Lease(run.id, run.lease_owner), (time - run.triggered) / SECOND) for run in taken]

    def renew(self, leases: Collection[Lease]) -> set[Lease]:
        """Prolong these leases; returns those that are still held."""
        held = and_(Run.lease_owner.in_([lease.owner for lease in leases]), Run.status == "running")
        with self._records.session() as session:
            session.execute(update(Run).where(held).values(lease_until=now() + int(LEASE_S * SECOND)))
            return {Lease(run, owner) for run, owner in session.execute(select(Run.id, Run.lease_owner).where(held))}

    def release(self, lease: Lease) -> None:
        """Give a run back unfinished: the next worker goes on behind its last finished step."""
        with self._records.session() as session:
            run = self._held(session, lease)
            run.status, run.lease_owner = "queued", ""

    def load(self, lease: Lease) -> Standing:
        """How a run stands.

        Raises:
            Conflict: the lease is lost.
        """
        with self._records.reading() as session:
            run = self._held(session, lease)
            definition = session.get_one(Definition, run.digest)
            standing = Standing(_parsed(definition.source), ending=run.context.get("ending"))
            for step in session.scalars(select(Step).where(Step.run == lease.run)):
                standing.steps[step.id] = StepState(step.status, step.output, step.error, step.sent)
            for approval in session.scalars(select(Approval).where(Approval.run == lease.run).order_by(Approval.id)):
                standing.answers[approval.step] = approval
            return standing

    def view(self, lease: Lease) -> dict[str, Any]:
        """What expressions see, but for the steps: `incident` as it is now, `event`, `vars`, `run`."""
        with self._records.reading() as session:
            run = session.get_one(Run, lease.run)
            about = {"id": run.id, "workflow": run.workflow, "trigger": run.trigger, "started": iso(run.started or run.created)}
            event, variables = run.context.get("event", {}), run.context.get("vars", {})
            return {"incident": incident_view(session, run.incident), "event": event, "vars": variables, "run": about}

    def begin(self, lease: Lease, place: Place, ask: Mapping[str, Any], known: str) -> None:
        """An attempt begins: from here until its answer is written, nobody knows whether it was carried out.

        Raises:
            Conflict: the lease is lost, or the step's status is not the `known` one ("" for none yet): somebody else is at it.
        """
        with self._records.session() as session:
            run = self._held(session, lease)
            found = session.get(Step, (lease.run, place.id))
            if (found.status if found else "") != known:
                raise Conflict(f"step {place.id} is {found.status if found else 'not begun'}, not {known or 'untouched'}")
            step = self._step(session, lease.run, place)
            step.status, step.input, step.error, step.sent = "running", self.mask(dict(ask)), "", True
            step.attempts, step.started = step.attempts + 1, step.started or now()
            again = f", attempt {step.attempts}" if step.attempts > 1 else ""
            self._tell_step(session, run, "progress", place, "running", f"Workflow {run.workflow}: step {place.id} started{again}")

    def trouble(self, lease: Lease, place: Place, error: str) -> None:
        """An attempt was not carried out and is tried again."""
        with self._records.session() as session:
            self._held(session, lease)
            step = self._step(session, lease.run, place)
            step.status, step.error, step.sent = "retrying", self.mask(error), False

    def answered(self, lease: Lease, place: Place, output: Mapping[str, Any], *, done: bool) -> dict[str, Any]:
        """Write an answer; `done` ends the step, otherwise its proof is still to come. Returns the answer as kept: without secrets,
        and without its content if that is too long to keep; only this is used from now on, so a resumed run sees the same."""
        with self._records.session() as session:
            run = self._held(session, lease)
            step = self._step(session, lease.run, place)
            step.output = kept = self._kept(session, run, place, output)
            if done:
                self._close(session, run, step, place, "succeeded", "")
            else:
                step.status = "verifying"
        return kept

    def end(
        self, lease: Lease, place: Place, status: str, error: str = "", *, sent: bool = False, output: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | None:
        """A step is over: succeeded, failed, skipped or rejected; `sent` if its action was, or may have been, carried out, `output`
        what a failed one has to show for it. Returns the step's output as kept."""
        with self._records.session() as session:
            run = self._held(session, lease)
            step = self._step(session, lease.run, place)
            step.sent = sent
            if output is not None:
                step.output = self._kept(session, run, place, output)
            self._close(session, run, step, place, status, self.mask(error))
            return step.output

    def ask(self, lease: Lease, place: Place, kind: str, question: str, ask: Mapping[str, Any], *, role: str, ttl_s: float) -> None:
        """Put a question to people; the run waits and its lease ends.

        Args:
            lease: the run.
            place: its id is "" for a question about the whole run.
            kind: step, run or unknown, as in `Approval`.
            question: what it is about, for people.
            ask: exactly what will be sent.
            role: the lowest role that may answer.
            ttl_s: when the question expires.
        """
        shown, time = self.mask(dict(ask)), now()
        with self._records.session() as session:
            run = self._held(session, lease)
            if place.id:
                step = self._step(session, lease.run, place)
                step.status, step.input = ("unknown" if kind == "unknown" else "waiting"), shown
                step.error = self.mask(question) if kind == "unknown" else ""
            run.status, run.lease_owner = "waiting", ""
            approval = Approval(
                run=lease.run, step=place.id, kind=kind, workflow=run.workflow, incident=run.incident, uses=place.uses, risk=place.risk,
                role=role, question=self.mask(question), ask=shown, requested=time, expires=time + int(ttl_s * SECOND),
            )  # fmt: skip
            session.add(approval)
            session.flush()
            about = {"step": place.id, "uses": place.uses, "risk": place.risk, "status": "waiting"}
            title = f"Approval needed: {approval.question}"
            tell(session, run, "requested", title, topic="approval", key=str(approval.id), **about)

    def conclude(self, lease: Lease, status: str, error: str) -> None:
        """Write down how a run will end once its steps have been taken back."""
        with self._records.session() as session:
            run = self._held(session, lease)
            run.context = {**run.context, "ending": {"status": status, "error": self.mask(error)}}

    def finish(self, lease: Lease, status: str, error: str = "") -> None:
        """End a run."""
        with self._records.session() as session:
            run = self._held(session, lease)
            run.status, run.error, run.finished, run.lease_owner = status, self.mask(error), now(), ""
            severity = "info" if status == "succeeded" else "warning"
            title = f"Workflow {run.workflow} {status}" + (f": {run.error}" if run.error else "")
            tell(session, run, "finished", title, status=status, error=run.error, severity=severity)

    def _kept(self, session: Session, run: Run, place: Place, output: Mapping[str, Any]) -> dict[str, Any]:
        """An answer as it is kept; the ticket in it, if there is one, is the incident's from now on."""
        kept: dict[str, Any] = self.mask(dict(output))
        size = len(orjson.dumps(kept))
        if size > _OUTPUT_BYTES:
            kept = {"omitted": f"the answer had {size} bytes; {_OUTPUT_BYTES} are kept"}
        mirror(session, place.uses.partition(".")[0], run.incident, kept)
        return kept

    def _held(self, session: Session, lease: Lease) -> Run:
        run = session.get(Run, lease.run)
        if run is None:
            raise NotFound(f"there is no run {lease.run}")
        if run.lease_owner != lease.owner or run.status != "running":
            raise Conflict(f"run {lease.run} is {run.status} and not this worker's any more")
        return run

    def _step(self, session: Session, run_id: int, place: Place) -> Step:
        step = session.get(Step, (run_id, place.id))
        if step is None:
            step = Step(
                run=run_id, id=place.id, number=place.number, uses=place.uses, risk=place.risk, status="running", attempts=0, input={}
            )
            session.add(step)
        return step

    def _close(self, session: Session, run: Run, step: Step, place: Place, status: str, error: str) -> None:
        step.status, step.error, step.finished = status, error, now()
        body = orjson.dumps(step.output).decode()[:_BODY_CHARS] if step.output else ""
        title = f"Workflow {run.workflow}: step {place.id} {status}" + (f": {error}" if error else "")
        self._tell_step(session, run, "step", place, status, title, body=body, error=error)

    def _tell_step(self, session: Session, run: Run, kind: str, place: Place, status: str, title: str, **more: str) -> None:
        tell(session, run, kind, title, step=place.id, uses=place.uses, risk=place.risk, status=status, **more)

    def _perhaps_dead(self, time: int) -> ColumnElement[bool]:
        """Runs of other workers, and of this one if it has lost sight of them: a lease under work is renewed long before it ends."""
        return and_(Run.status == "running", or_(~Run.lease_owner.startswith(self._owner), Run.lease_until < time))


def _busy() -> Any:
    return select(Run.workflow, func.count()).where(Run.status == "running").group_by(Run.workflow)


def _next(workflow: str, busy: Collection[int]) -> Any:
    """Queued runs of a workflow, oldest first, but none while an older one for the same incident is unfinished."""
    older = aliased(Run)
    blocked = exists().where(
        older.workflow == Run.workflow, older.incident == Run.incident, older.id < Run.id, older.status.in_(UNFINISHED)
    )
    mine = or_(Run.incident.is_(None), ~blocked)
    return select(Run).where(Run.workflow == workflow, Run.status == "queued", Run.id.not_in(busy), mine).order_by(Run.id)


def _is_dead(owner: str) -> bool:
    """Whether a worker's process has ended, as far as this machine can tell: then nobody waits for its lease to run out."""
    host, pid, process, *_ = owner.split(":")
    if host != socket.gethostname():
        return False
    if int(pid) == os.getpid():
        return process != _PROCESS  # this process has inherited the number, as in a restarted container
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@lru_cache(maxsize=256)
def _parsed(source: str) -> Workflow:
    return parse(source)
