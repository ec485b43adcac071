"""The workflow language: YAML as strict models. Unknown keys are errors that name file, line and path.

```yaml
name: page-on-critical
mode: auto
trigger:
  incident: {on: [opened], when: 'incident.severity == "critical"'}
steps:
  - id: tell
    uses: team.send
    with: {title: "${{ incident.title }}", body: "${{ incident.id }} on ${{ incident.entity }}"}
```

Times are written as in Prometheus (``30s``, ``5m``, ``1h30m``), conditions and ``${{ … }}`` in CEL. YAML is read by the rules of
version 1.2, so ``on`` and ``off`` are words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, PrivateAttr, ValidationError, model_validator

from ninefold.ground.errors import ConfigError
from ninefold.plugin import Risk, Strict
from ninefold.workflows import expression

ROOTS = ("incident", "event", "steps", "vars", "run")
"""What expressions of steps see; `result` as well in `verify`; a trigger sees `incident` and `event`."""
_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", re.ASCII)
_SECONDS = (31_536_000, 604_800, 86_400, 3600, 60, 1, 0.001)
_STEP_NAMED = re.compile(r"""\bsteps\s*(?:\.\s*([A-Za-z_]\w*)|\[\s*["']([^"']*)["']\s*\])""")


def seconds(value: Any) -> float:
    """The seconds of a duration written as in Prometheus, e.g. 5400.0 for ``1h30m``; ``0`` needs no unit.

    Raises:
        ValueError: it is not one.
    """
    text = str(value)
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if isinstance(value, bool) or not text or match is None:
        raise ValueError(f"{value!r} is not a duration; write it as 30s, 5m or 1h30m")
    return float(sum(int(number) * unit for number, unit in zip(match.groups(), _SECONDS, strict=True) if number))


def _condition(*roots: str) -> Any:
    def check(value: Any) -> Any:
        text = str(value).lower() if isinstance(value, bool) else value
        return expression.check(text, roots) if isinstance(text, str) else text

    return BeforeValidator(check)


def _filled(value: Any) -> Any:
    for text in expression.expressions(value):
        expression.check(text, ROOTS)
    return value


Duration = Annotated[float, BeforeValidator(seconds)]
Condition = Annotated[str, _condition(*ROOTS)]
Outcome = Annotated[str, _condition(*ROOTS, "result")]
TriggerCondition = Annotated[str, _condition("incident", "event")]
Values = Annotated[dict[str, JsonValue], AfterValidator(_filled)]
Uses = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.[a-z][a-z0-9_]*$", description="connector.action")]
Mode = Literal["observe", "suggest", "approve", "auto"]
IncidentChange = Literal[
    "opened", "explained", "acknowledged", "assigned", "mitigated", "severity", "teams", "resolved", "reopened", "merged"
]  # fmt: skip


class IncidentTrigger(Strict):
    """Changes of incidents that start a run."""

    on: list[IncidentChange] = Field(min_length=1)
    when: TriggerCondition = Field("true", description="Sees `incident` and `event`.")


class Trigger(Strict):
    """What starts a run. A person may start any workflow; one with `manual` alone is started by nothing else."""

    incident: IncidentTrigger | None = None
    manual: Literal[True] | None = None

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.incident is None and self.manual is None:
            raise ValueError("needs `incident` or `manual: true`")
        return self


class Limits(Strict):
    """The brakes of one workflow; a person who starts it by hand is not held by them."""

    cool_down: Duration = Field(0.0, description="Quiet time after a run before the next for the same thing.")
    cool_down_per: Literal["change", "incident", "entity", "workflow"] = Field(
        "entity", description="What the same thing is; change: the same kind of change of the same incident."
    )
    max_runs_per_hour: int = Field(60, ge=1)
    concurrency: int = Field(4, ge=1, description="Runs at the same time; those of one incident always follow one another.")
    max_age: Duration = Field(3600.0, description="A change older than this starts nothing, e.g. after a long stop.")


class Retries(Strict):
    """How often to try again when the other side is not available; the wait doubles each time, up to a minute."""

    count: int = Field(2, ge=0, le=20)
    wait: Duration = 2.0


class ApprovalRule(Strict):
    """Who may let a step go ahead, and until when."""

    ttl: Duration = Field(86_400.0, gt=0, description="Unanswered, the request expires and the run ends as rejected.")
    role: Literal["operator", "admin"] = "operator"


class Verify(Strict):
    """The proof that a step did what it was for: a condition over its `result`, or over that of another, reading action."""

    that: Outcome
    uses: Uses | None = Field(None, description="An action of risk read whose answer becomes `result`.")
    ask: Values = Field(default_factory=dict, alias="with")
    within: Duration = Field(0.0, description="Keep looking this long before saying no.")
    every: Duration = Field(5.0, gt=0)


class Rollback(Strict):
    """The action that takes a step back."""

    uses: Uses
    ask: Values = Field(default_factory=dict, alias="with")


class Step(Strict):
    """One action of one connector."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$", description="Its result is `steps.<id>.result`.")
    uses: Uses
    ask: Values = Field(default_factory=dict, alias="with")
    when: Condition = "true"
    retries: Retries = Retries()
    timeout: Duration = Field(60.0, gt=0, description="Of one attempt.")
    risk: Risk | None = Field(None, description="A higher risk than the action's own.")
    approval: ApprovalRule | None = Field(None, description="Ask a person whatever the risk, by these rules.")
    verify: Verify | None = None
    on_failure: Literal["stop", "continue", "rollback"] = Field("stop", description="rollback takes back all steps done so far.")
    rollback: Rollback | None = None


