"""A real ClickHouse server for the tests: the full chDB wheel carries the server's HTTP listener.

It runs in an environment of its own, because the wheel conflicts with the lite one that Ninefold installs:

    python3 -m venv .venv-clickhouse && .venv-clickhouse/bin/pip install --no-deps chdb-core==26.9.0

Usage: clickhouse_server.py FOLDER HTTP_PORT [MEMORY_BYTES]
"""

import os
import sys
from pathlib import Path

from chdb import _chdb  # importing it starts an engine that reads ./config.xml, so it comes before the change of folder

CONFIG = """<clickhouse>
  <listen_host>127.0.0.1</listen_host><http_port>{port}</http_port>
  <max_server_memory_usage>{memory}</max_server_memory_usage><mark_cache_size>67108864</mark_cache_size>
  <backups><allowed_path>{folder}/backups/</allowed_path></backups>
</clickhouse>
"""
LISTEN = "SYSTEM START LISTEN HTTP; "
WAIT = (
    "SELECT sleepEachRow(3) FROM system.numbers "
    "SETTINGS function_sleep_max_microseconds_per_block = 0, max_block_size = 1, max_threads = 1 FORMAT Null"
)


def main(folder: Path, port: int, memory: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    Path("config.xml").write_text(CONFIG.format(port=port, memory=memory, folder=folder))
    _chdb.query(LISTEN + WAIT, "TSV", path=str(folder / "data"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2 << 30)
