"""People in the loop: the ladder, exactly one answer, questions that expire, lost answers, the global stop."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest
from sqlalchemy import update
from workshop import Workshop, finished, until, workflow

from ninefold.ground.errors import Conflict, NotFound, Refused
from ninefold.store.records.base import Outbox
from ninefold.store.records.incidents import Incident
from ninefold.store.records.workflows import Approval
from ninefold.workflows.engine import Workflows

LADDER = """
- {id: a, uses: bench.look, with: {text: a}}
- {id: b, uses: bench.put, with: {text: b}}
- {id: c, uses: bench.blow, with: {text: "c ${{ steps.b.result.count }}"}}
"""


def drive(shop: Workshop, text: str, *answers: tuple[str, str]) -> list[Approval]:
    """Run one workflow for one incident, giving each question the next answer; returns the questions."""

    async def main() -> None:
        async with shop.running(text) as engine:
            shop.incident()
            for decision, actor in answers:
                (approval,) = await until(shop.waiting)
                await asyncio.to_thread(engine.decide, approval.id, decision, actor, "operator", "because")
            await until(finished(shop))

    asyncio.run(main())
    return shop.rows(Approval)


@pytest.mark.parametrize(
    ("mode", "asked"),
    [("auto", [("step", "c")]), ("approve", [("step", "b"), ("step", "c")]), ("suggest", [("run", ""), ("step", "c")])],
)
def test_the_rungs_of_the_ladder(shop: Workshop, mode: str, asked: list[tuple[str, str]]) -> None:
    questions = drive(shop, workflow(LADDER, mode=mode), *[("approve", "alice")] * len(asked))
    assert [(question.kind, question.step) for question in questions] == asked
    assert shop.done() == ["look a", "put b", "blow c 1"]
    last = questions[-1]
    assert (last.uses, last.risk, last.ask, last.status, last.actor, last.note) == (
        "bench.blow", "dangerous", {"text": "c 1"}, "approved", "alice", "because",
    )  # fmt: skip
    assert [pair for pair in shop.told() if pair[0] == "approval"] == [("approval", "requested"), ("approval", "decided")] * len(asked)
    told = shop.rows(Outbox, Outbox.topic == "approval")[-1]
    assert (told.key, told.data["incident"], told.data["actor"]) == (str(last.id), "INC-1", "alice")
    assert told.data["title"] == "alice approved: step c of workflow flow (because)"


def test_a_no_ends_the_run(shop: Workshop) -> None:
    drive(shop, workflow(LADDER), ("reject", "bob"))
    (run,) = shop.runs()
    assert (run.status, run.error) == ("rejected", "step c: rejected by bob (because)")
    assert shop.done() == ["look a", "put b"]
    assert shop.steps()["c"].status == "rejected"


def test_a_no_takes_back_what_was_done_if_the_workflow_says_so(shop: Workshop) -> None:
    steps = """
