"""Fixtures of the on-call tests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from switchboard import MakeBoard, Switchboard


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    Switchboard(folder).records.close()
    return folder / "records.db"


@pytest.fixture
def make_board(tmp_path: Path, _template: Path) -> Iterator[MakeBoard]:
    """Makes the switchboard of a test; `anna="down"` is a pager with that trouble."""
    made: list[Switchboard] = []

    def make(**troubles: str) -> Switchboard:
        shutil.copy(_template, tmp_path / "records.db")
        made.append(Switchboard(tmp_path, fresh=False, **troubles))
        return made[-1]

    yield make
    for each in made:
        each.records.close()


@pytest.fixture
def board(make_board: MakeBoard) -> Switchboard:
    return make_board()
