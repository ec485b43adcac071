"""Real peer programs: found, given a folder, run and stopped. `.ci/peers` installs them all on Debian."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

PEERS = Path(os.environ.get("NINEFOLD_PEERS", Path.home() / ".cache" / "ninefold-peers"))
"""Where `.ci/peers` puts what cannot stand beside the rest of the system: `syslog-ng/` unpacked, `python/` a virtual environment."""


def need(name: str) -> str:
    """The program's path; skips the test where it is not installed."""
    extra = f"/usr/sbin:/sbin:{PEERS}/python/bin:{PEERS}/syslog-ng/usr/sbin"
    found = shutil.which(name) or shutil.which(name, path=extra)
    if found is None:
        pytest.skip(f"{name} is not installed; .ci/peers installs it on Debian")
    return found


def as_user(name: str) -> tuple[str, ...]:
    """What stands before a command so that root runs it as the user its package made; nothing for who is not root."""
    return () if os.geteuid() else ("runuser", "-u", name, "--")


@contextmanager
def folder_of(name: str) -> Iterator[Path]:
    """A folder with a short path that user `name` may fill, and others may search: pytest's own are closed to daemons."""
    folder = Path(tempfile.mkdtemp(prefix="ninefold-"))
    try:
        folder.chmod(0o755)
        own(folder, name)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def own(folder: Path, name: str) -> None:
    """Give a folder and all in it to user `name`, where we may."""
    if os.geteuid():
        return
    user = pwd.getpwnam(name)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user.pw_uid, user.pw_gid)


@contextmanager
def running(*command: str, cwd: Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """The program, running in `cwd`; what it writes is in peer.log there."""
    with (cwd / "peer.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log, env={**os.environ, **env} if env else None)
        try:
            yield process
        except AssertionError as error:
            error.add_note(f"{' '.join(command)} said: {(cwd / 'peer.log').read_text(errors='replace')[-4000:]}")
            raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