- {id: a, uses: bench.put, with: {text: a}, rollback: {uses: bench.put, with: {text: undo a}}}
- {id: b, uses: bench.blow, with: {text: b}, on_failure: rollback, rollback: {uses: bench.blow, with: {text: undo b}}}
"""
    drive(shop, workflow(steps), ("reject", "bob"))
    assert shop.done() == ["put a", "put undo a"]
    assert shop.runs()[0].status == "rejected"


def test_a_question_nobody_answers_expires(shop: Workshop) -> None:
    drive(shop, workflow("- {id: a, uses: bench.blow, with: {text: a}, approval: {ttl: 100ms}}"))
    (question,) = shop.rows(Approval)
    assert (question.status, shop.runs()[0].status, shop.done()) == ("expired", "rejected", [])
    with pytest.raises(Conflict, match="has expired"):
        shop.engine().decide(question.id, "approve", "alice", "admin")


def test_a_step_can_ask_whatever_its_risk_and_name_the_role(shop: Workshop) -> None:
    text = workflow("- {id: a, uses: bench.look, with: {text: a}, approval: {role: admin}}")

    async def main() -> None:
        async with shop.running(text) as engine:
            shop.incident()
            (approval,) = await until(shop.waiting)
            with pytest.raises(Refused, match="needs the role admin, alice has operator"):
                engine.decide(approval.id, "approve", "alice", "operator")
            with pytest.raises(Refused, match="only a step whose outcome is unknown can be skipped"):
                engine.decide(approval.id, "skip", "root", "admin")
            with pytest.raises(NotFound, match="no approval 99"):
                engine.decide(99, "approve", "root", "admin")
            engine.decide(approval.id, "approve", "root", "admin")
            await until(finished(shop))

    asyncio.run(main())
    assert shop.done() == ["look a"]


@pytest.mark.parametrize("role", ["ingest", "viewer"])
def test_who_only_reads_decides_nothing(shop: Workshop, role: str) -> None:
    with shop.records.session() as session:
        session.add(Approval(run=1, step="a", kind="step", workflow="w", incident=None, risk="write", role="operator", question="?"))
    with pytest.raises(Refused, match="needs the role operator"):
        shop.engine().decide(1, "approve", "eve", role)


def test_of_many_answers_at_once_exactly_one_is_taken(shop: Workshop) -> None:
    outcome: Counter[str] = Counter()

    def answer(engine: Workflows, approval: int, decision: str, gate: threading.Barrier) -> None:
        gate.wait()
        try:
            engine.decide(approval, decision, f"{decision}er", "operator")  # type: ignore[arg-type]
            outcome[decision] += 1
        except Conflict as error:
            outcome["conflict" if "already" in str(error) else str(error)] += 1

    async def main() -> None:
        async with shop.running(workflow(LADDER)) as engine:
            shop.incident()
            (approval,) = await until(shop.waiting)
            gate = threading.Barrier(16)
            others = [shop.engine() for _ in range(3)]  # as other processes would: their own engines on the same database
            threads = [
                threading.Thread(target=answer, args=([engine, *others][i % 4], approval.id, ("approve", "reject")[i % 2], gate))
                for i in range(16)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            await until(finished(shop))

    asyncio.run(main())
    assert outcome["conflict"] == 15
    assert outcome["approve"] + outcome["reject"] == 1
    assert shop.runs()[0].status == ("succeeded" if outcome["approve"] else "rejected")
    assert shop.told().count(("approval", "decided")) == 1


def test_a_yes_is_to_exactly_the_values_shown(shop: Workshop) -> None:
    text = workflow("- {id: a, uses: bench.blow, with: {text: '${{ incident.severity }}'}}")

    async def main() -> None:
        async with shop.running(text) as engine:
            number = shop.incident()
            (approval,) = await until(shop.waiting)
            with shop.records.session() as session:
                session.get_one(Incident, number).severity = "info"
            await asyncio.to_thread(engine.decide, approval.id, "approve", "alice", "operator")
            (again,) = await until(shop.waiting)
            assert (again.ask, "changed since" in again.question) == ({"text": "info"}, True)
            await asyncio.to_thread(engine.decide, again.id, "approve", "alice", "operator")
            await until(finished(shop))

    asyncio.run(main())
    assert shop.done() == ["blow info"]


LOST = "- {id: a, uses: bench.note, with: {text: x, troubles: [lost, lost]}}\n- {id: b, uses: bench.put, with: {text: b}}"


@pytest.mark.parametrize(
    ("answers", "done", "status"),
    [
        (["skip"], ["note x", "put b"], "succeeded"),
        (["reject"], ["note x"], "rejected"),
        (["approve", "skip"], ["note x", "note x", "put b"], "succeeded"),
        (["approve", "approve"], ["note x", "note x", "note x", "put b"], "succeeded"),
    ],
)
def test_a_lost_answer_of_what_cannot_be_repeated_is_a_question(shop: Workshop, answers: list[str], done: list[str], status: str) -> None:
    questions = drive(shop, workflow(LOST), *[(answer, "alice") for answer in answers])
    assert {question.kind for question in questions} == {"unknown"}
    assert "may have been carried out (no answer of the bench)" in questions[0].question
    assert (shop.done(), shop.runs()[0].status) == (done, status)
    assert shop.steps()["a"].sent


def test_a_silent_action_that_cannot_be_repeated_is_a_question_too(shop: Workshop) -> None:
    text = workflow("- {id: a, uses: bench.note, with: {text: x, troubles: [slow]}, timeout: 100ms}")
    (question,) = drive(shop, text, ("skip", "alice"))
    assert "no answer within 0.1 s" in question.question


def test_the_global_stop_holds_between_steps_and_outlives_a_restart(shop: Workshop) -> None:
    steps = """
- {id: a, uses: bench.put, with: {text: a}, verify: {that: incident.severity == "info", within: 1m, every: 20ms}}
- {id: b, uses: bench.put, with: {text: b}}
"""

    async def main() -> None:
        async with shop.running(workflow(steps)) as engine:
            number = shop.incident()
            await until(lambda: shop.steps().get("a") and shop.steps()["a"].status == "verifying")
            engine.stop("stopped by alice", "alice")
            await until(lambda: shop.runs()[0].status == "queued")
            with pytest.raises(Refused, match="stopped by alice"):
                engine.start("flow", number, "bob")
        async with shop.running(workflow(steps)) as engine:
            shop.incident()
            await until(lambda: len(shop.verdicts()) == 2)
            assert shop.verdicts()[1] == ("flow", "skipped", "stopped by alice")
            assert [run.status for run in shop.runs()] == ["queued"]
            with shop.records.session() as session:
                session.execute(update(Incident).values(severity="info"))
            engine.stop("", "alice")
            await until(finished(shop))

    asyncio.run(main())
    assert (shop.runs()[0].status, shop.done()) == ("succeeded", ["put a", "put b"])


def test_a_run_can_be_cancelled_while_it_works_waits_or_queues(shop: Workshop) -> None:
    slow = workflow("- {id: a, uses: bench.look, with: {text: x, troubles: [slow]}}", name="slow")

    async def main() -> None:
        async with shop.running(slow, workflow(LADDER)) as engine:
            shop.incident()
            (approval,) = await until(shop.waiting)
            await until(lambda: [run for run in shop.runs() if run.workflow == "slow" and run.status == "running"])
            for run in shop.runs():
                await asyncio.to_thread(engine.cancel, run.id, "alice")
            with pytest.raises(Conflict, match="is over"):
                engine.cancel(1, "alice")
            with pytest.raises(NotFound):
                engine.cancel(99, "alice")
            with pytest.raises(Conflict, match="already cancelled by alice"):
                engine.decide(approval.id, "approve", "bob", "operator")
            await until(lambda: not engine._tasks)

    asyncio.run(main())
    assert {run.status for run in shop.runs()} == {"cancelled"}
    assert sorted(shop.done()) == ["look a", "look x", "put b"]
