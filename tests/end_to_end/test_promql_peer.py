"""The same samples in Prometheus and in Ninefold, the same questions to both: the same answers."""

from __future__ import annotations

import math
import random
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cramjam
import httpx
import pytest
from served import Program, free_port, until
from test_real_peers import need, running

from ninefold.sources.protobuf import frame
from ninefold.sources.series import STALE

pytestmark = [pytest.mark.real, pytest.mark.slow]

EXPRESSIONS = """
up
requests_total{job=~"a|b", code!="500"}
{__name__=~"load|up", instance="1"}
rate(requests_total[2m])
increase(requests_total[90s])
irate(requests_total[1m])
sum by (job) (rate(requests_total[2m]))
sum without (instance, code) (rate(requests_total[1m]))
rate(requests_total{code="500"}[2m]) / ignoring(code) group_left sum without (code) (rate(requests_total[2m]))
avg by (job) (load) + on (job) group_right sum by (job, instance) (up)
max_over_time(load[3m]) - min_over_time(load[3m])
avg_over_time(load[2m:15s] offset 1s)
stddev_over_time(load[2m])
quantile_over_time(0.9, load[3m])
changes(up[5m])
resets(requests_total[10m])
deriv(load[3m])
predict_linear(load[3m], 600)
delta(load[2m])
histogram_quantile(0.95, sum by (le) (rate(latency_bucket[2m])))
histogram_quantile(0.5, sum by (le, job) (rate(latency_bucket[2m])))
topk(2, load)
bottomk by (job) (1, load)
quantile by (job) (0.25, load)
count_values("value", up)
load > 50
load > bool 50
up == 0 or up == 1 and on (instance) load > 20
up unless on (instance) load > 50
absent(load{job="zzz"})
absent_over_time(gone[1m])
clamp(load, 20, 60)
round(load, 5)
label_replace(up, "place", "$1-x", "job", "(.*)")
label_join(up, "place", "/", "job", "instance")
sort_desc(load)
time() - timestamp(load)
load offset 2m
load @ end()
sum_over_time(up[1m] offset 30s)
gone
-load ^ 2 % 7
hour() + minute(vector(0))
vector(1) + scalar(sum(up))
count(up) by (job)
stdvar(load)
group by (job) (up)
last_over_time(load[1m])
present_over_time(gone[2m])
count_over_time(up[1m])
idelta(load[1m])
""".strip().splitlines()


def _request(series: Iterable[tuple[dict[str, str], list[tuple[int, float]]]]) -> bytes:
    out = b""
    for labels, samples in series:
        body = b"".join(frame(1, frame(1, key.encode()) + frame(2, value.encode())) for key, value in sorted(labels.items()))
        body += b"".join(frame(2, b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(at)) for at, value in samples)
        out += frame(1, body)
    return bytes(cramjam.snappy.compress_raw(out))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _world(start: int) -> list[tuple[dict[str, str], list[tuple[int, float]]]]:
    """Twenty minutes of samples, none on a whole second: counters with resets, gauges with gaps, a histogram, a series that ends."""
    dice = random.Random(7)
    found: list[tuple[dict[str, str], list[tuple[int, float]]]] = []
    for job in ("a", "b"):
        for instance in ("1", "2"):
            shift = start + 123 + 1000 * int(instance) + (300 if job == "b" else 0)
            times = [shift + 15_000 * n for n in range(80)]
            where = {"job": job, "instance": f"{instance}" if job == "a" else f"{instance}b"}
            found.append(({"__name__": "up", **where}, [(t, float(dice.random() > 0.1)) for t in times]))
            found.append(
                (
                    {"__name__": "load", **where},
                    [(t, round(dice.uniform(0, 100), 3)) for n, t in enumerate(times) if n not in range(30, 45)],
                )
            )
            for code in ("200", "500"):
                total, points = 0.0, []
                for t in times:
                    total = 0.0 if dice.random() < 0.02 else total + dice.randint(0, 20)
                    points.append((t, total))
                found.append(({"__name__": "requests_total", "code": code, **where}, points))
            counts = [0.0] * 4
            buckets: list[list[tuple[int, float]]] = [[], [], [], []]
            for t in times:
                for place in range(4):
                    counts[place] += dice.randint(0, 5)
                for place in range(4):
                    buckets[place].append((t, sum(counts[: place + 1])))
            for bound, points in zip(("0.1", "0.5", "1", "+Inf"), buckets, strict=True):
                found.append(({"__name__": "latency_bucket", "le": bound, **where}, points))
    ended = [(start + 123 + 15_000 * n, float(n)) for n in range(40)]
    found.append(({"__name__": "gone", "job": "a"}, [*ended, (ended[-1][0] + 15_000, STALE)]))
    return found


def _same(ours: Any, theirs: Any) -> bool:
    def table(answer: Any) -> dict[str, dict[float, float]]:
        return {
            str(sorted(row["metric"].items())): {float(at): float(value) for at, value in row.get("values") or [row["value"]]}
            for row in answer["result"]
        }

    a, b = table(ours), table(theirs)
    return a.keys() == b.keys() and all(
        a[key].keys() == b[key].keys() and all(_close(a[key][at], b[key][at]) for at in a[key]) for key in a
    )


def _close(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def test_answers_are_those_of_prometheus(program: Program, tmp_path: Path) -> None:
    # Prometheus 3 opens ranges on the left and extrapolates a young counter a little differently; no sample lies on a range's
    # edge here, and the questions begin when the counters are three minutes old, so that the two agree with version 2 as well.
    prometheus, port = need("prometheus"), free_port()
    (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 1h}\n")
    arguments = (
        f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb", f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver", "--enable-feature=promql-at-modifier,promql-negative-offset",
    )  # fmt: skip
    peer = f"http://127.0.0.1:{port}"
    start = (int(time.time()) // 60 - 30) * 60_000
    with running(prometheus, *arguments, cwd=tmp_path):
        until(lambda: _up(peer), what="Prometheus")
        headers = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf", "X-Prometheus-Remote-Write-Version": "0.1.0"}
        body = _request(_world(start))
        httpx.post(f"{peer}/api/v1/write", content=body, headers=headers, trust_env=False).raise_for_status()
        program.http.post("/api/v1/write", content=body, headers=headers).raise_for_status()
        program.wait_for_row("select count() from metric m join series s on m.series = s.series where s.name = 'gone'")
        different = []
        for query in EXPRESSIONS:
            for path, asked in (
                ("query_range", {"query": query, "start": start / 1000 + 180, "end": start / 1000 + 1320, "step": 20}),
                ("query", {"query": query, "time": start / 1000 + 1000}),
            ):
                theirs = httpx.get(f"{peer}/api/v1/{path}", params=asked, trust_env=False).json()
                ours = program.http.post(f"/prometheus/api/v1/{path}", data=asked).json()
                assert theirs["status"] == "success", (query, theirs)
                if ours["status"] != "success" or not _same(ours["data"], theirs["data"]):
                    different.append((path, query, ours.get("error", "")))
        assert not different
        for path in ("labels", "label/job/values", "label/__name__/values"):
            theirs = httpx.get(f"{peer}/api/v1/{path}", trust_env=False).json()["data"]
            assert set(theirs) <= set(program.http.get(f"/prometheus/api/v1/{path}").json()["data"])
        wrong = program.http.get("/prometheus/api/v1/query", params={"query": "sum("})
        assert (wrong.status_code, wrong.json()["errorType"]) == (400, "bad_data")


def _up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", trust_env=False).is_success
    except httpx.TransportError:
        return False
