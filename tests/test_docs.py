"""The documentation is true: its examples parse, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import build_docs
import pytest
import typer
import yaml

from ninefold.cli import app as cli
from ninefold.config import Config, parse
from ninefold.plugin import plugins
from ninefold.sources.webhook import Reader
from ninefold.workflows import language

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "decisions").glob("*.md")])
PLACEHOLDER = "n9_…"


class Example(NamedTuple):
    """A fenced block: its language, its text and where it stands."""

    page: Path
    line: int
    language: str
    text: str


def examples() -> Iterator[Example]:
    """Every fenced block of the documentation."""
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            yield Example(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])


def named(*starts: str, language: str = "yaml") -> list[Example]:
    """The blocks of a language whose first line is ``# <start>``."""
    return [e for e in examples() if e.language == language and e.text.partition("\n")[0].removeprefix("# ") in starts]


def of(example: Example) -> str:
    return f"{example.page.name}:{example.line}"


def test_every_yaml_example_says_what_it_is() -> None:
    known = {"ninefold.yaml", "workflow", "prometheus.yml", "alertmanager.yml"}
    odd = [of(e) for e in examples() if e.language == "yaml" and e.text.partition("\n")[0].removeprefix("# ") not in known]
    assert not odd


@pytest.mark.parametrize("example", named("ninefold.yaml"), ids=of)
def test_configurations_are_accepted(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in re.findall(r"\$\{(\w+)\}", example.text):
        monkeypatch.setenv(name, "secret")
    config = parse(yaml.safe_load(example.text))
    assert config != Config()
    for name, webhook in config.webhooks.items():
        Reader(name, webhook)
    connectors = plugins("connectors")
    for settings in config.connectors.values():
        kind = connectors[settings["type"]]
        kind.Config.model_validate({key: value for key, value in settings.items() if key != "type"})


@pytest.mark.parametrize(
    "example", [*named("workflow"), *(Example(p, 1, "yaml", p.read_text()) for p in ROOT.glob("examples/workflows/*.y*ml"))], ids=of
)
def test_workflows_are_accepted(example: Example) -> None:
    workflow = language.parse(example.text, of(example))
    actions = [(name, action.ask) for connector in plugins("connectors").values() for name, action in connector.actions().items()]
    for step in workflow.steps:
        asks = [ask for name, ask in actions if name == step.uses.partition(".")[2]]
        fields = [{field.alias or name for name, field in ask.model_fields.items()} for ask in asks]
        assert any(set(step.ask) <= known for known in fields), f"{step.id}: no connector's {step.uses} takes {sorted(step.ask)}"


@pytest.mark.real
@pytest.mark.parametrize(
    ("example", "command"),
    [(e, ["promtool", "check", "config"]) for e in named("prometheus.yml")]
    + [(e, ["amtool", "check-config"]) for e in named("alertmanager.yml")],
    ids=lambda value: of(value) if isinstance(value, Example) else value[0],
)
def test_peers_accept_their_configuration(example: Example, command: list[str], tmp_path: Path) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    path = tmp_path / "config.yml"
    path.write_text(example.text)
    done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real
@pytest.mark.parametrize("example", named("rsyslog", language=""), ids=of)
def test_rsyslog_accepts_its_configuration(example: Example, tmp_path: Path) -> None:
    if shutil.which("rsyslogd") is None:
        pytest.skip("rsyslogd is not installed")
    path = tmp_path / "rsyslog.conf"
    path.write_text(example.text)
    done = subprocess.run(["rsyslogd", "-N1", "-f", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def commands() -> list[str]:
    """Every `ninefold …` and `make …` in shell blocks and in code spans."""
    lines = [line.strip() for e in examples() if e.language == "sh" for line in e.text.splitlines()]
    spans = [span for page in PAGES for span in re.findall(r"`((?:ninefold|make) [^`]+)`", page.read_text())]
    return sorted({text for text in lines + spans if text.startswith(("ninefold ", "make "))})


@pytest.mark.parametrize("text", [text for text in commands() if text.startswith("ninefold ")])
def test_commands_exist(text: str) -> None:
    command = typer.main.get_command(cli)
    for word in shlex.split(text)[1:]:
        # A word after a command that has no sub-commands is an argument.
        known = getattr(command, "commands", None)
        if word.startswith("-"):
            options = {option for parameter in command.params for option in parameter.opts}
            assert word.partition("=")[0] in options, f"{text}: {command.name} has no {word}"
        elif known is not None:
            assert word in known, f"{text}: {command.name} has no {word}"
            command = known[word]


def test_commands_of_the_readme_are_all_there_are() -> None:
    readme = (ROOT / "README.md").read_text()
    groups = typer.main.get_command(cli).commands  # type: ignore[attr-defined]
    assert {name for name in groups if f"`ninefold {name}" not in readme} == set()


@pytest.mark.parametrize("text", [text for text in commands() if text.startswith("make ")])
def test_make_targets_exist(text: str) -> None:
    target = text.split()[1]
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http") and target != "bench/RESULTS.md":
            assert (page.parent / target).exists(), target


def test_pages_fit_their_budgets() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 200
    for page in (ROOT / "decisions").glob("*.md"):
        assert len(page.read_text().splitlines()) <= 60, page.name


def test_reference_pages_are_those_of_the_code() -> None:
    written = {page.name: page.read_text() for page in (ROOT / "docs" / "sources").glob("*.md")}
    assert written == build_docs.pages(), "run `make docs`"
