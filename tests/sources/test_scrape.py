"""Scraping: targets over HTTP, found in files and by DNS; slow, failing and vanishing ones; real exporters."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset
import numpy as np
import orjson
import pytest
import yaml

from ninefold.ground.errors import Unavailable
from ninefold.model.signal import Batch
from ninefold.plugin import Lent
from ninefold.sources import kernel
from ninefold.sources.discovery import Dns, ask_dns
from ninefold.sources.exposition import Exemplar
from ninefold.sources.scrape import Scrape, ScrapeConfig, Target, read_page
from ninefold.sources.series import STALE, Known


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    kernel.warm()


class Exporter:
    """A small HTTP server whose page a test sets."""

    def __init__(self) -> None:
        self.page: bytes | None = b"a 1\n"
        self.type = "text/plain; version=0.0.4"
        self.delay_s = 0.0
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
            await asyncio.sleep(self.delay_s)
            status, page = ("200 OK", self.page) if self.page is not None else ("500 Oh", b"no")
            head = f"HTTP/1.1 {status}\r\nContent-Type: {self.type}\r\nContent-Length: {len(page)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + page)
            await writer.drain()
        writer.close()


class Running:
    """A source at work and the last value of every series it delivered."""

    def __init__(self, **config: Any) -> None:
        settings = {"every_s": 0.05, "timeout_s": 2.0, "refresh_s": 0.02} | config
        self.source = Scrape("lab", ScrapeConfig.model_validate(settings), Lent())
        self.series: dict[int, dict[str, Any]] = {}
        self.last: dict[tuple[str, str], float] = {}
        self.scrapes: dict[str, int] = {}
        self.batches: list[Batch] = []
        self.fail = 0

    async def emit(self, batches: Sequence[Batch]) -> None:
        if self.fail:
            self.fail -= 1
            raise Unavailable("full", 0.01)
        self.batches += batches
        for batch in batches:
            for row in batch.rows.to_pylist():
                if batch.signal == "series":
                    self.series[row["series"]] = row
                elif batch.signal == "metric":
                    known = self.series[row["series"]]
                    instance = dict(known["attributes"])["instance"]
                    self.last[known["name"], instance] = row["value"]
                    self.scrapes[instance] = self.scrapes.get(instance, 0) + (known["name"] == "up")

    async def until(self, there: Callable[[], bool], timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not there():
            assert time.monotonic() < deadline, self.last
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def exporter() -> Any:
    one = Exporter()
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    try:
        yield one, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def running(**config: Any) -> Any:
    one = Running(**config)
    task = asyncio.create_task(one.source.run(one.emit))
    try:
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def stale(value: float) -> bool:
    return bool(np.float64(value).view(np.int64) == np.float64(STALE).view(np.int64))


def test_a_slow_target_delays_no_other_and_a_failing_one_is_down() -> None:
    async def run() -> None:
        async with exporter() as (fast, fast_at), exporter() as (slow, slow_at):
            slow.delay_s = 60
            async with running(targets=[fast_at, slow_at], timeout_s=0.3, labels={"env": "lab"}) as one:
                one.fail = 1
                await one.until(lambda: one.scrapes.get(fast_at, 0) > 3 and one.last.get(("up", slow_at)) == 0)
                assert one.last["up", fast_at] == 1
                assert "application/vnd.google.protobuf" in fast.asked[0]
                a = next(row for row in one.series.values() if row["name"] == "a")
                assert dict(a["attributes"]) == {"job": "lab", "instance": fast_at, "env": "lab"}
                fast.page = None
                await one.until(lambda: one.last["up", fast_at] == 0)
                assert stale(one.last["a", fast_at])
                fast.page = b"a 2\n"
                await one.until(lambda: one.last["a", fast_at] == 2)
                assert one.last["up", fast_at] == 1

    asyncio.run(run())


def test_targets_in_files_come_and_go(tmp_path: Path) -> None:
    async def run() -> None:
        async with exporter() as (_, first), exporter() as (_, second):
            (tmp_path / "a.json").write_bytes(orjson.dumps([{"targets": [first], "labels": {"team": "shop"}}]))
            async with running(files=[str(tmp_path / "*")]) as one:
                await one.until(lambda: one.last.get(("a", first)) == 1)
                (tmp_path / "b.yml").write_text(yaml.dump([{"targets": [second]}]))
                await one.until(lambda: one.last.get(("a", second)) == 1)
                (tmp_path / "b.yml").write_text("{broken")
                count = one.scrapes[second]
                await one.until(lambda: one.scrapes[second] > count + 2)
                (tmp_path / "a.json").write_text("[]")
                await one.until(lambda: stale(one.last["a", first]) and stale(one.last["up", first]))
                count = one.scrapes[first]
                await asyncio.sleep(0.15)
                assert one.scrapes[first] == count
                assert {dict(row["attributes"]).get("team") for row in one.series.values()} == {"shop", None}

    asyncio.run(run())


def test_limits_credentials_and_what_a_check_shows() -> None:
    async def run() -> None:
        async with exporter() as (one, at):
            one.page = b"a 1\nb 2\n"
            http = {"user": "u", "password": "p"}
            source = Scrape("lab", ScrapeConfig.model_validate({"targets": [at], "http": http}), Lent())
            reached = await source.check()
            assert "2 samples" in reached.said
            assert "uthorization: Basic dTpw" in one.asked[0]
            for limit in ({"sample_limit": 1}, {"body_limit_bytes": 5}):
                async with running(targets=[at], **limit) as limited:
                    await limited.until(lambda limited=limited: limited.last.get(("up", at)) == 0)
                    assert ("a", at) not in limited.last

    asyncio.run(run())


class _Dns(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        question = dns.message.from_wire(data)
        answer = dns.message.make_response(question)
        (asked,) = question.question
        said = {"SRV": "0 0 9100 web-1.lab.", "A": "10.0.0.7", "AAAA": "fd00::7"}[dns.rdatatype.to_text(asked.rdtype)]
        answer.answer.append(dns.rrset.from_text(asked.name, 60, "IN", asked.rdtype, said))
        self.transport.sendto(answer.to_wire(), addr)


def test_targets_dns_knows() -> None:
    async def run() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(_Dns, ("127.0.0.1", 0))
        server = f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        found = [
            (await ask_dns(Dns(name="nodes.lab", type=kind, port=9100, server=server)))[0]["__address__"]  # type: ignore[arg-type]
            for kind in ("SRV", "A", "AAAA")
        ]
        assert found == ["web-1.lab:9100", "10.0.0.7:9100", "[fd00::7]:9100"]
        transport.close()

    asyncio.run(run())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.real
@pytest.mark.parametrize("program", ["prometheus-node-exporter", "prometheus"])
def test_a_real_exporter(program: str, tmp_path: Path) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    at = f"127.0.0.1:{_free_port()}"
    command = [program, f"--web.listen-address={at}"]
    if program == "prometheus":
        (tmp_path / "p.yml").write_text("global: {}\n")
        command += [f"--config.file={tmp_path / 'p.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}", "--enable-feature=native-histograms"]

    async def run() -> None:
        async with running(targets=[at], every_s=0.5, timeout_s=5) as one:
            await one.until(lambda: one.last.get(("up", at)) == 1, 30)
            assert one.last["scrape_samples_scraped", at] > 200
            assert one.last["process_start_time_seconds" if program == "prometheus" else "node_load1", at] >= 0
            kinds = {row["name"]: row["kind"] for row in one.series.values()}
            assert kinds["process_cpu_seconds_total"] == "counter"
            assert kinds["go_goroutines"] == "gauge"
            assert not [batch for batch in one.batches if batch.signal == "quarantine"]

    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            asyncio.run(run())
        finally:
            process.terminate()
            process.wait(10)


def test_a_page_we_did_not_foresee_costs_its_target_a_scrape_only(monkeypatch: pytest.MonkeyPatch) -> None:
    scrape = Scrape("lab", ScrapeConfig(), Lent())

    async def page(url: str) -> tuple[bytes, str]:
        return b"a 1\n", "text/plain"

    def broken(*_: object) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(scrape, "_get", page)
    target = Target("lab", {"instance": "x"}, ScrapeConfig(), Known(), 1)
    monkeypatch.setattr(target, "take", broken)
    batches = asyncio.run(scrape._once("http://x/metrics", target))
    assert batches[-1].rows.column("value").to_pylist()[0] == 0.0, "up"


def test_bytes_are_counted_as_decoded_as_pollers_count_them(monkeypatch: pytest.MonkeyPatch) -> None:
    scrape = Scrape("lab", ScrapeConfig(), Lent())

    async def page(url: str) -> tuple[bytes, str]:
        return b"a 1\n", "text/plain"

    monkeypatch.setattr(scrape, "_get", page)
    batches = asyncio.run(scrape._once("http://x/metrics", Target("lab", {"instance": "x"}, ScrapeConfig(), Known(), 1)))
    counted = {name: value for name, _, labels, value in scrape.lent.meter.samples() if ("source", "lab") in labels}
    assert counted["ninefold_source_bytes_total"] == sum(batch.rows.nbytes for batch in batches) > 0


def test_an_exemplar_of_an_impossible_time_has_the_scrapes() -> None:
    page = read_page(b"a 1\n", "text/plain")
    page.exemplars.append(Exemplar(0, {}, 1.0, 2**60 * 10**9))
    batches = Target("lab", {"instance": "x"}, ScrapeConfig(), Known(), 1).take(page, 10**18, 0.1)
    (exemplar,) = [row for batch in batches if batch.signal == "exemplar" for row in batch.rows.to_pylist()]
    assert exemplar["time"].value == 10**18