class Workflow(Strict):
    """A workflow: what starts it, what holds it back, what it does."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    description: str = ""
    enabled: bool = True
    mode: Mode = Field(
        "approve",
        description="observe: only say that it would have run. suggest: a person starts each run. approve: a person allows each step "
        "that is not just reading. auto: a person allows only dangerous steps.",
    )
    trigger: Trigger
    vars: Values = Field(default_factory=dict, description="Filled in when a run begins; `incident` and `event` are known then.")
    limits: Limits = Limits()
    steps: list[Step] = Field(min_length=1, max_length=100)
    _source: str = PrivateAttr("")

    @property
    def source(self) -> str:
        """The YAML it was read from; a run goes on with the text it began with."""
        return self._source

    @property
    def digest(self) -> str:
        """The version: 16 hex digits of the text's SHA-256."""
        return hashlib.sha256(self._source.encode()).hexdigest()[:16]

    @model_validator(mode="after")
    def _order(self) -> Self:
        known: set[str] = set()
        for step in self.steps:
            if step.id in known:
                raise ValueError(f"the step id {step.id!r} is used twice")
            _only_named(step.id, [step.when, *expression.expressions(step.ask)], known)
            known.add(step.id)
            later = [step.verify.that, *expression.expressions(step.verify.ask)] if step.verify else []
            later += expression.expressions(step.rollback.ask) if step.rollback else []
            _only_named(step.id, later, known)
        _only_named("vars", expression.expressions(self.vars), set())
        return self


def _only_named(where: str, texts: Iterable[str], known: set[str]) -> None:
    for text in texts:
        for dotted, quoted in _STEP_NAMED.findall(text):
            if (dotted or quoted) not in known:
                raise ValueError(f"{where} names the step {dotted or quoted!r}, which is none of the earlier steps")


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's plain words (no ``on``, no dates, no base 60) and without silent duplicate keys."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the base class's form

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
            if isinstance(key.value, str):
                seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first.replace("\0", ""), ""])


def parse(text: str, file: str = "workflow") -> Workflow:
    """A checked workflow from its YAML text.

    Args:
        text: one YAML document.
        file: its name, for messages.

    Raises:
        ConfigError: it is not YAML, or not a workflow; each problem with line and path.
    """
    try:
        node, data = _read(text)
        workflow = Workflow.model_validate(data)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is not YAML: {error}") from error
    except ValidationError as error:
        raise ConfigError("; ".join(_told(file, node, fault["loc"], fault["msg"]) for fault in error.errors())) from error
    workflow._source = text
    return workflow


def _read(text: str) -> tuple[yaml.Node | None, Any]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return node, loader.construct_document(node) if node is not None else None
    finally:
        loader.dispose()


def load(path: Path) -> Workflow:
    """The workflow in a file.

    Raises:
        ConfigError: it cannot be read or is wrong.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def load_folder(folder: Path) -> list[Workflow]:
    """The workflows of a folder's ``*.yaml`` and ``*.yml`` files, by name.

    Raises:
        ConfigError: the folder or a file cannot be read, one is wrong, or two have the same name.
    """
    if not folder.is_dir():
        raise ConfigError(f"the workflow folder {folder} does not exist; set `workflows.path`")
    files: dict[str, Path] = {}
    found: dict[str, Workflow] = {}
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        workflow = load(path)
        if workflow.name in found:
            raise ConfigError(f"{path} and {files[workflow.name]} both name their workflow {workflow.name!r}")
        found[workflow.name], files[workflow.name] = workflow, path
    return [found[name] for name in sorted(found)]


def _told(file: str, node: yaml.Node | None, place: Sequence[int | str], message: str) -> str:
    line, path = 1, ""
    for part in place:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            node, line = (pair[1], pair[0].start_mark.line + 1) if pair else (None, line)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return f"{file}:{line}: {path or 'workflow'}: {message.removeprefix('Value error, ')}"
