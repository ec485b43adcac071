"""The fixture of the room."""

from __future__ import annotations

import pytest
from operating import Operation


@pytest.fixture
def operation() -> Operation:
    return Operation()
