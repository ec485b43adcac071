"""Dispatch: each change is decided about exactly once for each workflow, and every no has its reason."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import delete
from workshop import Workshop, finished, until, workflow

from ninefold.ground.errors import NotFound, Refused
from ninefold.store.records.base import Position
from ninefold.store.records.incidents import Ledger
from ninefold.store.records.workflows import Dispatch, Run

NOTE = "- {id: a, uses: bench.put, with: {text: '${{ event.kind }}'}}"


def decide(shop: Workshop, *texts: str, **options: Any) -> list[tuple[str, str, str]]:
    """Let a dispatcher alone decide about what is there."""
    engine = shop.engine(*texts, **options)
    engine._dispatcher.open()
    engine._dispatcher.follow()
    return shop.verdicts()


@pytest.mark.parametrize(
    ("extra", "mode", "age_s", "verdict", "reason"),
    [
        ("enabled: false", "auto", 0, "skipped", "the workflow is switched off"),
        ("", "observe", 0, "observed", "only observes"),
        ("limits: {max_age: 1m}", "auto", 120, "skipped", "120 s old"),
        ("", "auto", 0, "started", "INC-1 opened"),
    ],
)
def test_every_decision_has_a_reason(shop: Workshop, extra: str, mode: str, age_s: float, verdict: str, reason: str) -> None:
    shop.incident(age_s=age_s)
    ((_, found, why),) = decide(shop, workflow(NOTE, mode=mode, extra=extra))
    assert found == verdict
    assert reason in why
    assert len(shop.runs()) == (verdict == "started")
    assert reason in shop.rows(Ledger)[0].text


def test_only_changes_listened_to_and_matching_start_a_run(shop: Workshop) -> None:
    text = workflow(NOTE, on="[opened, resolved]").replace(
        "[opened, resolved]", "[opened, resolved], when: incident.severity == 'critical'"
    )
    shop.incident("acknowledged")
    shop.incident("opened", severity="info")
    shop.incident("resolved")
    assert [(verdict, reason) for _, verdict, reason in decide(shop, text)] == [
        ("not_matched", "the condition is false: incident.severity == 'critical'"),
        ("started", "INC-3 resolved"),
    ]


def test_a_condition_that_fails_is_a_skip_with_its_reason(shop: Workshop) -> None:
    shop.incident()
    ((_, verdict, reason),) = decide(shop, workflow(NOTE, on="[opened], when: incident.nothing > 3"))
    assert (verdict, "there is no key 'nothing'" in reason) == ("skipped", True)


def test_a_workflow_that_cannot_work_starts_nothing_and_says_why(shop: Workshop) -> None:
    texts = {
        "nobody": "- {id: a, uses: nobody.put}",
        "verb": "- {id: a, uses: bench.fly}",
        "keys": "- {id: a, uses: bench.put, with: {txt: x}}",
        "risk": "- {id: a, uses: bench.blow, with: {text: x}, risk: read}",
        "proof": "- {id: a, uses: bench.put, with: {text: x}, verify: {that: 'true', uses: bench.put, with: {text: x}}}",
        "back": "- {id: a, uses: bench.put, with: {text: x}, rollback: {uses: bench.blow, with: {text: x}}}",
    }
    engine = shop.engine(*(workflow(steps, name=name) for name, steps in texts.items()))
    assert engine.problems == {
        "nobody": "step a: no connector is named 'nobody'; configure it under `connectors` (there are: bench)",
        "verb": "step a: the connector 'bench' has no action 'fly'; it has blow, look, note, put",
        "keys": "step a: bench.put takes no txt; it takes text, troubles; step a: bench.put needs text",
        "risk": "step a: risk read is below the action's own, dangerous; a step can only raise it",
        "proof": "step a: verify uses bench.put, which is write; a proof only reads",
        "back": "step a: its rollback is dangerous, more than the step itself; raise the step's `risk` to that",
    }
    shop.incident()
    assert {verdict for _, verdict, _ in decide(shop, *(workflow(steps, name=name) for name, steps in texts.items()))} == {"skipped"}
    with pytest.raises(Refused, match="no connector is named 'nobody'"):
        engine.start("nobody", 1, "alice")


def test_the_global_stop_of_the_configuration(shop: Workshop) -> None:
    shop.incident()
    ((_, verdict, reason),) = decide(shop, workflow(NOTE), enabled=False)
    assert (verdict, reason) == ("skipped", "workflows are stopped by the configuration (workflows.enabled)")
    with pytest.raises(Refused, match="stopped by the configuration"):
        shop.engine(workflow(NOTE), enabled=False).start("flow", 1, "alice")


@pytest.mark.parametrize(
    ("per", "verdicts"),
    [
        ("entity", ["started", "skipped", "skipped", "started", "skipped"]),
        ("incident", ["started", "started", "skipped", "started", "skipped"]),
        ("change", ["started", "started", "started", "started", "skipped"]),
        ("workflow", ["started", "skipped", "skipped", "skipped", "skipped"]),
    ],
)
def test_cool_down_per(shop: Workshop, per: str, verdicts: list[str]) -> None:
    shop.incident()
    second = shop.incident()
    shop.incident("resolved", number=second)
    other = shop.incident(entity="service:cart")
    shop.incident(number=other)
    found = decide(shop, workflow(NOTE, on="[opened, resolved]", extra=f"limits: {{cool_down: 10m, cool_down_per: {per}}}"))
    assert [verdict for _, verdict, _ in found] == verdicts
    assert all("cool-down: the last run for" in reason for _, verdict, reason in found if verdict == "skipped")


def test_an_unknown_entity_is_never_the_same_entity(shop: Workshop) -> None:
    shop.incident(entity="")
    shop.incident(entity="")
    found = decide(shop, workflow(NOTE, extra="limits: {cool_down: 10m}"))
    assert [verdict for _, verdict, _ in found] == ["started", "started"]


def test_the_hourly_cap(shop: Workshop) -> None:
    for _ in range(5):
        shop.incident()
    found = decide(shop, workflow(NOTE, extra="limits: {max_runs_per_hour: 3}"))
    assert [verdict for _, verdict, _ in found] == ["started"] * 3 + ["skipped"] * 2
    assert found[-1][2] == "cap: 3 runs in the last hour, max_runs_per_hour is 3"


def test_a_change_read_again_starts_nothing_again(shop: Workshop) -> None:
    shop.incident()
    decide(shop, workflow(NOTE))
    with shop.records.session() as session:
        session.execute(delete(Position))
    decide(shop, workflow(NOTE))
    assert (len(shop.runs()), len(shop.verdicts())) == (1, 1)


def test_an_overlooked_change_is_found_again(shop: Workshop) -> None:
    engine = shop.engine(workflow(NOTE))
    engine._dispatcher.open()
    shop.incident()
    shop.incident(age_s=7200)
    engine._dispatcher._after = 2  # as if a later row had become visible before these two
    assert engine._dispatcher.follow() == 0
    assert shop.verdicts() == []
    assert engine._dispatcher.reconcile() == 1
    assert shop.verdicts() == [("flow", "started", "INC-1 opened")]
    assert engine._dispatcher.reconcile() == 0


def test_a_new_workflow_is_not_responsible_for_what_was_before_it(shop: Workshop) -> None:
    shop.incident()
    decide(shop, workflow(NOTE))
    engine = shop.engine(workflow(NOTE), workflow(NOTE, name="young"), new=True)
    engine._dispatcher.open()
    engine._dispatcher.follow()
    assert engine._dispatcher.reconcile() == 0
    shop.incident()
    engine._dispatcher.follow()
    assert [(name, reason) for name, _, reason in shop.verdicts()] == [
        ("flow", "INC-1 opened"),
        ("flow", "INC-2 opened"),
        ("young", "INC-2 opened"),
    ]


def test_a_new_workflow_does_nothing_about_what_nobody_had_read_yet(shop: Workshop) -> None:
    shop.incident()
    engine = shop.engine(workflow(NOTE), new=True)
    engine._dispatcher.open()
    assert (engine._dispatcher.follow(), engine._dispatcher.reconcile(), shop.verdicts()) == (0, 0, [])
    shop.incident()
    assert engine._dispatcher.follow() == 1


def test_an_edited_workflow_takes_over_where_the_older_version_was(shop: Workshop) -> None:
    decide(shop, workflow(NOTE))
    shop.incident()
    assert decide(shop, workflow(NOTE, extra="description: edited")) == [("flow", "started", "INC-1 opened")]


def test_the_position_is_kept_although_nothing_concerned_a_workflow(shop: Workshop) -> None:
    async def main() -> None:
        async with shop.running(workflow(NOTE)) as engine:
            shop.incident("acknowledged")
            await until(lambda: engine._dispatcher._after == 1)

    asyncio.run(main())
    assert [row.position for row in shop.rows(Position)] == [1]


def test_a_person_cannot_make_a_workflow_act_that_only_observes(shop: Workshop) -> None:
    number = shop.incident()
    with pytest.raises(Refused, match="flow cannot start: it only observes"):
        shop.engine(workflow(NOTE, mode="observe")).start("flow", number, "alice")
    assert shop.runs() == []


def test_a_person_starts_a_run_whatever_the_brakes_say(shop: Workshop) -> None:
    number = shop.incident()

    async def main() -> None:
        async with shop.running(workflow(NOTE, extra="limits: {max_runs_per_hour: 1, cool_down: 1h}")) as engine:
            await until(finished(shop))
            run = await asyncio.to_thread(engine.start, "flow", number, "alice")
            runs = await until(finished(shop, 2))
            assert runs[-1].id == run

    asyncio.run(main())
    assert shop.done() == ["put opened", "put manual"]
    assert shop.runs()[1].trigger == "started by alice"
    assert shop.verdicts()[1] == ("flow", "started", "started by alice")


def test_what_does_not_exist_cannot_be_started(shop: Workshop) -> None:
    engine = shop.engine(workflow(NOTE), workflow(NOTE, name="off", extra="enabled: false"))
    with pytest.raises(NotFound, match="no workflow 'none'"):
        engine.start("none", None, "alice")
    with pytest.raises(NotFound, match="no incident INC-7"):
        engine.start("flow", 7, "alice")
    with pytest.raises(Refused, match="off is switched off"):
        engine.start("off", None, "alice")


def test_runs_of_one_incident_follow_one_another(shop: Workshop) -> None:
    """Also when the first one waits for a person: the second must see its results."""
    steps = """
