"""Runs: from a change to results that others can see, with retries, proofs, taking back, and no secret in the book."""

from __future__ import annotations

import asyncio
import json

import pytest
from workshop import Workshop, finished, until, workflow

from ninefold.store.records.base import Outbox
from ninefold.store.records.incidents import Ledger
from ninefold.store.records.workflows import Definition, Step

TWO = """
- id: one
  uses: bench.look
  with: {text: "${{ incident.id }} ${{ event.kind }} ${{ incident.severity }}"}
- id: two
  uses: bench.put
  when: steps.one.result.count == 1
  with: {text: "after ${{ steps.one.result.count }} ${{ vars.who }}"}
- id: three
  uses: bench.put
  when: incident.severity == "info"
  with: {text: never}
"""


def run_one(shop: Workshop, steps: str, **options: str) -> str:
    """Open an incident, run one workflow to its end, return the run's status."""

    async def main() -> str:
        async with shop.running(workflow(steps, **options)):
            shop.incident()
            return (await until(finished(shop)))[0].status

    return asyncio.run(main())


def test_a_change_starts_a_run_and_every_transition_is_told(shop: Workshop) -> None:
    assert run_one(shop, TWO, extra="vars: {who: '${{ incident.entity }}'}") == "succeeded"
    (run,) = shop.runs()
    assert (run.workflow, run.incident, run.trigger, run.entity, run.change) == ("flow", 1, "INC-1 opened", "service:checkout", "opened")
    assert shop.done() == ["look INC-1 opened critical", "put after 1 service:checkout"]
    steps = shop.steps()
    assert {name: (step.status, step.attempts, step.risk) for name, step in steps.items()} == {
        "one": ("succeeded", 1, "read"),
        "two": ("succeeded", 1, "write"),
        "three": ("skipped", 0, "write"),
    }
    assert steps["one"].input == {"text": "INC-1 opened critical"}
    assert steps["one"].started is not None
    assert steps["one"].finished is not None
    assert [kind for topic, kind in shop.told() if topic == "run"] == [
        "progress", "started", "progress", "step", "progress", "step", "step", "finished",
    ]  # fmt: skip
    for row in shop.rows(Outbox, Outbox.topic == "run"):
        assert (row.key, row.data["incident"], row.data["workflow"], row.data["run"]) == ("1", "INC-1", "flow", 1)
        assert row.data["title"]
    assert shop.verdicts() == [("flow", "started", "INC-1 opened")]
    (why,) = shop.rows(Ledger)
    assert (why.incident, why.step, why.text) == (1, "workflow", "workflow flow started: INC-1 opened")


def test_no_secret_reaches_the_book_the_outbox_or_an_error(shop: Workshop) -> None:
    steps = """
- {id: a, uses: bench.put, with: {text: bench-secret-key}}
- {id: b, uses: bench.put, with: {text: "${{ steps.a.result.text }}"}}
- {id: c, uses: bench.put, with: {text: "x", troubles: [refused, "bench-secret-key"]}}
"""
    assert run_one(shop, steps) == "failed"
    book = json.dumps([[s.input, s.output, s.error] for s in shop.rows(Step)]) + json.dumps([o.data for o in shop.rows(Outbox)])
    assert "bench-secret-key" not in book
    assert "t0p" not in book
    assert shop.steps()["a"].output == {"text": "••• with •••", "count": 1, "token": "•••"}
    assert shop.done()[1] == "put ••• with •••"  # a later step sees what is kept, with a crash in between or without


@pytest.mark.parametrize("action", ["look", "put", "note"])
def test_what_is_not_available_is_tried_again(shop: Workshop, action: str) -> None:
    steps = f"- {{id: a, uses: bench.{action}, with: {{text: x, troubles: [unavailable, unavailable]}}, retries: {{count: 2, wait: 10ms}}}}"
    assert run_one(shop, steps) == "succeeded"
    assert shop.steps()["a"].attempts == 3
    assert shop.done() == [f"{action} x"]


