"""The store under test: embedded, and on a real ClickHouse server process."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clickhouse_process import Server

from ninefold.store.telemetry import Telemetry

ROOT = Path(__file__).resolve().parents[2]
OpenStore = Callable[..., Telemetry]


@pytest.fixture(scope="session")
def clickhouse_python() -> str:
    python = os.environ.get("NINEFOLD_CLICKHOUSE_PYTHON", str(ROOT / ".venv-clickhouse" / "bin" / "python"))
    if not Path(python).exists():
        pytest.skip(
            "no ClickHouse server: make .venv-clickhouse as tests/store/clickhouse_server.py says, or set NINEFOLD_CLICKHOUSE_PYTHON"
        )
    return python


@pytest.fixture(scope="session")
def clickhouse(clickhouse_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(clickhouse_python, tmp_path_factory.mktemp("clickhouse"))
    yield server
    server.kill()


@pytest.fixture(params=["embedded", pytest.param("server", marks=pytest.mark.real)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the store of this test; a second call opens the same one again (close the first before)."""
    if request.param == "embedded":
        url, database = f"chdb://{tmp_path / 'store'}", "ninefold"
    else:
        url, database = request.getfixturevalue("clickhouse").url, f"test_{uuid.uuid4().hex[:12]}"
    opened: list[Telemetry] = []

    def open_(**options: object) -> Telemetry:
        store = Telemetry(url, database, **options)  # type: ignore[arg-type]
        store.open()
        opened.append(store)
        return store

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> Telemetry:
    return open_store()
