"""The house has floors: a module imports from floors below its own, never from above, and rooms of one floor stay apart."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[1] / "src" / "ninefold"
FLOORS = (
    {"ground", "model", "__init__"},
    {"plugin", "config"},
    {"analytics", "catalogue", "store", "journal", "engine", "sources", "connectors"},
    {"normalise", "incidents", "workflows", "roadmap", "promql", "stewardship", "foresight", "oncall", "demo"},
    {"app"},
    {"cli", "web", "__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
APART = (2, 3)
"""Floors whose rooms never import one another."""
NOTEBOOK = {"numpy", "numba", "scipy", "pyarrow", "ninefold"}
"""All that the analytics need: they run in a notebook, in a back-test and in another engine."""


def imports(path: Path) -> Iterator[str]:
    """Every absolute module name a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" if node.module == "ninefold" else str(node.module) for alias in node.names)


def room_of(module: str) -> str:
    """The room of a `ninefold.…` module name; names of the package itself, such as `__version__`, are the ground."""
    room = module.split(".")[1] if "." in module else "__init__"
    return room if room in FLOOR else "__init__"


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem if path.is_file() else path.name for path in SRC.iterdir() if path.suffix == ".py" or any(path.rglob("*.py"))}
    assert rooms <= FLOOR.keys(), f"no floor for {rooms - FLOOR.keys()}"


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda path: str(path.relative_to(SRC)))
def test_imports_go_down(path: Path) -> None:
    here = path.relative_to(SRC).parts[0].removesuffix(".py")
    for module in imports(path):
        if module.split(".")[0] != "ninefold":
            continue
        there = room_of(module)
        assert FLOOR[there] <= FLOOR[here], f"{here} (floor {FLOOR[here]}) imports {module} (floor {FLOOR[there]})"
        assert there == here or FLOOR[here] != FLOOR[there] or FLOOR[here] not in APART, f"{here} imports its neighbour {module}"


@pytest.mark.parametrize("path", sorted((SRC / "analytics").rglob("*.py")), ids=lambda path: path.name)
def test_analytics_run_in_a_notebook(path: Path) -> None:
    packages = {module.split(".")[0] for module in imports(path)}
    assert packages <= NOTEBOOK | sys.stdlib_module_names, packages - NOTEBOOK - sys.stdlib_module_names
