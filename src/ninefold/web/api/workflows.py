"""Workflows, their runs, and the approvals people give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ninefold.ground.clock import iso
from ninefold.ground.errors import NotFound, Refused
from ninefold.store.records.incidents import Incident, incident_key, incident_number
from ninefold.store.records.workflows import Approval, Run, Step
from ninefold.web.auth import AUDITED, Operator, Viewer
from ninefold.web.state import TheApp
from ninefold.workflows.binding import bind, risk_of
from ninefold.workflows.engine import Workflows
from ninefold.workflows.language import Workflow

router = APIRouter(tags=["workflows"])
RunStatus = Literal["queued", "running", "waiting", "succeeded", "failed", "rejected", "cancelled"]
ApprovalStatus = Literal["waiting", "approved", "rejected", "skipped", "expired", "cancelled"]
Id = Annotated[int, Path(ge=1, lt=2**63)]
Limit = Annotated[int, Query(ge=1, le=1000)]
_COUNTED = ("succeeded", "failed", "waiting")


class StepInfo(BaseModel):
    """A step as it is written; the risk is "" when its connector is not configured."""

    id: str
    uses: str
    risk: str


class RunCounts(BaseModel):
    """Runs by how they stand."""

    succeeded: int = 0
    failed: int = 0
    waiting: int = 0


class WorkflowInfo(BaseModel):
    """A workflow and how it has done so far."""

    name: str
    description: str
    enabled: bool
    mode: str
    trigger: str
    steps: list[StepInfo]
    runs: RunCounts
    last_run: str | None
    problem: str = Field(description='Why it cannot run, "" when it can.')


class WorkflowList(BaseModel):
    """All workflows."""

    items: list[WorkflowInfo]
    stopped: str = Field(description='Why nothing starts at all, "" when it does.')


class StepRun(BaseModel):
    """A step of a run; one that was taken back has a second entry, `<id>.rollback`."""

    id: str
    uses: str
    risk: str
    status: str
    started: str | None
    finished: str | None
    attempts: int
    input: dict[str, Any]
    output: dict[str, Any] | None
    error: str


class RunInfo(BaseModel):
    """A run. `started` is when it was queued while it has not started."""

    id: int
    workflow: str
    incident: str | None
    status: RunStatus
    started: str
    finished: str | None
    trigger: str
    error: str
    steps: list[StepRun]


class RunList(BaseModel):
    """Runs, newest first."""

    items: list[RunInfo]


class ApprovalInfo(BaseModel):
    """A question to a person; `ask` is exactly what will be sent."""

    id: int
    run: int
    workflow: str
    step: str
    kind: Literal["step", "run", "unknown"]
    incident: str | None
    incident_title: str
    uses: str
    risk: str
    role: str
    question: str
    ask: dict[str, Any]
    requested: str
    expires: str | None
    decided: str | None
    status: ApprovalStatus
    actor: str
    note: str


class ApprovalList(BaseModel):
    """Approvals, newest first."""

    items: list[ApprovalInfo]


class StartRun(BaseModel):
    """The incident a run is for, if any."""

    incident: str | None = Field(None, max_length=40, description="INC-12")


class Answer(BaseModel):
    """A decision; skip goes on without a step whose outcome is unknown."""

    decision: Literal["approve", "reject", "skip"]
    note: str = Field("", max_length=2000)


class Stop(BaseModel):
    """Why everything is stopped."""

    reason: str = Field("", max_length=500)


@router.get("/workflows")
def workflows(actor: Viewer, app: TheApp) -> WorkflowList:
    """All workflows with what their runs came to."""
    counts: dict[str, dict[str, int]] = {}
    with app.records.reading() as session:
        for name, status, count in session.execute(select(Run.workflow, Run.status, func.count()).group_by(Run.workflow, Run.status)):
            counts.setdefault(name, {})[status] = count
        last = dict(session.execute(select(Run.workflow, func.max(Run.created)).group_by(Run.workflow)).all())
    items = [
        WorkflowInfo(
            name=name,
            description=workflow.description,
            enabled=workflow.enabled,
            mode=workflow.mode,
            trigger=_trigger(workflow),
            steps=[
                StepInfo(id=step.id, uses=step.uses, risk=_risk(app.workflows, workflow, number))
                for number, step in enumerate(workflow.steps)
            ],
            runs=RunCounts(**{status: counts.get(name, {}).get(status, 0) for status in _COUNTED}),
            last_run=iso(last[name]) if name in last else None,
            problem=app.workflows.problems.get(name, ""),
        )
        for name, workflow in app.workflows.workflows.items()
    ]
    return WorkflowList(items=items, stopped=app.workflows.stopped())


@router.post("/workflows/stop", status_code=204, dependencies=[AUDITED])
def stop(wanted: Stop, actor: Operator, app: TheApp) -> None:
    """The global stop: no run starts and no further step begins, until it is lifted; it outlives a restart."""
    app.workflows.stop(f"stopped by {actor.name}" + (f": {wanted.reason}" if wanted.reason else ""), actor.name)


@router.delete("/workflows/stop", status_code=204, dependencies=[AUDITED])
def lift_stop(actor: Operator, app: TheApp) -> None:
    """Lift the global stop; one in the configuration stays."""
    app.workflows.stop("", actor.name)


@router.post("/workflows/{name}/run", status_code=201, dependencies=[AUDITED])
def run_workflow(name: str, wanted: StartRun, actor: Operator, app: TheApp) -> RunInfo:
    """Start a workflow by hand; cool-downs and caps do not hold a person back; the global stop and `mode: observe` do."""
    number = incident_number(wanted.incident) if wanted.incident else None
    started = app.workflows.start(name, number, actor.name)
    return _run(app, started)


@router.get("/runs")
def runs(
    actor: Viewer,
    app: TheApp,
    workflow: str | None = None,
    incident: str | None = None,
    status: RunStatus | None = None,
    limit: Limit = 100,
) -> RunList:
    """Runs, newest first."""
    wanted = select(Run).order_by(Run.id.desc()).limit(limit)
    if workflow is not None:
        wanted = wanted.where(Run.workflow == workflow)
    if incident is not None:
        wanted = wanted.where(Run.incident == incident_number(incident))
    if status is not None:
        wanted = wanted.where(Run.status == status)
    with app.records.reading() as session:
        return RunList(items=run_infos(session, session.scalars(wanted).all()))


@router.get("/runs/{run}")
def run(run: Id, actor: Viewer, app: TheApp) -> RunInfo:
    """A run with its steps, their inputs and their results."""
    return _run(app, run)


@router.post("/runs/{run}/cancel", dependencies=[AUDITED])
def cancel_run(run: Id, actor: Operator, app: TheApp) -> RunInfo:
    """End a run; an action already sent is not called back."""
    app.workflows.cancel(run, actor.name)
    return _run(app, run)


@router.get("/approvals")
def approvals(actor: Viewer, app: TheApp, status: ApprovalStatus | None = None, limit: Limit = 100) -> ApprovalList:
    """Approvals, newest first."""
    wanted = select(Approval).order_by(Approval.id.desc()).limit(limit)
    if status is not None:
        wanted = wanted.where(Approval.status == status)
    with app.records.reading() as session:
        return ApprovalList(items=approval_infos(session, session.scalars(wanted).all()))


@router.post("/approvals/{approval}", dependencies=[AUDITED])
def decide(approval: Id, answer: Answer, actor: Operator, app: TheApp) -> ApprovalInfo:
    """Answer an approval; exactly one answer is taken, a second one is a conflict."""
    app.workflows.decide(approval, answer.decision, actor.name, actor.role, answer.note)
    with app.records.reading() as session:
        return approval_infos(session, [session.get_one(Approval, approval)])[0]


def runs_of(session: Session, incident: int) -> list[RunInfo]:
    """The runs of an incident, newest first."""
    return run_infos(session, session.scalars(select(Run).where(Run.incident == incident).order_by(Run.id.desc()).limit(100)).all())


def approvals_of(session: Session, incident: int) -> list[ApprovalInfo]:
    """The approvals of an incident, newest first."""
    found = session.scalars(select(Approval).where(Approval.incident == incident).order_by(Approval.id.desc()).limit(100)).all()
    return approval_infos(session, found)


def run_infos(session: Session, rows: Iterable[Run]) -> list[RunInfo]:
    """Runs in the API's form, with their steps."""
    found = list(rows)
    steps: dict[int, list[StepRun]] = {}
    for step in session.scalars(select(Step).where(Step.run.in_([row.id for row in found])).order_by(Step.run, Step.number)):
        steps.setdefault(step.run, []).append(_step(step))
    return [
        RunInfo(
            id=row.id,
            workflow=row.workflow,
            incident=incident_key(row.incident) if row.incident is not None else None,
            status=row.status,
            started=iso(row.started or row.created),
            finished=_time(row.finished),
            trigger=row.trigger,
            error=row.error,
            steps=steps.get(row.id, []),
        )
        for row in found
    ]


