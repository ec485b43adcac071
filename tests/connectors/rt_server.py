"""Starts a real Request Tracker 5 with its own configuration, database and port."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

LIBRARY = Path("/usr/share/request-tracker5/lib")
SERVER = Path("/usr/share/request-tracker5/libexec/rt-server")
CONFIG = """
Set($rtname, 'ninefold.test'); Set($Organization, 'ninefold.test'); Set($WebDomain, '127.0.0.1'); Set($WebPort, {port});
Set($DatabaseType, 'SQLite'); Set($DatabaseName, '{folder}/rt.sqlite'); Set($MailCommand, 'testfile');
Set($LogToSyslog, ''); Set($LogToSTDERR, 'error'); Set($WebSessionClass, 'Apache::Session::File');
1;
"""
TOKEN = """
my $user = RT::User->new(RT->SystemUser); $user->Load('root');
my ($ok, $message, $token) = RT::AuthToken->new(RT->SystemUser)->Create(Owner => $user->Id, Description => 'ninefold');
die $message unless $ok; print $token;
"""


@dataclass(frozen=True)
class Tracker:
    """A running Request Tracker: its user root has the password `password` and the token."""

    url: str
    token: str

    def person(self) -> httpx.Client:
        """Somebody at the desk, using RT without Ninefold."""
        return httpx.Client(base_url=f"{self.url}/REST/2.0", auth=("root", "password"), timeout=60)


def missing() -> str:
    """Why no Request Tracker can be started here, "" when one can."""
    installed = SERVER.exists() and shutil.which("rt-setup-database-5") and shutil.which("starman")
    return "" if installed else "Request Tracker 5 is not installed (Debian: request-tracker5 rt5-db-sqlite starman)"


@contextmanager
def request_tracker() -> Iterator[Tracker]:
    """A running Request Tracker, gone without a trace afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="ninefold-rt-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (folder / "RT_SiteConfig.d").mkdir()
        (folder / "RT_SiteConfig.pm").write_text(CONFIG.format(port=port, folder=folder))
        as_owner = []
        if os.geteuid() == 0:
            shutil.chown(folder, "www-data")
            as_owner = ["runuser", "-u", "www-data", "--preserve-environment", "--"]
        variables = {"RT_SITE_CONFIG": str(folder / "RT_SiteConfig.pm"), "RT_SITE_CONFIG_DIR": str(folder / "RT_SiteConfig.d")}
        environment = {**os.environ, **variables, "HOME": str(folder)}

        def run(*command: str) -> str:
            done = subprocess.run(
                [*as_owner, *command], env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        run("rt-setup-database-5", "--action", "init", "--skip-create")
        token = run("perl", f"-I{LIBRARY}", "-MRT=-init", "-e", TOKEN).strip()
        serve = [*as_owner, str(SERVER), "--server", "Starman", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(serve, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        started = Tracker(f"http://127.0.0.1:{port}", token)
        _wait(started, process, folder / "server.log")
        yield started
    finally:
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)  # Starman sometimes ignores TERM
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(tracker: Tracker, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    with tracker.person() as person:
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if person.get("/rt").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
