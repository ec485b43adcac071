"""The shell connector: real commands, only those listed, an argument is never more than an argument."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ninefold.connectors.shell import Command, Shell, fill
from ninefold.ground.errors import NotFound, OutcomeUnknown, Refused, Unavailable

PYTHON = sys.executable


def run(commands: dict[str, Any], verb: str, command: str, **arguments: Any) -> Any:
    connector = Shell(Shell.Config.model_validate({"commands": commands}))
    action = connector.actions()[verb]
    return asyncio.run(action.call(connector, action.ask.model_validate({"command": command, "arguments": arguments})))


def gone(child: int) -> None:
    """Wait until a process has ended."""
    deadline = time.monotonic() + 5
    with contextlib.suppress(FileNotFoundError):
        while "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
            assert time.monotonic() < deadline, "the command's child lives on"
            time.sleep(0.02)


def test_a_command_gives_its_output_and_code() -> None:
    code = "import sys; print('out', sys.argv[1:]); print('err', file=sys.stderr); sys.exit(3)"
    echo = {
        "argv": [PYTHON, "-c", code, "--name={name}", "{n}"],
        "parameters": {"name": ".*", "n": "[0-9]+"},
        "risk": "read",
        "success": [3],
    }
    output = run({"echo": echo}, "inspect", "echo", name="a b; $(touch x) `y` | z", n=7)
    assert output.stdout == "out ['--name=a b; $(touch x) `y` | z', '7']\n"
    assert (output.stderr, output.exit_code, output.truncated) == ("err\n", 3, False)
    assert output.elapsed_s > 0


@pytest.mark.parametrize(
    ("risk", "allowed"),
    [("read", {"inspect", "change", "run"}), ("write", {"change", "run"}), ("dangerous", {"run"})],
)
def test_an_action_runs_commands_up_to_its_own_risk(risk: str, allowed: set[str]) -> None:
    commands = {"c": {"argv": ["true"], "risk": risk}}
    for verb in ("inspect", "change", "run"):
        if verb in allowed:
            assert run(commands, verb, "c").exit_code == 0
        else:
            with pytest.raises(Refused, match=f"is {risk}; this action runs commands up to"):
                run(commands, verb, "c")


def test_a_command_is_dangerous_unless_it_says_otherwise() -> None:
    assert Command(argv=("true",)).risk == "dangerous"
    assert {name: action.risk for name, action in Shell.actions().items()} == {"inspect": "read", "change": "write", "run": "dangerous"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "takes exactly these arguments: path"),
        ({"path": "/a", "more": "x"}, "takes exactly these arguments"),
        ({"path": "/A"}, "does not match"),
        ({"path": "/a\n/b"}, "does not match"),
        ({"path": "x/a"}, "does not match"),
    ],
)
def test_arguments_must_be_asked_for_and_match_as_a_whole(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(Refused, match=message):
        fill(Command(argv=("df", "{path}"), parameters={"path": "/[a-z/]*"}), arguments)


def test_an_argument_never_becomes_an_option() -> None:
    command = Command(argv=("rm", "{name}", "--only={name}"), parameters={"name": ".*"})
    with pytest.raises(Refused, match="read as an option"):
        fill(command, {"name": "-rf"})
    assert fill(Command(argv=("x", "--only={name}"), parameters={"name": ".*"}), {"name": "-rf"}) == ["x", "--only=-rf"]


@settings(deadline=None)
@given(st.text(max_size=50))
def test_whatever_the_argument_the_shape_of_the_command_stays(value: str) -> None:
    command = Command(argv=("prog", "fixed", "a{x}b", "{x}"), parameters={"x": "(?s).*"})
    try:
        argv = fill(command, {"x": value})
    except Refused:
        assert value.startswith("-") or "\0" in value
        return
    assert argv == ["prog", "fixed", f"a{value}b", value]


@pytest.mark.parametrize(
    "command",
    [
        {"argv": []},
        {"argv": ["x", "{a}"]},
        {"argv": ["x"], "parameters": {"a": ".*"}},
        {"argv": ["{a}"], "parameters": {"a": ".*"}},
        {"argv": ["x", "{a}"], "parameters": {"a": "("}},
        {"argv": "rm -rf /"},
        {"argv": ["x"], "shell": True},
    ],
)
def test_a_wrong_command_is_refused_at_the_start(command: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Shell.Config.model_validate({"commands": {"c": command}})


def test_a_failing_missing_or_unknown_command_says_so() -> None:
    fails = {"argv": [PYTHON, "-c", "import sys; sys.exit('it broke')"], "risk": "read"}
    with pytest.raises(Refused, match="ended with code 1: it broke"):
        run({"c": fails}, "inspect", "c")
    with pytest.raises(Refused, match="cannot be started"):
        run({"c": {"argv": ["/no/such/program"], "risk": "read"}}, "inspect", "c")
    with pytest.raises(NotFound, match="there is no command 'd'; the commands are c"):
        run({"c": fails}, "inspect", "d")


def test_long_output_is_cut_and_marked_and_does_not_block() -> None:
    flood = {"argv": [PYTHON, "-c", "print('x' * 3_000_000)"], "risk": "read", "limit_bytes": 1000}
    output = run({"c": flood}, "inspect", "c")
    assert (output.stdout, output.truncated) == ("x" * 1000, True)


@pytest.mark.parametrize(("verb", "error"), [("inspect", Unavailable), ("run", OutcomeUnknown)])
def test_a_command_without_end_is_stopped_with_all_it_started(verb: str, error: type[Exception], tmp_path: Path) -> None:
    note = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid))"
    code = f"import subprocess, time; p = subprocess.Popen(['sleep', '60']); {note}; time.sleep(60)"
    started = time.monotonic()
    with pytest.raises(error, match=r"was stopped after 1\.5 s"):
        run({"c": {"argv": [PYTHON, "-c", code], "risk": "read", "timeout_s": 1.5}}, verb, "c")
    assert time.monotonic() - started < 10
    gone(int((tmp_path / "pid").read_text()))


def test_a_command_is_over_when_it_ends_whatever_it_left_running(tmp_path: Path) -> None:
    code = f"sleep 60 & echo $! > {tmp_path / 'pid'}; echo ok"
    started = time.monotonic()
    output = run({"c": {"argv": ["sh", "-c", code], "risk": "write", "timeout_s": 30}}, "change", "c")
    assert (output.exit_code, output.stdout) == (0, "ok\n")
    assert time.monotonic() - started < 10
    gone(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(("risk", "carried_out"), [("read", False), ("write", True)])
def test_a_command_that_failed_may_have_changed_something(risk: str, carried_out: bool) -> None:
    with pytest.raises(Refused, match="ended with code 3") as told:
        run({"c": {"argv": ["sh", "-c", "exit 3"], "risk": risk}}, "run", "c")
    assert told.value.carried_out == carried_out


def test_a_command_sees_no_more_of_the_environment_than_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINEFOLD_SECRET", "s3cret")
    show = {"argv": [PYTHON, "-c", "import os; print(sorted(os.environ))"], "risk": "read", "environment": {"GIVEN": "1"}}
    shown = run({"c": show}, "inspect", "c").stdout
    assert "GIVEN" in shown
    assert "PATH" in shown
    assert "NINEFOLD_SECRET" not in shown


def test_check_looks_for_the_programs() -> None:
    ok = Shell(Shell.Config.model_validate({"commands": {"a": {"argv": ["true"]}, "b": {"argv": [PYTHON]}}}))
    assert asyncio.run(ok.check()) == "2 commands: a, b"
    bad = Shell(Shell.Config.model_validate({"commands": {"a": {"argv": ["no-such-program-9"]}}}))
    with pytest.raises(Unavailable, match="'no-such-program-9' of command 'a' is not on this machine"):
        asyncio.run(bad.check())
    assert os.sep in PYTHON
