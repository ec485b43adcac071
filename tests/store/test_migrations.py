"""The migrations lead to exactly the tables that the records' classes describe, on both databases."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from ninefold.ground.errors import ConfigError, Unavailable
from ninefold.store.records import base, migrate
from ninefold.store.records.access import create_token, find_token
from ninefold.store.records.base import Base, Outbox, Records


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL made for this test run, listening on a socket only."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb") or (str(folders[-1]) if folders else "")
    if not initdb:
        pytest.skip("PostgreSQL is not installed")
    folder = tempfile.mkdtemp(prefix="ninefold-pg-")
    as_user: dict[str, object] = {"user": "postgres", "cwd": folder} if os.geteuid() == 0 else {}
    shutil.chown(folder, "postgres") if as_user else None
    control = str(Path(initdb).with_name("pg_ctl"))
    try:
        subprocess.run([initdb, "-D", f"{folder}/data", "-A", "trust", "-U", "postgres"], check=True, capture_output=True, **as_user)  # type: ignore[call-overload]
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}'"
        subprocess.run([control, "-D", f"{folder}/data", "-w", "-o", options, "-l", f"{folder}/log", "start"], check=True, **as_user)  # type: ignore[call-overload]
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        subprocess.run([control, "-D", f"{folder}/data", "-m", "immediate", "stop"], check=True, **as_user)  # type: ignore[call-overload]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Records]:
    url = f"sqlite:///{tmp_path / 'records.db'}" if request.param == "sqlite" else request.getfixturevalue("postgres")
    records = Records(url)
    yield records
    with records.engine.begin() as connection:
        if request.param == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    records.close()


def differences(records: Records) -> list[object]:
    with records.engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata))


def test_the_migrated_tables_are_those_of_the_classes(records: Records) -> None:
    migrate.upgrade(records)
    assert differences(records) == [], "a record's class changed: write a migration (see store/records/migrate.py)"


def test_migrating_again_keeps_what_is_there(records: Records) -> None:
    migrate.upgrade(records)
    with records.session() as session:
        secret = create_token(session, "alice", "viewer")
        session.add(Outbox(topic="incident", kind="opened", key="INC-1", data={"a": [1, None]}))
    migrate.upgrade(records)
    with records.reading() as session:
        token = find_token(session, secret)
        assert token is not None
        assert token.role == "viewer"
    assert [row.data for row in records.outbox(0)] == [{"a": [1, None]}]


def test_a_database_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    records = Records(f"sqlite:///{tmp_path / 'records.db'}")
    migrate.upgrade(records)
    with records.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError, match="newer"):
        migrate.upgrade(records)
    records.close()


def test_a_database_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_text("this is not a database, and long enough to be taken for one" * 100)
    records = Records(f"sqlite:///{tmp_path / 'records.db'}")
    with pytest.raises(Unavailable, match=r"records\.url"):
        migrate.upgrade(records)
    records.close()


def test_two_programs_may_start_at_once(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = f"sqlite:///{tmp_path / 'records.db'}"
    several = [Records(url) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(migrate.upgrade, several))
    assert differences(several[0]) == []
    for records in several:
        records.close()


def test_changes_become_visible_in_the_order_of_their_numbers(records: Records) -> None:
    """Whoever follows the feed by number must not pass one that is still being written."""
    migrate.upgrade(records)
    with ThreadPoolExecutor(1) as pool:

        def write(key: str) -> None:
            with records.session() as session:
                session.add(Outbox(topic="incident", kind="opened", key=key))

        with records.session() as session:
            session.add(Outbox(topic="incident", kind="opened", key="first"))
            session.flush()
            second = pool.submit(write, "second")
            with pytest.raises(TimeoutError):
                second.result(0.3)
            assert records.outbox(0) == []
        second.result(10)
    assert [change.key for change in records.outbox(0)] == ["first", "second"]


@pytest.mark.real
def test_a_writer_that_does_not_end_holds_others_up_for_a_while_only(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_WAIT_MS", 200)
    records = Records(postgres)
    with records.session() as first:
        first.execute(text("SELECT 1"))
        with pytest.raises(Unavailable, match="lock timeout"), records.session() as second:
            second.execute(text("SELECT 1"))
    records.close()
