"""A running server for each test that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import Program


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """A running server with defaults."""
    made = Program(tmp_path).start()
    yield made
    made.stop()


@pytest.fixture
def make_program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Makes (and at the end stops) servers with settings of their own."""
    made: list[Program] = []

    def make(**settings: Any) -> Program:
        folder = tmp_path / f"program{len(made)}"
        folder.mkdir()
        made.append(Program(folder, **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop()
