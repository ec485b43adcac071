"""Commands of this machine: only those the configuration lists, never through a shell.

```yaml
connectors:
  shell:
    type: shell
    commands:
      disk: {argv: [df, -h, "{path}"], parameters: {path: "/[a-z/]*"}, risk: read}
      restart: {argv: [systemctl, restart, "{unit}"], parameters: {unit: "[a-z-]+"}}
```

A workflow says ``uses: shell.inspect`` (runs commands of risk read), ``shell.change`` (read and write) or ``shell.run`` (any,
itself dangerous, so that a person is asked). An argument fills a placeholder inside one element of `argv` and must match its pattern
as a whole: it can never become a second argument, an option or a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from ninefold.ground.errors import NotFound, OutcomeUnknown, Refused, Unavailable
from ninefold.plugin import Connector, Risk, Strict, action

_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_RISKS: tuple[Risk, ...] = ("read", "write", "dangerous")
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_STOP_WAIT_S = 2.0
_TAIL_CHARS = 300


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from error
    return text


class Command(Strict):
    """One allowed command."""

    argv: tuple[str, ...] = Field(min_length=1, description="Program and arguments; `{name}` is filled in from the step.")
    parameters: dict[str, Annotated[str, AfterValidator(_regex)]] = Field(
        default_factory=dict, description="Placeholder -> regular expression its value must match as a whole."
    )
    risk: Risk = "dangerous"
    timeout_s: float = Field(60.0, gt=0, le=3600)
    limit_bytes: int = Field(32 << 10, ge=1, le=256 << 10, description="Output kept of each stream; the rest is dropped and marked.")
    directory: str | None = None
    environment: dict[str, SecretStr] = Field(default_factory=dict, description="Beside PATH, HOME, language and time zone.")
    success: tuple[int, ...] = Field((0,), description="Exit codes that mean success.")

    @model_validator(mode="after")
    def _placeholders(self) -> Self:
        used = {name for part in self.argv for name in _PLACEHOLDER.findall(part)}
        if used != set(self.parameters):
            raise ValueError(f"`parameters` must name exactly the placeholders of `argv`: {', '.join(sorted(used)) or 'none'}")
        if _PLACEHOLDER.search(self.argv[0]):
            raise ValueError("the program itself cannot be a placeholder")
        return self


class Run(Strict):
    """Which command to run, with which arguments."""

    command: str
    arguments: dict[str, str | int] = Field(default_factory=dict)


class Output(Strict):
    """What it printed."""

    exit_code: int
    stdout: str
    stderr: str
    truncated: bool = Field(description="One of the streams was longer than the limit.")
    elapsed_s: float


class Shell(Connector):
    """Allowed commands of the machine Ninefold runs on."""

    kind: ClassVar[str] = "shell"

    class Config(Strict):
        """The commands by name."""

        commands: dict[str, Command] = Field(min_length=1)

    @action(risk="read", idempotent=True)
    async def inspect(self, ask: Run) -> Output:
        """Run a command of risk read."""
        return await self._run(ask, "read")

    @action(risk="write")
    async def change(self, ask: Run) -> Output:
        """Run a command of risk read or write."""
        return await self._run(ask, "write")

    @action(risk="dangerous")
    async def run(self, ask: Run) -> Output:
        """Run any allowed command."""
        return await self._run(ask, "dangerous")

    async def check(self) -> str:
        """Look for each program on the machine.

        Raises:
            Unavailable: one is not there or may not be executed.
        """
        paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
        for name, command in self.config.commands.items():
            program = command.argv[0]
            places = [program] if os.sep in program else [os.path.join(path, program) for path in paths]
            if not any(os.access(place, os.X_OK) for place in places):
                raise Unavailable(f"the program {program!r} of command {name!r} is not on this machine")
        return f"{len(self.config.commands)} commands: {', '.join(sorted(self.config.commands))}"

    async def _run(self, ask: Run, limit: Risk) -> Output:
        command = self.config.commands.get(ask.command)
        if command is None:
            raise NotFound(f"there is no command {ask.command!r}; the commands are {', '.join(sorted(self.config.commands))}")
        if _RISKS.index(command.risk) > _RISKS.index(limit):
            raise Refused(f"the command {ask.command!r} is {command.risk}; this action runs commands up to {limit}")
        argv = fill(command, {name: str(value) for name, value in ask.arguments.items()})
        started = time.perf_counter()
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment |= {name: value.get_secret_value() for name, value in command.environment.items()}
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                cwd=command.directory,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise Refused(f"the command {ask.command!r} cannot be started: {error}") from error
        try:
            async with asyncio.timeout(command.timeout_s):
                (out, out_cut), (err, err_cut), code = await asyncio.gather(
                    _read(process.stdout, command.limit_bytes), _read(process.stderr, command.limit_bytes), process.wait()
                )
        except TimeoutError as error:
            kind = Unavailable if limit == "read" else OutcomeUnknown
            raise kind(f"the command {ask.command!r} was stopped after {command.timeout_s:g} s without an end") from error
        finally:
            await _stop(process)
        if code not in command.success:
            raise Refused(f"the command {ask.command!r} ended with code {code}: {(err or out).strip()[-_TAIL_CHARS:] or 'no output'}")
        elapsed_s = round(time.perf_counter() - started, 6)
        return Output(exit_code=code, stdout=out, stderr=err, truncated=out_cut or err_cut, elapsed_s=elapsed_s)


def fill(command: Command, arguments: dict[str, str]) -> list[str]:
    """The argument list of a command with its placeholders filled in.

    Raises:
        Refused: an argument is missing, not asked for, or does not match its pattern.
    """
    if set(arguments) != set(command.parameters):
        raise Refused(f"the command takes exactly these arguments: {', '.join(sorted(command.parameters)) or 'none'}")
    for name, value in arguments.items():
        if "\0" in value or not re.fullmatch(command.parameters[name], value):
            raise Refused(f"the argument {name}={value!r} does not match {command.parameters[name]!r}")
    filled = [_PLACEHOLDER.sub(lambda match: arguments[match.group(1)], part) for part in command.argv]
    for part, template in zip(filled, command.argv, strict=True):
        if part.startswith("-") and not template.startswith("-"):
            raise Refused(f"the argument {part!r} would be read as an option; arguments may not begin with a dash")
    return filled


async def _read(stream: asyncio.StreamReader | None, limit: int) -> tuple[str, bool]:
    assert stream is not None
    kept, cut = bytearray(), False
    while chunk := await stream.read(65536):
        room = limit - len(kept)
        kept += chunk[:room]
        cut = cut or len(chunk) > room
    return kept.decode("utf-8", "replace"), cut


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the command and everything it started: politely, then not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WAIT_S):
                await process.wait()
