"""From a change of an incident to a run, or to the reason why not.

The change feed is followed from a position that is committed in the transaction of the runs it led to. For every workflow that
listens to a kind of change there is one row that says what was decided, so nothing is skipped in silence; a change without such
a row (a database whose rows appear out of order, a defect) is found again by `reconcile`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import uuid4

from sqlalchemy import exists, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import BadData, NotFound, Refused
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.store.records.base import Audit, Outbox, Position, Records, Setting
from ninefold.store.records.incidents import Incident, Ledger, incident_key, incident_number
from ninefold.store.records.workflows import Definition, Dispatch, Run
from ninefold.workflows.book import tell
from ninefold.workflows.context import event_view, incident_view
from ninefold.workflows.expression import holds, render
from ninefold.workflows.language import Workflow

READER = "workflows"
_STOP = "workflows:stop"
_ROWS = 500
_HOUR_S = 3600
_log = get("workflows")


class Dispatcher:
    """Decides about changes. Its methods block and belong in a worker thread.

    Args:
        records: the database.
        workflows: all of them, read by `language.parse`.
        problems: name -> why a workflow cannot run with the present connectors.
        enabled: False is the global stop of the configuration.
        meter: counts changes received, runs started, and changes dropped by reason.
    """

    def __init__(self, records: Records, workflows: Sequence[Workflow], problems: Mapping[str, str], enabled: bool, meter: Meter) -> None:
        self._records, self._problems, self._enabled = records, problems, enabled
        self._workflows = {workflow.name: workflow for workflow in workflows}
        self._after = self._committed = 0
        self._since: dict[str, int] = {}
        self._received = meter.counter("ninefold_workflows_received_total", "Changes that a workflow listens to.")
        self._sent = meter.counter("ninefold_workflows_sent_total", "Runs started, by workflow.")
        self._dropped = meter.counter("ninefold_workflows_dropped_total", "Changes that started nothing, by workflow and verdict.")
        self._missed = meter.counter("ninefold_workflows_reconciled_total", "Changes that were overlooked at first.")

    def open(self) -> None:
        """Read the position and write down the versions of the workflows. A new one is responsible for what comes from now on, a new
        version for what its predecessor was."""
        with self._records.session() as session:
            position = session.get(Position, READER)
            self._after = self._committed = position.position if position else 0
            last = session.scalar(select(func.max(Outbox.id))) or 0
            for workflow in self._workflows.values():
                definition = session.get(Definition, workflow.digest)
                if definition is None:
                    before = session.scalar(select(func.max(Definition.since)).where(Definition.workflow == workflow.name))
                    since = last if before is None else before
                    definition = Definition(digest=workflow.digest, workflow=workflow.name, source=workflow.source, since=since)
                    session.add(definition)
                self._since[workflow.name] = definition.since

    def keep(self) -> None:
        """Write down the position if it has moved: changes that concern no workflow move it without a transaction of their own."""
        after = self._after
        if after > self._committed:
            with self._records.session() as session:
                session.merge(Position(reader=READER, position=after))
            self._committed = after

    def stopped(self, session: Session) -> str:
        """Why nothing may start or go on, "" when it may."""
        if not self._enabled:
            return "workflows are stopped by the configuration (workflows.enabled)"
        stop = session.get(Setting, _STOP)
        return str(stop.value["reason"]) if stop and stop.value.get("reason") else ""

    def stop(self, reason: str, actor: str) -> None:
        """Set the global stop, or lift it with ""; it outlives a restart."""
        action, detail = ("workflows stopped", {"reason": reason}) if reason else ("workflows resumed", {})
        with self._records.session() as session:
            session.merge(Setting(key=_STOP, value={"reason": reason, "time": now()}))
            session.add(Audit(actor=actor, action=action, detail=detail))

    def follow(self) -> int:
        """Decide about the changes behind the position; returns the number of runs started."""
        with self._records.reading() as session:
            changes = session.scalars(select(Outbox).where(Outbox.id > self._after).order_by(Outbox.id).limit(_ROWS)).all()
        if not changes:
            return 0
        last = changes[-1].id
        pairs = [(workflow, change) for change in changes for workflow in self._workflows.values() if self._listens(workflow, change)]
        if not pairs:
            self._after = last
            return 0
        try:
            started = self._decide(pairs, last)
        except IntegrityError:
            return 0  # another process decided about the same change first; the next round sees that
        self._after = self._committed = last
        return started

    def reconcile(self) -> int:
        """Find changes of the time each workflow is responsible for that nothing was decided about, and decide; returns how many."""
        pairs: list[tuple[Workflow, Outbox]] = []
        with self._records.reading() as session:
            for workflow in self._workflows.values():
                trigger, definition = workflow.trigger.incident, session.get(Definition, workflow.digest)
                if trigger is None or definition is None:
                    continue
                decided = exists().where(Dispatch.workflow == workflow.name, Dispatch.outbox == Outbox.id)
                fresh = Outbox.time > now() - int(workflow.limits.max_age * SECOND)
                ours = (Outbox.topic == "incident", Outbox.kind.in_(trigger.on), Outbox.id > definition.since, Outbox.id <= self._after)
                pairs += [
                    (workflow, change) for change in session.scalars(select(Outbox).where(*ours, fresh, ~decided).order_by(Outbox.id))
                ]
        if pairs:
            _log.warning("%d changes had been overlooked by workflows and are decided about now", len(pairs))
            self._missed.add(len(pairs))
            self._decide(pairs, None)
        return len(pairs)

    def start(self, name: str, number: int | None, actor: str) -> int:
        """Start a run by hand; only the global stop holds it back. Returns its id.

        Raises:
            NotFound: there is no such workflow or incident.
            Refused: it is switched off, only observes, cannot work, or everything is stopped.
        """
        workflow = self._workflows.get(name)
        if workflow is None:
            raise NotFound(f"there is no workflow {name!r}")
        with self._records.session() as session:
            if number is not None and session.get(Incident, number) is None:
                raise NotFound(f"there is no incident {incident_key(number)}")
            obstacle = self._problems.get(name) or self.stopped(session) or _at_rest(workflow)
            if obstacle:
                raise Refused(f"workflow {name} cannot start: {obstacle}")
            event = Outbox(id=0, time=now(), topic="run", kind="manual", key=actor, data={"actor": actor})
            try:
                run = self._new_run(session, workflow, number, event, f"{name}:manual:{uuid4().hex}", f"started by {actor}")
            except BadData as error:
                raise Refused(f"workflow {name} cannot start: its vars cannot be filled in: {error}") from error
            self._note(session, workflow, None, number, "started", f"started by {actor}", run)
            detail = {"run": run.id, "incident": incident_key(number) if number is not None else ""}
            session.add(Audit(actor=actor, action="workflow started", target=name, detail=detail))
            return run.id

    def _listens(self, workflow: Workflow, change: Outbox) -> bool:
        trigger, mine = workflow.trigger.incident, change.id > self._since[workflow.name]
        return trigger is not None and mine and change.topic == "incident" and change.kind in trigger.on

    def _decide(self, pairs: Sequence[tuple[Workflow, Outbox]], position: int | None) -> int:
        """One transaction: a verdict for each pair not decided yet, the runs, the position."""
        started = 0
        with self._records.session() as session:
            ids = [change.id for _, change in pairs]
            done = {tuple(row) for row in session.execute(select(Dispatch.workflow, Dispatch.outbox).where(Dispatch.outbox.in_(ids)))}
            for workflow, change in pairs:
                if (workflow.name, change.id) not in done:
                    started += self._consider(session, workflow, change)
            if position is not None:
                session.merge(Position(reader=READER, position=position))
        return started

    def _consider(self, session: Session, workflow: Workflow, change: Outbox) -> bool:
        self._received.add()
        number: int | None = None
        try:
            number = incident_number(change.key)
            incident = incident_view(session, number)
            verdict, reason = self._verdict(session, workflow, change, number, incident)
            run = None
            if verdict == "started":
                run = self._new_run(session, workflow, number, change, f"{workflow.name}:{change.id}", f"{change.key} {change.kind}")
        except (BadData, NotFound) as error:
            verdict, reason, run = "skipped", f"the trigger cannot be evaluated: {error}", None
        self._note(session, workflow, change, number, verdict, reason, run)
        return run is not None

    def _verdict(
        self, session: Session, workflow: Workflow, change: Outbox, number: int, incident: Mapping[str, object]
    ) -> tuple[str, str]:
        trigger = workflow.trigger.incident
        assert trigger is not None
        if not workflow.enabled:
            return "skipped", "the workflow is switched off"
        if not holds(trigger.when, {"incident": incident, "event": event_view(change)}):
            return "not_matched", f"the condition is false: {trigger.when}"
        if workflow.mode == "observe":
            return "observed", "the workflow only observes (mode: observe); it would have run"
        obstacle = (
            self._problems.get(workflow.name)
            or self.stopped(session)
            or _too_old(workflow, change)
            or _cooling_down(session, workflow, change, number, str(incident.get("entity", "")))
            or _over_the_cap(session, workflow)
        )
        return ("skipped", obstacle) if obstacle else ("started", f"{change.key} {change.kind}")

    def _new_run(self, session: Session, workflow: Workflow, number: int | None, change: Outbox, key: str, trigger: str) -> Run:
        incident = incident_view(session, number)
        event = event_view(change)
        variables = render(workflow.vars, {"incident": incident, "event": event})
        run = Run(
            workflow=workflow.name,
            digest=workflow.digest,
            key=key,
            incident=number,
            entity=str(incident.get("entity", "")),
            trigger=trigger,
            change=change.kind,
            triggered=change.time,
            context={"event": event, "vars": variables},
        )
        session.add(run)
        session.flush()
        tell(session, run, "progress", f"Workflow {workflow.name} is queued: {trigger}")
        self._sent.add(workflow=workflow.name)
        return run

    def _note(
        self, session: Session, workflow: Workflow, change: Outbox | None, number: int | None, verdict: str, reason: str, run: Run | None
    ) -> None:
        if run is None:
            self._dropped.add(workflow=workflow.name, verdict=verdict)
        outbox, run_id = change.id if change else None, run.id if run else None
        session.add(Dispatch(workflow=workflow.name, outbox=outbox, verdict=verdict, reason=reason, incident=number, run=run_id))
        text = f"workflow {workflow.name} {verdict.replace('_', ' ')}: {reason}"
        detail = {"workflow": workflow.name, "verdict": verdict, "run": run_id, "change": change.kind if change else "manual"}
        session.add(Ledger(incident=number, event_id="", time=now(), step="workflow", text=text, detail=detail))


def _at_rest(workflow: Workflow) -> str:
    if not workflow.enabled:
        return f"{workflow.name} is switched off"
    return "it only observes (mode: observe); give it another mode to let it act" if workflow.mode == "observe" else ""


def _too_old(workflow: Workflow, change: Outbox) -> str:
    age_s = (now() - change.time) / SECOND
    return f"the change is {age_s:.0f} s old, more than max_age" if age_s > workflow.limits.max_age else ""


def _cooling_down(session: Session, workflow: Workflow, change: Outbox, number: int, entity: str) -> str:
    limits = workflow.limits
    if not limits.cool_down:
        return ""
    same, what = Run.workflow == workflow.name, "the workflow"
    if limits.cool_down_per == "entity" and entity:
        same, what = same & (Run.entity == entity), entity
    elif limits.cool_down_per != "workflow":  # an unknown entity is never taken for the same one
        same, what = same & (Run.incident == number), incident_key(number)
    if limits.cool_down_per == "change":
        same, what = same & (Run.change == change.kind), f"{what} {change.kind}"
    last = session.scalar(select(func.max(Run.created)).where(same))
    left_s = limits.cool_down - (now() - last) / SECOND if last is not None else 0.0
    return f"cool-down: the last run for {what} leaves {left_s:.0f} s of quiet" if left_s > 0 else ""


def _over_the_cap(session: Session, workflow: Workflow) -> str:
    cap = workflow.limits.max_runs_per_hour
    recent = session.scalar(
        select(func.count()).select_from(Run).where(Run.workflow == workflow.name, Run.created > now() - _HOUR_S * SECOND)
    )
    return f"cap: {recent} runs in the last hour, max_runs_per_hour is {cap}" if (recent or 0) >= cap else ""
