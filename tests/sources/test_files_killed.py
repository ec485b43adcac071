"""A followed file through kill -9: every line once, because the place in the file and the lines before it are one transaction."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ninefold.ground.meter import Meter
from ninefold.journal.sqlite import SqliteJournal
from ninefold.model.signal import Batch
from ninefold.plugin import Lent
from ninefold.sources.files import FileConfig, Files

FOLLOWER = """
    import asyncio, json, sys
    from pathlib import Path
    from ninefold.ground.meter import Meter
    from ninefold.journal.sqlite import SqliteJournal
    from ninefold.plugin import Lent
    from ninefold.sources import tailing
    from ninefold.sources.files import FileConfig, Files
    tailing.BLOCK_BYTES = 2000
    journal = SqliteJournal(Path(sys.argv[1]), ("a",), 1 << 30, Meter())
    async def emit(batches, keep=None):
        await asyncio.wrap_future(journal.append(batches, ("source:app", json.dumps(keep).encode())))
        print(journal.head(), flush=True)
        if journal.head() == 7:
            sys.stdin.readline()  # here it is killed
    lent = Lent(lambda: json.loads(journal.state("source:app") or b"{}"))
    asyncio.run(Files("app", FileConfig(path=sys.argv[2], poll_s=0.001), lent).run(emit))
"""
LINES = 20_000


def test_a_followed_file_comes_once_however_often_the_program_is_killed(tmp_path: Path) -> None:
    path, journal = tmp_path / "app.log", tmp_path / "journal.db"
    path.write_text("".join(f"line {i}\n" for i in range(LINES)))
    command = [sys.executable, "-c", textwrap.dedent(FOLLOWER), str(journal), str(path)]
    follower = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert follower.stdout is not None
    for _ in range(7):
        assert follower.stdout.readline()
    follower.kill()
    follower.wait()
    kept = SqliteJournal(journal, ("a",), 1 << 30, Meter())

    def bodies() -> list[str]:
        return [body for batch in kept.read(0, 100_000) for body in batch.rows.column("body").to_pylist()]

    def place() -> Any:
        return json.loads(kept.state("source:app"))

    durable = bodies()
    assert 1000 < len(durable) < LINES
    assert place()["places"][0]["offset"] == sum(len(body) + 1 for body in durable)

    async def follow() -> None:
        async def emit(batches: Sequence[Batch], keep: Mapping[str, Any] | None = None) -> None:
            await asyncio.wrap_future(kept.append(batches, ("source:app", json.dumps(keep).encode())))

        task = asyncio.create_task(Files("app", FileConfig(path=str(path), poll_s=0.001), Lent(place)).run(emit))
        async with asyncio.timeout(30):
            while place()["places"][0]["offset"] < path.stat().st_size:  # noqa: ASYNC110 - it is another thread that gets there
                await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(follow())
    assert bodies() == [f"line {i}" for i in range(LINES)]
    kept.close()
