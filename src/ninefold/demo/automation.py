"""What the demo's workflows are allowed to do: read Ninefold's own API, look at this machine, write a note, pretend a restart."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import urlsplit

_MACHINE = """
import os, platform, shutil
disk = shutil.disk_usage("/")
load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
print(f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, load {load:.1f}, {disk.free / disk.total:.0%} of the disk free")
"""
_DRY_RUN = "import sys; print('dry run: would restart', sys.argv[1])"
NOTES = {"kind": "note", "fields": {"title": "title", "body": "message"}}
"""The webhook mapping that reads the notes back in: what a workflow tells people is data like any other."""


def connectors(base_url: str, token: str) -> dict[str, dict[str, Any]]:
    """The `connectors` of the demo's configuration.

    Args:
        base_url: where this Ninefold answers, e.g. ``http://127.0.0.1:9900``.
        token: of a role that may read and deliver data.
    """
    python = [sys.executable, "-I", "-c"]
    commands = {
        "machine": {"argv": [*python, _MACHINE], "risk": "read"},
        "restart_dry_run": {"argv": [*python, _DRY_RUN, "{service}"], "parameters": {"service": r"[A-Za-z0-9][A-Za-z0-9_./:-]*"}},
    }
    notes = f"json://ninefold:{token}@{urlsplit(base_url).netloc}/webhook/notes"
    return {
        "ninefold": {"type": "http", "base_url": base_url, "headers": {"Authorization": f"Bearer {token}"}},
        "notes": {"type": "notify", "urls": [notes]},
        "shell": {"type": "shell", "commands": commands},
    }
