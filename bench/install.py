"""What an installation costs: time from an empty environment, size on disk, number of packages.

``python bench/install.py`` makes a throw-away environment from `requirements.lock`, downloads included (pip's own cache helps,
as it would a user who installs twice).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def size_mb(folder: Path) -> float:
    """Bytes of all files below a folder, in MB; 0 when it does not exist."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6


def install(folder: Path, lock: Path) -> float:
    """Seconds to make an environment in `folder` and install a lock file into it."""
    started = time.monotonic()
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", lock]
    subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


def run() -> list[dict[str, Any]]:
    """Time, size and packages of the running program; the embedded engine's lite wheel beside the full one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    with tempfile.TemporaryDirectory(prefix="ninefold-install-") as temporary:
        folder = Path(temporary) / "venv"
        seconds = install(folder, ROOT / "requirements.lock")
        packages = folder / "lib" / version / "site-packages"
        engine, total = size_mb(packages / "chdb"), size_mb(folder)
        count = len(list(packages.glob("*.dist-info")))
    full = size_mb(ROOT / ".venv-clickhouse" / "lib" / version / "site-packages" / "chdb")
    peer = {"peer": f"full wheel {full:.0f} MB", "ratio": engine / full} if full else {"peer": None, "ratio": None}
    row = {"target": None, "peer": None, "ratio": None, "lower": True}
    return [
        {**row, "name": "install from the lock, empty environment", "value": seconds, "unit": "s"},
        {**row, "name": "environment on disk", "value": total, "unit": "MB"},
        {**row, "name": "packages", "value": count, "unit": ""},
        {**row, **peer, "name": "embedded ClickHouse engine on disk", "value": engine, "unit": "MB"},
    ]


if __name__ == "__main__":
    for figure in run():
        print(f"{figure['name']}: {figure['value']:.1f} {figure['unit']} {figure['peer'] or ''}")
