"""The workflow language: strict, and its errors name file, line and path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.ground.errors import ConfigError
from ninefold.workflows.language import load, load_folder, parse, seconds

GOOD = """
name: restart-on-critical
description: an example
mode: auto
trigger:
  incident:
    on: [opened, reopened]
    when: 'incident.severity == "critical" && event.kind == "opened"'
vars:
  entity: "${{ incident.entity }}"
  yes: off
  number: 010
  day: 2026-01-02
limits: {cool_down: 1h30m, max_runs_per_hour: 3}
steps:
  - id: look
    uses: shell.inspect
    with: {command: uptime}
    retries: {count: 3, wait: 500ms}
    timeout: 5s
  - id: act
    uses: shell.run
    when: has(steps.look.result.stdout)
    with: {command: restart, arguments: {unit: "${{ vars.entity }}"}}
    approval: {ttl: 10m, role: admin}
    verify: {that: result.exit_code == 0 && steps.act.result.exit_code == 0, within: 1m}
    on_failure: rollback
    rollback: {uses: shell.run, with: {command: undo, arguments: {said: "${{ steps.act.result.stdout }}"}}}
"""


def test_a_workflow_is_read_with_its_defaults() -> None:
    workflow = parse(GOOD)
    assert workflow.trigger.incident is not None
    assert workflow.trigger.incident.on == ["opened", "reopened"]
    assert workflow.limits.cool_down == 5400.0
    assert workflow.limits.concurrency == 4
    assert workflow.vars == {"entity": "${{ incident.entity }}", "yes": "off", "number": "010", "day": "2026-01-02"}
    look, act = workflow.steps
    assert (look.retries.count, look.retries.wait, look.timeout) == (3, 0.5, 5.0)
    assert act.verify is not None
    assert (act.verify.within, act.on_failure, act.approval and act.approval.role) == (60.0, "rollback", "admin")
    assert parse(GOOD).digest == workflow.digest
    assert parse(GOOD + "# a comment\n").digest != workflow.digest


def test_without_a_word_a_workflow_asks_before_it_acts() -> None:
    assert parse("name: a\ntrigger: {manual: true}\nsteps: [{id: x, uses: a.b}]").mode == "approve"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("mode: auto", "mdoe: auto"), "w.yaml:4: mdoe: Extra inputs are not permitted"),
        (("timeout: 5s", "timeout: 5"), r"w.yaml:20: steps\[0\].timeout: 5 is not a duration; write it as 30s"),
        (("uses: shell.inspect", "uses: shell"), r"w.yaml:17: steps\[0\].uses: String should match"),
        (("role: admin", "role: boss"), r"w.yaml:25: steps\[1\].approval.role: Input should be 'operator' or 'admin'"),
        (("has(steps.look.result.stdout)", "has(steps.look"), r"w.yaml:23: steps\[1\].when: not a CEL expression"),
        (("${{ vars.entity }}", "${{ vasr.entity }}"), r"w.yaml:24: steps\[1\].with: unknown name vasr"),
        (("has(steps.look.", "has(steps.later."), "w.yaml:1: workflow: act names the step 'later', which is none of the earlier steps"),
        (("id: act", "id: look"), "the step id 'look' is used twice"),
        (("on: [opened, reopened]", "on: [closed]"), r"w.yaml:7: trigger.incident.on\[0\]: Input should be 'opened'"),
        (("event.kind", "steps.kind"), "w.yaml:8: trigger.incident.when: unknown name steps"),
        (("trigger:", "trigger: {manual: true}\ntrigger:"), "w.yaml:6: the key 'trigger' is given twice"),
        (("limits: {", "limits: {retries: 1, "), "w.yaml:14: limits.retries: Extra inputs"),
        (("result.exit_code == 0 &&", "resutl.exit_code == 0 &&"), r"w.yaml:26: steps\[1\].verify.that: unknown name resutl"),
        (("id: act", "id: Act"), r"w.yaml:21: steps\[1\].id: String should match"),
        (("steps:", "steps"), "w.yaml:1[0-9]"),
    ],
)
def test_a_mistake_is_named_by_file_line_and_path(change: tuple[str, str], message: str) -> None:
    text = GOOD.replace(*change)
    assert text != GOOD
    with pytest.raises(ConfigError, match=message):
        parse(text, "w.yaml")


@pytest.mark.parametrize("text", ["", "- 1", "5", "a: [", "x: *a", "name: a\ntrigger: {}\nsteps: [{id: x, uses: a.b}]", "\x00"])
def test_what_is_no_workflow_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace("mode: auto", "mode: fast").replace("count: 3", "count: 99"), "w.yaml")
    assert "mode" in str(caught.value)
    assert "steps[0].retries.count" in str(caught.value)


def test_a_folder_is_read_and_two_workflows_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(GOOD.replace("restart-on-critical", "another"))
    (tmp_path / "notes.txt").write_text("not a workflow")
    assert [workflow.name for workflow in load_folder(tmp_path)] == ["another", "restart-on-critical"]
    (tmp_path / "c.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"c\.yaml and .*a\.yaml both name their workflow 'restart-on-critical'"):
        load_folder(tmp_path)


def test_a_missing_folder_or_unreadable_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_folder(tmp_path / "none")
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "a.yaml")


UNITS = (("y", 31_536_000), ("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1), ("ms", 0.001))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(UNITS), st.integers(0, 10_000), min_size=1))
def test_durations_are_read_as_prometheus_reads_them(parts: dict[tuple[str, float], int]) -> None:
    ordered = [(unit, parts[unit]) for unit in UNITS if unit in parts]
    text = "".join(f"{number}{name}" for (name, _), number in ordered)
    assert seconds(text) == pytest.approx(sum(number * unit_s for (_, unit_s), number in ordered))


@settings(deadline=None)
@given(st.text(max_size=12))
def test_any_other_text_is_no_duration(text: str) -> None:
    try:
        assert seconds(text) >= 0
    except ValueError as error:
        assert "write it as 30s" in str(error)  # noqa: PT017 - both outcomes are right, another error is not


@pytest.mark.parametrize("value", ["", "5", 5, 1.5, True, None, "1m1h", "1h 30m", "-5m", "5 m", "1.5h", "٣s"])
def test_durations_without_or_with_wrong_units_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(value)


def test_zero_needs_no_unit() -> None:
    assert seconds("0") == seconds(0) == 0.0