def approval_infos(session: Session, rows: Iterable[Approval]) -> list[ApprovalInfo]:
    """Approvals in the API's form, with their incidents' titles."""
    found = list(rows)
    numbers = {row.incident for row in found if row.incident is not None}
    titles = dict(session.execute(select(Incident.id, Incident.title).where(Incident.id.in_(numbers))).all())
    return [
        ApprovalInfo(
            id=row.id,
            run=row.run,
            workflow=row.workflow,
            step=row.step,
            kind=row.kind,
            incident=incident_key(row.incident) if row.incident is not None else None,
            incident_title=titles.get(row.incident, "") if row.incident is not None else "",
            uses=row.uses,
            risk=row.risk,
            role=row.role,
            question=row.question,
            ask=row.ask,
            requested=iso(row.requested),
            expires=_time(row.expires),
            decided=_time(row.decided),
            status=row.status,
            actor=row.actor,
            note=row.note,
        )
        for row in found
    ]


def _run(app: TheApp, number: int) -> RunInfo:
    with app.records.reading() as session:
        row = session.get(Run, number)
        if row is None:
            raise NotFound(f"there is no run {number}")
        return run_infos(session, [row])[0]


def _step(row: Step) -> StepRun:
    return StepRun(
        id=row.id,
        uses=row.uses,
        risk=row.risk,
        status=row.status,
        started=_time(row.started),
        finished=_time(row.finished),
        attempts=row.attempts,
        input=row.input,
        output=row.output,
        error=row.error,
    )


def _time(time: int | None) -> str | None:
    return iso(time) if time is not None else None


def _trigger(workflow: Workflow) -> str:
    trigger = workflow.trigger.incident
    if trigger is None:
        return "started by a person"
    condition = "" if trigger.when == "true" else f" when {trigger.when}"
    return f"incident {', '.join(trigger.on)}{condition}"


def _risk(engine: Workflows, workflow: Workflow, number: int) -> str:
    step = workflow.steps[number]
    try:
        return risk_of(step, bind(step.uses, engine.connectors))
    except Refused:
        return ""
