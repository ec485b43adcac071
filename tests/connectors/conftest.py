"""Fixtures of the connector tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rt_server import Tracker, missing, request_tracker


@pytest.fixture(scope="session")
def tracker() -> Iterator[Tracker]:
    """A real Request Tracker, started once for all tests that need it."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    with request_tracker() as running:
        yield running
