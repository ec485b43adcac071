"""A real Prometheus scrapes a native histogram with an exemplar and writes it here."""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from plain_prometheus import rows

from ninefold.sources import kernel
from ninefold.sources.body import decompress
from ninefold.sources.exposition_protobuf import _FAMILY
from ninefold.sources.remote_write import RemoteWrite


def page() -> bytes:
    """A counter with an exemplar and a native histogram, as a Go program exposes them."""
    counter = _FAMILY(name="orders_total", type=0)
    exemplar = counter.metric.add(counter={"value": 7}).counter.exemplar
    exemplar.value, exemplar.timestamp.seconds = 1, int(time.time())
    exemplar.label.add(name="trace_id", value="84f573aaf622ee2e256c4a6c828ed5ae")
    family = _FAMILY(name="latency_seconds", type=4)
    histogram = family.metric.add().histogram
    histogram.sample_count, histogram.sample_sum, histogram.schema, histogram.zero_threshold, histogram.zero_count = 7, 2.5, 3, 1e-9, 1
    histogram.positive_span.add(offset=-5, length=2)
    histogram.positive_span.add(offset=3, length=1)
    histogram.positive_delta.extend([2, -1, 2])
    return b"".join(bytes([len(body)]) + body for body in (counter.SerializeToString(), family.SerializeToString()))


@pytest.mark.real
def test_prometheus_writes_native_histograms_and_exemplars(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    kernel.warm()
    decoder, found, known = RemoteWrite(), {"histogram": [], "exemplar": [], "metric": []}, {}  # type: ignore[var-annotated]

    class Peer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page()
            self.send_response(200)
            kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            decoded = decoder.decode(decompress(body, "snappy", 1 << 24), "prom", time.time_ns())
            assert rows(decoded, "quarantine") == []
            known.update({row["series"]: row for row in rows(decoded, "series")})
            for signal, rows_ in found.items():
                rows_.extend(rows(decoded, signal))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing to say."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Peer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"127.0.0.1:{server.server_port}"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        own = probe.getsockname()[1]
    (tmp_path / "p.yml").write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{at}']}}]}}]\n"
        f"remote_write: [{{url: 'http://{at}/w', send_exemplars: true, send_native_histograms: true}}]\n"
    )
    command = ["prometheus", f"--config.file={tmp_path / 'p.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"]
    command += [f"--web.listen-address=127.0.0.1:{own}", "--enable-feature=native-histograms,exemplar-storage"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not (found["histogram"] and found["exemplar"]):
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-2000:]
                time.sleep(0.1)
        finally:
            process.terminate()
            process.wait(10)
            server.shutdown()
    row = found["histogram"][0]
    assert known[row["series"]]["name"] == "latency_seconds"
    assert (row["count"], row["sum"], row["scale"], row["zero_count"]) == (7, 2.5, 3, 1)
    assert (row["positive_index"], row["positive_count"]) == ([-6, -5, -1], [2.0, 1.0, 3.0])
    points = {known[point["series"]]["name"]: point["value"] for point in found["metric"] if point["series"] in known}
    assert (points["latency_seconds_count"], points["latency_seconds_sum"], points["orders_total"]) == (7, 2.5, 7)
    exemplar = found["exemplar"][0]
    assert (known[exemplar["series"]]["name"], exemplar["trace_id"]) == ("orders_total", "84f573aaf622ee2e256c4a6c828ed5ae")
