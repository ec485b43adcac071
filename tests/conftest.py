"""Fixtures every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """The development data sets: NINEFOLD_DATA, else ../shared/data beside the checkout; tests that need them skip without."""
    folder = Path(os.environ.get("NINEFOLD_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}; set NINEFOLD_DATA")
    return folder