def test_retries_end(shop: Workshop) -> None:
    steps = "- {id: a, uses: bench.put, with: {text: x, troubles: [unavailable, unavailable]}, retries: {count: 1, wait: 10ms}}"
    assert run_one(shop, steps) == "failed"
    assert shop.runs()[0].error == "step a: the bench is busy (attempts: 2)"
    assert not shop.steps()["a"].sent


@pytest.mark.parametrize(
    ("trouble", "error"), [("refused", "the bench says no"), ("defect", "the connector failed: ZeroDivisionError: a bug in the bench")]
)
def test_a_no_and_a_defect_are_not_tried_again(shop: Workshop, trouble: str, error: str) -> None:
    assert run_one(shop, f"- {{id: a, uses: bench.put, with: {{text: x, troubles: [{trouble}]}}}}") == "failed"
    step = shop.steps()["a"]
    assert (step.attempts, step.error) == (1, error)


@pytest.mark.parametrize("action", ["look", "put"])
def test_a_lost_answer_of_a_repeatable_action_is_asked_for_again(shop: Workshop, action: str) -> None:
    steps = f"- {{id: a, uses: bench.{action}, with: {{text: x, troubles: [lost, slow]}}, timeout: 200ms, retries: {{wait: 10ms}}}}"
    assert run_one(shop, steps) == "succeeded"
    assert shop.done() == [f"{action} x"] * 3


def test_a_conflict_is_reread_by_a_repeatable_action_only(shop: Workshop) -> None:
    steps = """
- {id: a, uses: bench.put, with: {text: x, troubles: [conflict]}, retries: {wait: 10ms}}
- {id: b, uses: bench.note, with: {text: y, troubles: [conflict]}, retries: {wait: 10ms}}
"""
    assert run_one(shop, steps) == "failed"
    assert {name: (step.status, step.attempts) for name, step in shop.steps().items()} == {"a": ("succeeded", 2), "b": ("failed", 1)}


def test_values_that_do_not_fit_fail_before_anything_is_sent(shop: Workshop) -> None:
    assert run_one(shop, "- {id: a, uses: bench.put, with: {text: '${{ incident.alerts }}'}}") == "failed"
    step = shop.steps()["a"]
    assert step.error == "its values do not fit bench.put: text: Input should be a valid string"
    assert (step.attempts, shop.done()) == (0, [])


def test_a_condition_that_cannot_be_evaluated_fails_its_step(shop: Workshop) -> None:
    steps = """
- {id: a, uses: bench.look, with: {text: x}}
- {id: b, uses: bench.put, with: {text: y}, when: steps.a.result.nothing > 3}
"""
    assert run_one(shop, steps) == "failed"
    assert "its condition cannot be evaluated: there is no key 'nothing'" in shop.steps()["b"].error


def test_a_failed_step_may_be_passed_over_and_seen(shop: Workshop) -> None:
    steps = """
- {id: a, uses: bench.put, with: {text: x, troubles: [refused]}, on_failure: continue}
- {id: b, uses: bench.put, with: {text: "${{ steps.a.status }}: ${{ steps.a.error }}"}}
"""
    assert run_one(shop, steps) == "succeeded"
    assert shop.done() == ["put failed: the bench says no"]
    assert shop.runs()[0].error == "step a failed and was passed over: the bench says no"


