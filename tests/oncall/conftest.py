"""Fixtures of the on-call tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from switchboard import Switchboard


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Switchboard]:
    made = Switchboard(tmp_path)
    yield made
    made.records.close()
