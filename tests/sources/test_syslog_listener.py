"""Syslog's listener: UDP, TCP and TLS with real sockets, under load, with a journal that is full, and rsyslog."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sockets import Journal, Meters, certificates, lent, make, rows, running, send, until

from ninefold.ground.errors import ConfigError
from ninefold.model.signal import Decoded
from ninefold.sources import listening as listening_module
from ninefold.sources.syslog import Framer, Syslog
from ninefold.sources.syslog_message import parse

RECEIVED = int(datetime(2026, 11, 22, 13, tzinfo=UTC).timestamp()) * 10**9


class Bodies(Journal):
    """A journal of log lines."""

    def bodies(self) -> list[str]:
        return [row["body"] for row in self.rows("log")]


def listening(journal: Journal, meters: Meters | None = None, **settings: Any) -> contextlib.AbstractAsyncContextManager[Any]:
    return running(make(Syslog, {"port": 0, **settings}, lent(meters)), journal)


def test_udp_and_tcp_on_one_port() -> None:
    async def scenario() -> None:
        journal = Bodies()
        async with listening(journal) as source:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.sendto(b"<13>Nov 22 12:00:00 h a: by udp", ("127.0.0.1", source.port))
            _, writer = await asyncio.open_connection("127.0.0.1", source.port)
            writer.write(b"<13>Nov 22 12:00:00 h a: line\n11 <13>counted<13>unfinished")
            await writer.drain()
            await until(lambda: len(journal.bodies()) == 3)
            writer.close()
            await until(lambda: len(journal.bodies()) == 4)
        assert sorted(journal.bodies()) == ["by udp", "counted", "line", "unfinished"]
        assert {batch.source for batch in journal.batches} == {"syslog"}

    asyncio.run(scenario())


def test_tcp_senders_wait_while_the_journal_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_module, "_QUEUE_RECORDS", 1000)

    async def scenario() -> None:
        journal, total = Bodies(), 60_000
        journal.open = False
        async with listening(journal) as source:
            reader, writer = await asyncio.open_connection("127.0.0.1", source.port)
            padding = "x" * 200

            async def send() -> None:
                for start in range(0, total, 500):
                    writer.write("".join(f"<13>Nov 22 12:00:00 h a: {i} {padding}\n" for i in range(start, start + 500)).encode())
                    await writer.drain()

            sending = asyncio.create_task(send())
            await until(lambda: journal.refused > 3 and source.listener.full)
            await asyncio.sleep(0.1)
            assert not sending.done(), "the sender was not made to wait"
            journal.open = True
            await sending
            await until(lambda: sum(batch.rows.num_rows for batch in journal.batches) == total)
            writer.close()
            del reader
        assert [int(body.split()[0]) for body in journal.bodies()] == list(range(total))

    asyncio.run(scenario())


def test_datagrams_beyond_the_queue_are_counted_and_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(listening_module, "_QUEUE_RECORDS", 100)

    async def scenario() -> None:
        journal, meters = Bodies(), Meters()
        journal.open = False
        async with listening(journal, meters) as source:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                for i in range(150):
                    udp.sendto(b"<13>Nov 22 12:00:00 h a: %d" % i, ("127.0.0.1", source.port))
            await until(lambda: meters["ninefold_syslog_dropped_total"] == 50)
            journal.open = True
            await until(lambda: len(journal.bodies()) == 100)
        assert meters["ninefold_syslog_received_total"] == 100
        assert journal.bodies() == [str(i) for i in range(100)]

    with caplog.at_level("ERROR", "ninefold.syslog"):
        asyncio.run(scenario())
    assert "50 datagrams were dropped" in caplog.text


def test_what_was_received_is_delivered_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening_module, "_BATCH_WAIT_S", 30)

    async def scenario() -> None:
        journal, meters = Bodies(), Meters()
        async with listening(journal, meters) as source:
            _, writer = await asyncio.open_connection("127.0.0.1", source.port)
            writer.write(b"<13>one\n<13>two\n<13>without its newline")
            await writer.drain()
            await until(lambda: meters["ninefold_syslog_received_total"] == 2)
            assert journal.batches == []
            assert not source.listener.full
        assert journal.bodies() == ["one", "two", "without its newline"]

    asyncio.run(scenario())


def test_a_journal_that_stays_full_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(listening_module, "_LAST_WAIT_S", 0.05)

    async def scenario() -> None:
        journal = Bodies()
        journal.open = False
        async with listening(journal) as source:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                udp.sendto(b"<13>lost", ("127.0.0.1", source.port))
            await until(lambda: journal.refused > 0)

    with caplog.at_level("ERROR", "ninefold.syslog"):
        asyncio.run(scenario())
    assert "1 records are lost" in caplog.text


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    certificates(folder)
    return folder


def tls(folder: Path, **settings: Any) -> dict[str, Any]:
    return {"tls": {"port": 0, "certificate": folder / "server.pem", "key": folder / "server.key", **settings}}


async def send_over_tls(folder: Path, port: int, data: bytes, client: str = "", ca: str = "ca.pem") -> bytes:
    """Send and close; what the server said, or the error that ended it."""
    context = ssl.create_default_context(cafile=folder / ca)
    if client:
        context.load_cert_chain(folder / f"{client}.pem", folder / f"{client}.key")
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="server.lab")
    try:
        writer.write(data)
        await writer.drain()
        writer.write_eof() if writer.can_write_eof() else writer.close()
        return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["rsyslog_tls_rfc5424_octet_counted.raw", "syslogng_tls_rfc5424.raw"])
def test_captured_messages_over_tls(authority: Path, data: Path, name: str) -> None:
    async def scenario() -> None:
        journal = Bodies()
        captured = (data / "payloads" / "syslog" / name).read_bytes()
        plain = Framer()
        expected = [*plain.feed(captured)[0], *plain.close()]
        async with listening(journal, **tls(authority)) as source:
            await send_over_tls(authority, source.tls_port, captured)
            await until(lambda: len(journal.bodies()) == len(expected) > 0)
        assert journal.bodies() == [row["body"] for row in rows(parse(expected, "syslog", RECEIVED), "log")]

    asyncio.run(scenario())


def test_the_client_refuses_a_server_of_another_authority(authority: Path) -> None:
    async def scenario() -> None:
        async with listening(Bodies(), **tls(authority)) as source:
            with pytest.raises(ssl.SSLCertVerificationError):
                await send_over_tls(authority, source.tls_port, b"<13>x\n", ca="stranger-ca.pem")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("client", "names", "taken"),
    [
        ("", [], False), ("stranger-client", [], False), ("client", [], True), ("client", ["client.lab"], True),
        ("client", ["*.lab"], True), ("client", ["other.lab", "*.other"], False),
    ],
)  # fmt: skip
def test_only_clients_with_the_right_certificate_may_send(authority: Path, client: str, names: list[str], taken: bool) -> None:
    async def scenario() -> None:
        journal, meters = Bodies(), Meters()
        settings = tls(authority, client_ca=authority / "ca.pem", permitted_names=names)
        async with listening(journal, meters, **settings) as source:
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                await send_over_tls(authority, source.tls_port, b"<13>Nov 22 12:00:00 h a: private\n", client)
            if taken:
                await until(lambda: journal.bodies() == ["private"])
        assert (journal.bodies() == ["private"]) == taken
        assert meters["ninefold_syslog_received_total"] == taken

    asyncio.run(scenario())


@pytest.mark.parametrize("settings", [{"certificate": "missing.pem"}, {"key": "stranger-server.key"}, {"permitted_names": ["x"]}])
def test_tls_that_cannot_work_is_a_configuration_error(authority: Path, settings: dict[str, Any]) -> None:
    given = {key: authority / value if isinstance(value, str) else value for key, value in settings.items()}

    async def scenario() -> None:
        with pytest.raises(ConfigError, match="tls"):
            await make(Syslog, {"port": 0, **tls(authority, **given)}).run(Bodies().emit)

    asyncio.run(scenario())


def test_a_block_that_trips_a_defect_does_not_hold_up_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(lines: list[bytes], *_: object) -> Decoded:
        if b"trap" in lines:
            raise ZeroDivisionError("a defect")
        return parse(lines, "syslog", RECEIVED)

    monkeypatch.setattr("ninefold.sources.syslog.parse", broken)

    async def scenario() -> None:
        journal = Bodies()
        async with listening(journal) as source:
            send(source.port, b"trap")
            await until(lambda: len(journal.rows("quarantine")) == 1)
            send(source.port, b"<13>Nov 22 12:00:00 h a: next")
            await until(lambda: journal.bodies() == ["next"])
        (bad,) = journal.rows("quarantine")
        assert (bad["payload"], bad["signal"], bad["format"]) == (b"trap", "log", "syslog")

    asyncio.run(scenario())


@pytest.mark.real
def test_rsyslog_delivers(tmp_path: Path) -> None:
    program = shutil.which("rsyslogd", path="/usr/sbin:/usr/bin:/sbin")
    if program is None:
        pytest.skip("rsyslogd is not installed; apt-get install rsyslog")

    async def scenario() -> None:
        journal = Bodies()
        async with listening(journal) as source:
            spool = tmp_path / "in.log"
            spool.touch()
            target = f'type="omfwd" target="127.0.0.1" port="{source.port}"'
            config = tmp_path / "rsyslog.conf"
            config.write_text(
                f'global(workDirectory="{tmp_path}")\nmodule(load="imfile" mode="inotify")\n'
                f'input(type="imfile" file="{spool}" tag="orders:" facility="local0" severity="err")\n'
                f'action({target} protocol="tcp" TCP_Framing="octet-counted" template="RSYSLOG_SyslogProtocol23Format")\n'
                f'action({target} protocol="tcp" template="RSYSLOG_TraditionalForwardFormat")\n'
                f'action({target} protocol="udp" template="RSYSLOG_ForwardFormat")\n'
            )
            daemon = await asyncio.create_subprocess_exec(program, "-n", "-f", str(config), "-i", str(tmp_path / "pid"))
            try:
                await until((tmp_path / "pid").exists)
                with spool.open("a") as file:
                    for i in range(20):
                        file.write(f"order {i} failed\n")
                        file.flush()
                await until(lambda: len([body for body in journal.bodies() if body.startswith("order")]) == 60)
            finally:
                daemon.terminate()
                await daemon.wait()
        orders = [row for row in journal.rows("log") if row["body"].startswith("order")]
        assert sorted(row["body"] for row in orders) == sorted(f"order {i} failed" for i in range(20) for _ in range(3))
        assert {(row["entity"], row["severity_text"], dict(row["attributes"])["syslog.facility"]) for row in orders} == {
            ("service:orders", "err", "local0")
        }

    asyncio.run(scenario())
