"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("here", deadline=None)  # how long an example takes says nothing on a machine that does other things
settings.load_profile("here")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """The development data sets: NINEFOLD_DATA, else ../shared/data beside the checkout; tests that need them skip without."""
    folder = Path(os.environ.get("NINEFOLD_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}; set NINEFOLD_DATA")
    return folder
