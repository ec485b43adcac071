"""Decisions of people about waiting runs, each taken exactly once, and what happens when nobody decides."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from ninefold.ground.clock import now
from ninefold.ground.errors import Conflict, NotFound, Refused
from ninefold.store.records.access import ROLES
from ninefold.store.records.base import Audit, Records
from ninefold.store.records.incidents import incident_key
from ninefold.store.records.workflows import UNFINISHED, Approval, Run
from ninefold.workflows.book import tell

Decision = Literal["approve", "reject", "skip"]
_STATUS = {"approve": "approved", "reject": "rejected", "skip": "skipped"}
_NOTE_CHARS = 2000


def decide(records: Records, approval_id: int, decision: Decision, actor: str, role: str, note: str = "") -> None:
    """Answer a question: the run goes on (approve), ends (reject), or goes on without a step whose outcome is unknown (skip).

    Raises:
        NotFound: there is no such approval.
        Refused: the role is not enough, or the question cannot be answered so.
        Conflict: somebody has answered already, or the time is over.
    """
    with records.session() as session:
        approval = session.get(Approval, approval_id)
        if approval is None:
            raise NotFound(f"there is no approval {approval_id}")
        if ROLES.index(role) < ROLES.index(approval.role):
            raise Refused(f"approval {approval_id} needs the role {approval.role}, {actor} has {role}")
        if decision == "skip" and approval.kind != "unknown":
            raise Refused("only a step whose outcome is unknown can be skipped; approve or reject this one")
        if approval.expires is not None and approval.expires <= now():
            raise Conflict(f"approval {approval_id} has expired; start the workflow again if it is still wanted")
        if not _settle(session, approval, _STATUS[decision], actor, note[:_NOTE_CHARS]):
            session.refresh(approval)
            raise Conflict(f"approval {approval_id} was already {approval.status} by {approval.actor or 'Ninefold'}")
        detail = {"run": approval.run, "workflow": approval.workflow, "step": approval.step, "note": note[:_NOTE_CHARS]}
        session.add(Audit(actor=actor, action=f"approval {_STATUS[decision]}", target=str(approval_id), detail=detail))


def expire(records: Records) -> int:
    """Close the questions whose time is over; their runs end as rejected. Returns how many."""
    due = select(Approval).where(Approval.status == "waiting", Approval.expires <= now())
    with records.reading() as session:
        if session.scalar(due.limit(1)) is None:
            return 0
    with records.session() as session:
        return sum(_settle(session, approval, "expired", "", "nobody answered in time") for approval in session.scalars(due).all())


def cancel(records: Records, run_id: int, actor: str) -> None:
    """End a run at once, as far as that is possible: an action that was already sent is not called back.

    Raises:
        NotFound: there is no such run.
        Conflict: it is over.
    """
    with records.session() as session:
        run = session.get(Run, run_id)
        if run is None:
            raise NotFound(f"there is no run {run_id}")
        if run.status not in UNFINISHED:
            raise Conflict(f"run {run_id} is over: it {run.status}")
        run.status, run.finished, run.error, run.lease_owner = "cancelled", now(), f"cancelled by {actor}", ""
        open_questions = (Approval.run == run_id, Approval.status == "waiting")
        session.execute(update(Approval).where(*open_questions).values(status="cancelled", actor=actor, decided=now()))
        detail = {"workflow": run.workflow, "incident": incident_key(run.incident) if run.incident is not None else ""}
        session.add(Audit(actor=actor, action="run cancelled", target=str(run_id), detail=detail))
        tell(session, run, "finished", f"Workflow {run.workflow} cancelled by {actor}", status="cancelled", actor=actor, severity="warning")


def _settle(session: Session, approval: Approval, status: str, actor: str, note: str) -> bool:
    """Compare-and-set: of several answers exactly one wins, on every database."""
    answer = {"status": status, "actor": actor, "note": note, "decided": now()}
    changed = session.execute(
        update(Approval).where(Approval.id == approval.id, Approval.status == "waiting").values(**answer),
        execution_options={"synchronize_session": False},
    )
    if changed.rowcount != 1:  # type: ignore[attr-defined]
        return False
    run = session.get_one(Run, approval.run)
    run.status = "queued"
    who = f"{actor} {status}" if actor else status.capitalize()
    what = f"step {approval.step} of workflow {run.workflow}" if approval.step else f"workflow {run.workflow}"
    title = f"{who}: {what}" + (f" ({note})" if note else "")
    about = {"status": status, "actor": actor, "note": note, "step": approval.step, "uses": approval.uses, "risk": approval.risk}
    tell(session, run, "decided", title, topic="approval", key=str(approval.id), **about)
    return True