@pytest.mark.parametrize(
    ("proof", "status", "error"),
    [
        ("{that: result.count == 1}", "succeeded", ""),
        ("{that: result.count == 2}", "failed", "step a: verification failed: result.count == 2: it is false"),
        ("{that: result.nothing == 2}", "failed", "there is no key 'nothing'"),
        ("{that: result.count > 2, uses: bench.look, with: {text: proof}, within: 10s, every: 20ms}", "succeeded", ""),
        ("{that: result.count > 999, uses: bench.look, with: {text: proof}, within: 100ms, every: 20ms}", "failed", "it is false"),
        ("{that: 'true', uses: bench.look, with: {text: p, troubles: [unavailable]}, within: 5s, every: 20ms}", "succeeded", ""),
        ("{that: result.count == 1, uses: bench.look, with: {text: p, troubles: [refused]}}", "failed", "the bench says no"),
    ],
)
def test_a_step_proves_that_it_helped(shop: Workshop, proof: str, status: str, error: str) -> None:
    assert run_one(shop, f"- {{id: a, uses: bench.note, with: {{text: x}}, verify: {proof}}}") == status
    assert error in shop.runs()[0].error
    assert shop.done().count("note x") == 1
    assert shop.steps()["a"].sent


BACK = """
- {id: a, uses: bench.put, with: {text: a}, rollback: {uses: bench.put, with: {text: "undo a ${{ steps.a.result.count }}"}}}
- {id: b, uses: bench.put, with: {text: b}}
- {id: c, uses: bench.put, with: {text: c}, when: 'false', rollback: {uses: bench.put, with: {text: undo c}}}
- {id: d, uses: bench.put, with: {text: d}, rollback: {uses: bench.put, with: {text: undo d}}}
- id: e
  uses: bench.put
  with: {text: e, troubles: [%s]}
  retries: {count: 0}
  verify: {that: 'false'}
  on_failure: rollback
  rollback: {uses: bench.put, with: {text: undo e}}
"""


@pytest.mark.parametrize(
    ("trouble", "undone"),
    [
        ("refused", ["put undo d", "put undo a 1"]),
        ("unavailable", ["put undo d", "put undo a 1"]),
        ("", ["put e", "put undo e", "put undo d", "put undo a 1"]),
        ("lost", ["put e", "put undo e", "put undo d", "put undo a 1"]),
    ],
)
def test_what_took_effect_is_taken_back_last_first(shop: Workshop, trouble: str, undone: list[str]) -> None:
    assert run_one(shop, BACK % trouble) == "failed"
    assert shop.done() == ["put a", "put b", "put d", *undone]
    assert shop.steps()["a.rollback"].status == "succeeded"
    assert "step d was taken back; step a was taken back" in shop.runs()[0].error


def test_a_no_that_comes_half_way_is_taken_back_too(shop: Workshop) -> None:
    steps = """
- id: a
  uses: bench.note
  with: {text: a, troubles: [half]}
  on_failure: rollback
  rollback: {uses: bench.put, with: {text: "undo a ${{ steps.a.result.count }}"}}
"""
    assert run_one(shop, steps) == "failed"
    assert shop.done() == ["note a", "put undo a 7"]
    assert shop.steps()["a"].output == {"text": "half", "count": 7, "token": ""}
    assert shop.runs()[0].error == "step a: the bench broke on the way; step a was taken back"


def test_a_rollback_that_fails_is_told_and_the_others_go_on(shop: Workshop) -> None:
    assert run_one(shop, (BACK % "refused").replace("text: undo d", "text: undo d, troubles: [refused]")) == "failed"
    assert shop.done()[-1] == "put undo a 1"
    assert "step d could not be taken back (failed: the bench says no); step a was taken back" in shop.runs()[0].error


def test_a_run_goes_on_with_the_text_it_began_with(shop: Workshop) -> None:
    run_one(shop, TWO, extra="vars: {who: x}")
    (definition,) = shop.rows(Definition)
    assert definition.digest == shop.runs()[0].digest
    assert "vars: {who: x}" in definition.source


def test_an_answer_too_large_to_keep_is_left_out_and_said(shop: Workshop) -> None:
    long = "y" * 300_000
    assert run_one(shop, f"- {{id: a, uses: bench.put, with: {{text: {long}}}}}") == "succeeded"
    output = shop.steps()["a"].output
    assert output is not None
    assert output["omitted"].startswith("the answer had 300")
