"""kill -9 in the middle of a run: a restart finishes it, finished steps are not repeated, and what may have happened is asked about."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import update
from workshop import Workshop, finished, until, workflow

from ninefold.ground.errors import Conflict
from ninefold.store.records.workflows import Approval, Run
from ninefold.workflows.book import Place

STEPS = """
- {id: a, uses: bench.note, with: {text: "a ${{ incident.id }}"}}
- {id: b, uses: bench.%s, with: {text: "b ${{ incident.id }}", troubles: [pause]}}
- {id: c, uses: bench.note, with: {text: "c ${{ steps.a.result.count }} ${{ incident.id }}"}}
"""


class Worker:
    """The engine in a process of its own."""

    def __init__(self, folder: Path, text: str) -> None:
        (folder / "flow.yaml").write_text(text)
        command = [sys.executable, str(Path(__file__).with_name("crash_worker.py")), str(folder), str(folder / "flow.yaml")]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def poll(what: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


def killed_in(shop: Workshop, text: str, status: str) -> None:
    """Run until step b has this status, then kill."""
    worker = Worker(shop.folder, text)
    shop.incident()
    poll(lambda: "b" in shop.steps() and shop.steps()["b"].status == status)
    worker.kill()


def test_a_repeatable_step_under_way_is_repeated_and_finished_ones_are_not(shop: Workshop) -> None:
    text = workflow(STEPS % "put")
    killed_in(shop, text, "running")
    assert [run.status for run in shop.runs()] == ["running"]
    worker = Worker(shop.folder, text)
    started = time.monotonic()
    poll(finished(shop))
    took_s = time.monotonic() - started
    worker.kill()
    assert shop.runs()[0].status == "succeeded"
    done = Counter(shop.done())
    assert (done["note a INC-1"], done["note c 1 INC-1"]) == (1, 1)
    assert done["put b INC-1"] in (1, 2)
    assert shop.steps()["b"].attempts == 2
    assert took_s < 5, "a dead process on this machine is noticed at once, not when its lease ends"


@pytest.mark.parametrize(("decision", "count"), [("skip", 1), ("approve", 2)])
def test_a_step_that_may_have_happened_waits_for_a_person(shop: Workshop, decision: str, count: int) -> None:
    text = workflow(STEPS % "note")
    killed_in(shop, text, "running")
    before = shop.done().count("note b INC-1")

    async def main() -> None:
        async with shop.running(text) as engine:
            (approval,) = await until(shop.waiting)
            assert (approval.kind, approval.step, approval.ask) == ("unknown", "b", {"text": "b INC-1", "troubles": ["pause"]})
            assert "may have been carried out (the program stopped while it was under way)" in approval.question
            await asyncio.to_thread(engine.decide, approval.id, decision, "alice", "operator")
            await until(finished(shop))

    asyncio.run(main())
    done = Counter(shop.done())
    assert shop.runs()[0].status == "succeeded"
    assert (done["note a INC-1"], done["note c 1 INC-1"]) == (1, 1)
    assert done["note b INC-1"] == before + count - 1


def test_a_proof_under_way_is_looked_at_again_without_repeating_its_step(shop: Workshop) -> None:
    steps = """
- {id: a, uses: bench.note, with: {text: a}}
- {id: b, uses: bench.note, with: {text: b}, verify: {that: result.count > 20, uses: bench.look, with: {text: p}, within: 1m, every: 20ms}}
"""
    killed_in(shop, workflow(steps), "verifying")

    async def main() -> None:
        async with shop.running(workflow(steps)):
            await until(finished(shop))

    asyncio.run(main())
    assert shop.runs()[0].status == "succeeded"
    assert [line for line in shop.done() if line.startswith("note")] == ["note a", "note b"]


def test_a_waiting_run_waits_on(shop: Workshop) -> None:
    text = workflow("- {id: a, uses: bench.note, with: {text: a}}\n- {id: b, uses: bench.blow, with: {text: b}}")
    killed_in(shop, text, "waiting")

    async def main() -> None:
        async with shop.running(text) as engine:
            (approval,) = shop.waiting()
            await asyncio.to_thread(engine.decide, approval.id, "approve", "alice", "operator")
            await until(finished(shop))

    asyncio.run(main())
    assert shop.done() == ["note a", "blow b"]


def test_a_stop_in_good_order_goes_on_behind_the_last_step(shop: Workshop) -> None:
    text = workflow(STEPS % "note")

    async def first() -> None:
        async with shop.running(text):
            shop.incident()
            await until(lambda: "b" in shop.steps())

    async def second() -> None:
        async with shop.running(text):
            await until(finished(shop))

    asyncio.run(first())
    assert (shop.steps()["b"].status, shop.runs()[0].status) == ("succeeded", "queued")
    asyncio.run(second())
    assert shop.done() == ["note a INC-1", "note b INC-1", "note c 1 INC-1"]


def test_a_taking_back_that_was_interrupted_goes_on(shop: Workshop) -> None:
    steps = """
