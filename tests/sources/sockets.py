"""What the tests of listening sources share: a journal that can refuse, a running source, rows of batches, certificates."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ninefold.ground.errors import Unavailable
from ninefold.ground.meter import Meter
from ninefold.model.signal import SCHEMAS, Batch, Decoded
from ninefold.plugin import Lent, Source


def rows(decoded: Decoded, signal: str) -> list[dict[str, Any]]:
    """The rows of one signal, times as ns; every batch is checked against its schema."""
    found = []
    for batch in decoded.batches:
        assert batch.rows.schema == SCHEMAS[batch.signal]
        batch.rows.validate(full=True)
        if batch.signal == signal:
            columns = {
                name: column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
                for name, column in zip(batch.rows.schema.names, batch.rows.columns, strict=True)
            }
            found += pa.table(columns).to_pylist()
    return found


class Journal:
    """Takes batches, or refuses them for a while."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.open = True
        self.refused = 0
        self.kept: dict[str, Any] = {}

    async def emit(self, batches: Sequence[Batch], keep: Mapping[str, Any] | None = None) -> None:
        self.kept.update(keep or {})
        if not self.open and batches:
            self.refused += 1
            raise Unavailable("the journal is full", 0.01)
        self.batches += batches

    def rows(self, signal: str) -> list[dict[str, Any]]:
        return rows(Decoded(self.batches), signal)


class Meters:
    """A meter and the sums of its counters."""

    def __init__(self) -> None:
        self.meter = Meter()

    def __getitem__(self, name: str) -> float:
        return sum(value for found, _, _, value in self.meter.samples() if found == name)


async def until(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(source: Any, journal: Journal) -> AsyncIterator[Any]:
    """A source with `started` while it runs."""
    work = asyncio.create_task(source.run(journal.emit))
    started = asyncio.create_task(source.started.wait())
    try:
        await asyncio.wait((work, started), timeout=10, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
        assert source.started.is_set()
        yield source
    finally:
        started.cancel()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def lent(meters: Meters | None = None, **settings: Any) -> Lent:
    return Lent(meter=(meters or Meters()).meter, **settings)


def make(cls: type[Source], settings: dict[str, Any] | None = None, lent_: Lent | None = None, name: str = "") -> Any:
    """A source of checked settings."""
    return cls(name or cls.kind, cls.Config.model_validate(settings or {}), lent_ or lent())


def send(port: int, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for datagram in datagrams:
            udp.sendto(datagram, ("127.0.0.1", port))


def certificates(folder: Path) -> None:
    """`ca.pem`, `stranger-ca.pem`, and of each a server's and a client's certificate with key: `server.pem`, `stranger-client.key`, …"""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=folder)

    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for prefix in ("", "stranger-"):
        openssl("req", "-x509", *curve, "-keyout", f"{prefix}ca.key", "-out", f"{prefix}ca.pem", "-subj", f"/CN={prefix}ca", "-days", "2")
        for name in ("server", "client"):
            openssl("req", *curve, "-keyout", f"{prefix}{name}.key", "-out", "request.pem", "-subj", f"/CN={name}.lab")
            (folder / "names.txt").write_text(f"subjectAltName=DNS:{name}.lab,IP:127.0.0.1\n")
            signer = ["-CA", f"{prefix}ca.pem", "-CAkey", f"{prefix}ca.key", "-CAcreateserial", "-extfile", "names.txt"]
            openssl("x509", "-req", "-in", "request.pem", *signer, "-days", "2", "-out", f"{prefix}{name}.pem")