- {id: a, uses: bench.blow, with: {text: first}, when: event.kind == "opened"}
- {id: b, uses: bench.put, with: {text: "${{ event.kind }}"}}
"""

    async def main() -> None:
        async with shop.running(workflow(steps, on="[opened, resolved]")) as engine:
            number = shop.incident()
            shop.incident("resolved", number=number)
            other = shop.incident("resolved")
            (approval,) = await until(shop.waiting)
            await until(lambda: [run for run in shop.runs() if run.incident == other and run.finished])
            assert [run.status for run in shop.runs()] == ["waiting", "queued", "succeeded"]
            await asyncio.to_thread(engine.decide, approval.id, "approve", "alice", "operator")
            await until(finished(shop, 3))

    asyncio.run(main())
    assert shop.done() == ["put resolved", "blow first", "put opened", "put resolved"]


def test_a_stuck_workflow_holds_up_no_other(shop: Workshop) -> None:
    slow = "- {id: a, uses: bench.look, with: {text: '${{ incident.id }}', troubles: [slow]}}"
    stuck = workflow(slow, name="stuck", extra="limits: {concurrency: 2}")

    async def main() -> None:
        async with shop.running(stuck, workflow(NOTE)) as engine:
            for _ in range(6):
                shop.incident()
            await until(lambda: [run for run in shop.runs() if run.workflow == "flow" and run.finished][5:])
            assert sorted(run.status for run in shop.runs() if run.workflow == "stuck") == ["queued"] * 4 + ["running"] * 2
            for run in shop.runs():
                if run.workflow == "stuck":
                    await asyncio.to_thread(engine.cancel, run.id, "test")

    asyncio.run(main())


def test_a_change_reaches_its_first_step_within_a_second(shop: Workshop) -> None:
    """At ten changes a second; half of them wake the engine, the others are found by polling."""

    async def main() -> None:
        async with shop.running(workflow(NOTE, extra="limits: {concurrency: 20}")) as engine:
            for number in range(30):
                await asyncio.to_thread(shop.incident)
                if number % 2:
                    engine.wake()
                await asyncio.sleep(0.1)
            await until(finished(shop, 30))

    asyncio.run(main())
    lags = sorted(((shop.steps(run.id)["a"].started or 0) - run.triggered) / 1e9 for run in shop.runs())
    assert lags[-2] < 1, [f"{lag:.3f}" for lag in lags]


def test_verdicts_and_runs_point_at_each_other(shop: Workshop) -> None:
    shop.incident()
    decide(shop, workflow(NOTE))
    (dispatch,), (run,) = shop.rows(Dispatch), shop.rows(Run)
    assert (dispatch.run, dispatch.incident, dispatch.outbox) == (run.id, 1, 1)
    assert run.key == "flow:1"