- {id: a, uses: bench.put, with: {text: a}, rollback: {uses: bench.put, with: {text: undo a}}}
- {id: b, uses: bench.put, with: {text: b}, rollback: {uses: bench.put, with: {text: undo b, troubles: [pause]}}}
- {id: c, uses: bench.put, with: {text: c, troubles: [refused]}, on_failure: rollback}
"""
    worker = Worker(shop.folder, workflow(steps))
    shop.incident()
    poll(lambda: "b.rollback" in shop.steps())
    worker.kill()

    async def main() -> None:
        async with shop.running(workflow(steps)):
            await until(finished(shop))

    asyncio.run(main())
    assert shop.runs()[0].status == "failed"
    assert shop.runs()[0].error == "step c: the bench says no; step b was taken back; step a was taken back"
    assert shop.done()[-1] == "put undo a"
    assert (shop.done().count("put a"), shop.done().count("put b")) == (1, 1)


def test_two_engines_share_the_runs_and_repeat_none(shop: Workshop) -> None:
    text = workflow(STEPS.replace(", troubles: [pause]", "") % "note", extra="limits: {concurrency: 3}")

    async def main() -> None:
        async with shop.running(text), shop.running(text):
            for _ in range(10):
                await asyncio.to_thread(shop.incident)
            await until(finished(shop, 10))

    asyncio.run(main())
    assert {run.status for run in shop.runs()} == {"succeeded"}
    assert Counter(Counter(shop.done()).values()) == {1: 30}
    assert len(shop.verdicts()) == 10


def test_a_run_its_own_worker_lost_sight_of_is_taken_up_again(shop: Workshop) -> None:
    engine = shop.engine(workflow("- {id: a, uses: bench.note, with: {text: a}}"))
    shop.incident()
    engine._dispatcher.open()
    engine._dispatcher.follow()
    book = engine._book
    ((lost, _),) = book.claim(5, {"flow": 4})
    assert book.claim(5, {"flow": 4}) == []
    with shop.records.session() as session:
        session.execute(update(Run).values(lease_until=1))
    assert book.claim(5, {"flow": 4}, busy={1}) == []
    ((lease, _),) = book.claim(5, {"flow": 4})
    assert (lease.run, book.renew([lost, lease])) == (1, {lease})
    with pytest.raises(Conflict, match="not this worker's any more"):
        book.load(lost)


def test_a_run_under_work_whose_lease_ran_out_sends_no_step_twice(shop: Workshop) -> None:
    """The machine was suspended, or its clock jumped: the lease is over, the task is not."""
    text = workflow("- {id: a, uses: bench.note, with: {text: a, troubles: [pause]}}\n- {id: b, uses: bench.note, with: {text: b}}")

    async def main() -> None:
        async with shop.running(text):
            shop.incident()
            await until(lambda: shop.steps() and shop.steps()["a"].status == "running")
            with shop.records.session() as session:
                session.execute(update(Run).values(lease_until=1))
            await until(finished(shop))

    asyncio.run(main())
    assert (shop.runs()[0].status, shop.done()) == ("succeeded", ["note a", "note b"])


def test_a_step_that_another_task_has_begun_is_not_begun_again(shop: Workshop) -> None:
    engine = shop.engine(workflow("- {id: a, uses: bench.note, with: {text: a}}"))
    shop.incident()
    engine._dispatcher.open()
    engine._dispatcher.follow()
    ((lease, _),) = engine._book.claim(5, {"flow": 4})
    place = Place("a", 0, "bench.note", "write")
    engine._book.begin(lease, place, {}, "")
    with pytest.raises(Conflict, match="step a is running"):
        engine._book.begin(lease, place, {}, "")


@pytest.mark.slow
def test_many_kills_lose_nothing_and_repeat_nothing(shop: Workshop) -> None:
    """Workers are killed at random moments while changes come in; in the end each run is over, or asks about the step it was killed in."""
    random_ = random.Random(7)
    text = workflow((STEPS % "note").replace("troubles: [pause]", "troubles: []"), extra="limits: {concurrency: 8}")
    for _ in range(6):
        worker = Worker(shop.folder, text)
        for _ in range(3):
            shop.incident()
        time.sleep(random_.uniform(0.05, 0.6))  # the moment of death is the point of this test
        worker.kill()

    async def main() -> None:
        async with shop.running(text):
            await until(lambda: all(run.status in ("succeeded", "waiting") for run in shop.runs()) and len(shop.runs()) == 18)

    asyncio.run(main())
    done = Counter(shop.done())
    assert max(done.values()) == 1
    asked = {f"{approval.step} {approval.incident}" for approval in shop.rows(Approval, Approval.kind == "unknown")}
    for run in shop.runs():
        for step in ("a", "b", "c 1"):
            if run.status == "succeeded":
                assert done[f"note {step} INC-{run.incident}"] == 1
            elif done[f"note {step} INC-{run.incident}"] == 0:
                assert any(question.endswith(f" {run.incident}") for question in asked)
    assert len([run for run in shop.runs() if run.status == "waiting"]) == len(asked)
