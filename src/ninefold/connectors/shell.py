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
from collections.abc import AsyncIterator
from typing import Annotated, BinaryIO, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator

from ninefold.ground.errors import NotFound, OutcomeUnknown, Refused, Unavailable
from ninefold.plugin import Connector, Risk, Strict, action

_PLACEHOLDER = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
_RISKS: tuple[Risk, ...] = ("read", "write", "dangerous")
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
_STOP_WAIT_S = 2.0
_LAST_WORDS_S = 1.0
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
        out, err = _Printed(command.limit_bytes), _Printed(command.limit_bytes)
        try:
            code = await _execute(argv, command, environment, out, err)
        except TimeoutError as error:
            kind = Unavailable if limit == "read" else OutcomeUnknown
            raise kind(f"the command {ask.command!r} was stopped after {command.timeout_s:g} s without an end") from error
        except OSError as error:
            raise Refused(f"the command {ask.command!r} cannot be started: {error}") from error
        if code not in command.success:
            said = (err.text or out.text).strip()[-_TAIL_CHARS:] or "no output"
            raise Refused(f"the command {ask.command!r} ended with code {code}: {said}", carried_out=command.risk != "read")
        elapsed_s = round(time.perf_counter() - started, 6)
        return Output(exit_code=code, stdout=out.text, stderr=err.text, truncated=out.cut or err.cut, elapsed_s=elapsed_s)


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


class _Printed(asyncio.Protocol):
    """What a command prints on one stream, as far as it is kept; `over` when nobody can print there any more."""

    def __init__(self, limit: int) -> None:
        self._limit, self._kept, self.cut, self.over = limit, bytearray(), False, asyncio.Event()

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace")

    def data_received(self, data: bytes) -> None:
        room = self._limit - len(self._kept)
        self._kept += data[:room]
        self.cut = self.cut or len(data) > room

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()


async def _execute(argv: list[str], command: Command, environment: dict[str, str], out: _Printed, err: _Printed) -> int:
    """Run a command to its own end and give its exit code; what it started and left behind is ended then.

    Raises:
        OSError: it cannot be started.
        TimeoutError: its time is over; it is ended.
    """
    async with _pipe(out) as stdout, _pipe(err) as stderr:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=command.directory,
            env=environment,
            start_new_session=True,
        )
        try:
            stdout.close()
            stderr.close()
            async with asyncio.timeout(command.timeout_s):
                code = await process.wait()
            with contextlib.suppress(TimeoutError):  # a child may hold the streams open for as long as it likes
                async with asyncio.timeout(_LAST_WORDS_S):
                    await asyncio.gather(out.over.wait(), err.over.wait())
            return code
        finally:
            await _stop(process)


@contextlib.asynccontextmanager
async def _pipe(reader: _Printed) -> AsyncIterator[BinaryIO]:
    """The writing end of a pipe whose other end `reader` reads. asyncio's own pipes would make it wait for the end of all writers."""
    ours, theirs = os.pipe()
    reading = os.fdopen(ours, "rb", 0)  # the transport closes it
    with os.fdopen(theirs, "wb", 0) as writing:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: reader, reading)
        try:
            yield writing
        finally:
            transport.close()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """End the command and everything it started: politely if it still runs, then not."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_WAIT_S):
                await process.wait()
    _signal(process, signal.SIGKILL)
    await process.wait()


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
