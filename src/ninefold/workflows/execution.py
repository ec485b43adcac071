"""One run, from where the book says it stands to its end or to its next question.

What a crash may not do: repeat a finished step, or repeat in silence an action that may have been carried out and is not
repeatable. So each attempt is written down before it is sent and its answer before anything is made of it; a step found `running` is
sent again only if that does no harm, otherwise a person is asked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from ninefold.ground.clock import SECOND, now
from ninefold.ground.errors import BadData, Conflict, NinefoldError, OutcomeUnknown, Refused, Unavailable
from ninefold.ground.log import get
from ninefold.ground.meter import Meter
from ninefold.plugin import Connector
from ninefold.store.records.workflows import Approval
from ninefold.workflows.binding import RISKS, Bound, bind, risk_of
from ninefold.workflows.book import Book, Lease, Place, Standing, StepState
from ninefold.workflows.expression import holds, render
from ninefold.workflows.language import ApprovalRule, Retries, Rollback, Step, Verify

_log = get("workflows")
_LONGEST_WAIT_S = 60.0
_NO_RULE = ApprovalRule()
_WHOLE = ""
_FINAL = ("succeeded", "skipped", "failed", "rejected")


class _Waits(Exception):
    """A person has been asked."""


class _Halted(Exception):
    """The program stops, or everything is stopped."""


class _Failed(Exception):
    """A step failed; `sent` says that its action was, or may have been, carried out, `output` is what it has to show for it."""

    def __init__(self, reason: str, *, sent: bool = False, output: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.sent, self.output = sent, output


class _Rejected(Exception):
    """A person said no, or nobody answered."""


@dataclass(frozen=True, slots=True)
class _Work:
    """An action to carry out at a place: a step, or the taking back of one."""

    place: Place
    bound: Bound
    ask: Mapping[str, Any]
    retries: Retries
    timeout_s: float
    rule: ApprovalRule | None
    """By which a person must allow it, None if nobody needs to."""


@dataclass(frozen=True, slots=True)
class _End:
    status: str
    error: str = ""
    take_back: bool = False


class Execution:
    """The execution of one run.

    Args:
        lease: the claim of the run by which it is worked on.
        book: where every transition is written.
        connectors: by name.
        halt: set when no further step may begin.
        meter: measures steps.
    """

    def __init__(self, lease: Lease, book: Book, connectors: Mapping[str, Connector], halt: asyncio.Event, meter: Meter) -> None:
        self._lease, self._book, self._connectors, self._halt = lease, book, connectors, halt
        self._seconds = meter.histogram("ninefold_workflows_step_seconds", "Duration of steps, waits for people left out, by action.")
        self._errors = meter.counter("ninefold_workflows_errors_total", "Steps that failed, by action.")
        self._standing: Standing

    async def go(self) -> None:
        """Take the run as far as it goes now. Returns when it is over, waits for a person, was halted, or is no longer ours."""
        try:
            self._standing = await self._write(self._book.load)
            if self._standing.ending is None:
                end = await self._forward()
                if not end.take_back:
                    await self._write(self._book.finish, end.status, end.error)
                    return
                self._standing.ending = {"status": end.status, "error": end.error}
                await self._write(self._book.conclude, end.status, end.error)
            outcome = await self._backward()
            ending = self._standing.ending
            await self._write(self._book.finish, ending["status"], "; ".join([ending["error"], *outcome]))
        except _Waits:
            return
        except _Halted:
            await self._write(self._book.release)
        except Conflict as error:
            _log.info("run %d goes on elsewhere or not at all: %s", self._lease.run, error)

    async def _write(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return await asyncio.to_thread(method, self._lease, *arguments, **named)

    async def _forward(self) -> _End:
        """The steps in order."""
        workflow = self._standing.workflow
        if workflow.mode == "suggest":
            try:
                await self._permit_whole()
            except _Rejected as no:
                return _End("rejected", str(no))
            except Refused as error:
                return _End("failed", str(error))
        passed_over = []
        for number, step in enumerate(workflow.steps):
            state = self._standing.steps.get(step.id)
            if state is None or state.status not in _FINAL:
                await self._step(number, step)
                state = self._standing.steps[step.id]
            if state.status == "failed" and step.on_failure == "continue":
                passed_over.append(f"step {step.id} failed and was passed over: {state.error}")
            elif state.status in ("failed", "rejected"):
                return _End(state.status, f"step {step.id}: {state.error}", step.on_failure == "rollback")
        return _End("succeeded", "; ".join(passed_over))

    async def _backward(self) -> list[str]:
        """Take back what was, or may have been, carried out, last first; a step that cannot be taken back does not keep the others
        from it. Returns what became of it, in words."""
        outcome = []
        count = len(self._standing.workflow.steps)
        for number, step in reversed(list(enumerate(self._standing.workflow.steps))):
            state = self._standing.steps.get(step.id)
            if step.rollback is None or state is None or not state.sent:
                continue
            back = self._standing.steps.get(f"{step.id}.rollback")
            if back is None or back.status not in _FINAL:
                back = await self._take_back(2 * count - number, step, step.rollback)
            done = "was taken back" if back.status == "succeeded" else f"could not be taken back ({back.status}: {back.error})"
            outcome.append(f"step {step.id} {done}")
        return outcome

    async def _take_back(self, number: int, step: Step, rollback: Rollback) -> StepState:
        """The yes to a step covers its rollback, whose risk is never higher."""
        place = Place(f"{step.id}.rollback", number, rollback.uses, step.risk or "read")
        async with self._outcome(place):
            bound = bind(rollback.uses, self._connectors)
            place = Place(place.id, number, rollback.uses, bound.action.risk)
            await self._carry_out(_Work(place, bound, rollback.ask, step.retries, step.timeout, None))
        return self._standing.steps[place.id]

    async def _step(self, number: int, step: Step) -> None:
        """One step to its end; afterwards its state says which."""
        place = Place(step.id, number, step.uses, step.risk or "read")
        started = now()
        async with self._outcome(place):
            bound = bind(step.uses, self._connectors)
            place = Place(step.id, number, step.uses, risk_of(step, bound))
            state = self._standing.steps.get(step.id)
            if state is None and not await self._condition(step):
                await self._end(place, "skipped")
                return
            if state is None or state.status != "verifying":
                work = _Work(place, bound, step.ask, step.retries, step.timeout, self._rule(step, place))
                if not await self._carry_out(work, done=step.verify is None):
                    return
            if step.verify is not None:
                await self._verify(step, step.verify)
                await self._end(place, "succeeded", sent=True)
        self._seconds.observe((now() - started) / SECOND, uses=step.uses)

    @asynccontextmanager
    async def _outcome(self, place: Place) -> AsyncIterator[None]:
        """Write down how what happens inside fails, if it does."""
        try:
            yield
        except _Rejected as no:
            state = self._standing.steps.get(place.id)
            await self._end(place, "rejected", str(no), sent=state is not None and state.sent)
        except (_Failed, Refused, BadData) as failure:
            self._errors.add(uses=place.uses)
            state = self._standing.steps.get(place.id)
            sent = (isinstance(failure, _Failed) and failure.sent) or (state is not None and state.output is not None)
            await self._end(place, "failed", str(failure), sent=sent, output=failure.output if isinstance(failure, _Failed) else None)

    async def _end(self, place: Place, status: str, error: str = "", *, sent: bool = False, output: dict[str, Any] | None = None) -> None:
        kept = await self._write(self._book.end, place, status, error, sent=sent, output=output)
        self._standing.steps[place.id] = StepState(status, kept, error, sent)

    async def _condition(self, step: Step) -> bool:
        if step.when == "true":
            return True
        try:
            return holds(step.when, await self._context())
        except BadData as error:
            raise _Failed(f"its condition cannot be evaluated: {error}") from error

    def _rule(self, step: Step, place: Place) -> ApprovalRule | None:
        needed = place.risk == "dangerous" or (place.risk == "write" and self._standing.workflow.mode == "approve")
        return step.approval or (_NO_RULE if needed else None)

    async def _carry_out(self, work: _Work, *, done: bool = True) -> bool:
        """Ask whoever must be asked, send the action until it is answered, write the answer down; `done` if that ends the step.

        Returns:
            False if a person chose to go on without it.
        """
        if self._halt.is_set():
            raise _Halted
        ask, plain = await self._filled(work)
        if not await self._permitted(work, plain):
            return False
        answer = await self._send(work, ask, plain)
        output = answer.model_dump(mode="json", by_alias=True)
        kept = await self._write(self._book.answered, work.place, output, done=done)
        self._standing.steps[work.place.id] = StepState("succeeded" if done else "verifying", kept, sent=True)
        return True

    async def _filled(self, work: _Work) -> tuple[BaseModel, dict[str, Any]]:
        """What the action is asked, checked against its model, and the same as plain data."""
        try:
            plain = render(work.ask, await self._context())
            return work.bound.action.ask.model_validate(plain), plain
        except BadData as error:
            raise _Failed(f"its values cannot be filled in: {error}") from error
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False))
            raise _Failed(f"its values do not fit {work.place.uses}: {faults}") from error

    async def _send(self, work: _Work, ask: BaseModel, plain: dict[str, Any]) -> BaseModel:
        """Attempts until one is answered. What may be tried again and what may not is decided here and nowhere else."""
        action, repeatable = work.bound.action, work.bound.repeatable
        state = self._standing.steps.get(work.place.id)
        known = state.status if state else ""
        for attempt in range(work.retries.count + 1):
            await self._write(self._book.begin, work.place, plain, known)
            try:
                async with asyncio.timeout(work.timeout_s):
                    return await action.call(work.bound.connector, ask)
            except TimeoutError:
                trouble: NinefoldError = OutcomeUnknown(f"no answer within {work.timeout_s:g} s")
            except (Unavailable, OutcomeUnknown, Conflict) as error:
                trouble = error
            except NinefoldError as error:
                refused = error if isinstance(error, Refused) else Refused()
                raise _Failed(str(error), sent=refused.carried_out, output=refused.answer) from error
            except Exception as error:  # a connector is a plug-in: its defect fails the step, not the engine
                _log.warning("the connector action %s has a defect", work.place.uses, exc_info=error)
                raise _Failed(f"the connector failed: {type(error).__name__}: {error}", sent=True) from error
            lost = isinstance(trouble, OutcomeUnknown)
            if lost and not repeatable:
                await self._ask_about_lost(work, plain, str(trouble))
            if attempt == work.retries.count or (isinstance(trouble, Conflict) and not repeatable):
                raise _Failed(f"{trouble} (attempts: {attempt + 1})", sent=lost) from trouble
            await self._write(self._book.trouble, work.place, str(trouble))
            known = "retrying"
            await self._pause(_wait_s(work.retries, attempt, trouble))
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _verify(self, step: Step, proof: Verify) -> None:
        """Look until the proof holds or its time is over."""
        deadline = now() + int(proof.within * SECOND)
        while True:
            try:
                context = await self._context()
                output = self._standing.steps[step.id].output
                result = await self._look(step, proof, context) if proof.uses else output
                if holds(proof.that, {**context, "result": result}):
                    return
                said = "it is false"
            except (NinefoldError, TimeoutError) as error:
                said = str(error) or "no answer in time"
            left_s = (deadline - now()) / SECOND
            if left_s <= 0:
                raise _Failed(f"verification failed: {proof.that}: {said}", sent=True)
            await self._pause(min(proof.every, left_s))

    async def _look(self, step: Step, proof: Verify, context: Mapping[str, Any]) -> dict[str, Any]:
        assert proof.uses is not None
        bound = bind(proof.uses, self._connectors)
        try:
            ask = bound.action.ask.model_validate(render(proof.ask, context))
        except ValidationError as error:
            raise BadData(f"the values of verify do not fit {proof.uses}: {error.error_count()} faults", step.id) from error
        async with asyncio.timeout(step.timeout):
            answer = await bound.action.call(bound.connector, ask)
        return answer.model_dump(mode="json", by_alias=True)

    async def _context(self) -> dict[str, Any]:
        states = self._standing.steps.items()
        steps = {name: {"result": s.output or {}, "status": s.status, "error": s.error} for name, s in states if "." not in name}
        return {**await self._write(self._book.view), "steps": steps}

    async def _pause(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._halt.wait()
        except TimeoutError:
            return
        raise _Halted

    async def _permit_whole(self) -> None:
        """In mode suggest a person starts each run."""
        answer = self._standing.answers.get(_WHOLE)
        if answer is None:
            workflow = self._standing.workflow
            risk = max((risk_of(step, bind(step.uses, self._connectors)) for step in workflow.steps), key=RISKS.index)
            steps = [{"id": step.id, "uses": step.uses} for step in workflow.steps]
            await self._ask(Place(_WHOLE, -1, "", risk), "run", f"start workflow {workflow.name}", {"steps": steps}, _NO_RULE)
        else:
            _check(answer)

    async def _permitted(self, work: _Work, plain: dict[str, Any]) -> bool:
        """Whether to go on, with a yes to exactly these values where one is needed; False: a person chose to go on without."""
        state, answer = self._standing.steps.get(work.place.id), self._standing.answers.get(work.place.id)
        status = state.status if state else ""
        if status == "running" and not work.bound.repeatable:
            await self._ask_about_lost(work, plain, "the program stopped while it was under way")
        if work.rule is None and status != "unknown":
            return True
        question = f"{work.place.uses} in step {work.place.id} of workflow {self._standing.workflow.name}"
        rule = work.rule or _NO_RULE
        if answer is None:
            await self._ask(work.place, "step", question, plain, rule)
        elif answer.status == "skipped":
            await self._end(work.place, "skipped", f"its outcome is unknown; {answer.actor} chose to go on without", sent=True)
            return False
        elif answer.status == "approved" and answer.ask != self._book.mask(plain):
            await self._ask(work.place, answer.kind, f"{question}: its values have changed since the last yes", plain, rule)
        else:
            _check(answer)
        return True

    async def _ask_about_lost(self, work: _Work, plain: dict[str, Any], reason: str) -> None:
        question = (
            f"{work.place.uses} in step {work.place.id} of workflow {self._standing.workflow.name} may have been carried out "
            f"({reason}): approve to do it again, skip to go on without, reject to stop"
        )
        await self._ask(work.place, "unknown", question, plain, work.rule or _NO_RULE)

    async def _ask(self, place: Place, kind: str, question: str, plain: dict[str, Any], rule: ApprovalRule) -> None:
        await self._write(self._book.ask, place, kind, question, plain, role=rule.role, ttl_s=rule.ttl)
        raise _Waits


def _check(answer: Approval) -> None:
    if answer.status == "waiting":
        raise _Waits
    if answer.status != "approved":
        who = f"by {answer.actor}" if answer.actor else ""
        raise _Rejected(" ".join(filter(None, (answer.status, who, f"({answer.note})" if answer.note else ""))))


def _wait_s(retries: Retries, attempt: int, trouble: NinefoldError) -> float:
    """Doubling from the workflow's wait up to a minute, at least what the other side asks for, a fifth of it by chance."""
    asked_s = trouble.retry_after_s if isinstance(trouble, Unavailable) else 0.0
    wait_s: float = min(_LONGEST_WAIT_S, max(asked_s, retries.wait * 2.0**attempt))
    return wait_s * random.uniform(0.9, 1.1)  # noqa: S311 - no secret
