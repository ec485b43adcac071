"""Every technique takes every signal in a process in which PyArrow has not found pandas, as `ninefold serve` starts it."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from ninefold.cli.run import _WithoutPandas
with _WithoutPandas():
    import pyarrow as pa
    pa.array([1])
from ninefold.ground.clock import MINUTE
from ninefold.model.signal import batch_of
from ninefold.plugin import plugins
at = 1_700_000_000 * 10**9 + 123  # only nanoseconds need pandas
kinds = ("alert", "anomaly", "incident", "verdict", "setting", "change", "maintenance", "ticket", "forecast")
said = {"technique": "baseline", "series": "7", "fingerprint": "f", "verdict": "noise", "scope": "everything", "word": "calm",
        "since": "2023-11-14T22:13:20Z", "until": "2023-11-14T23:13:20Z"}
batches = [
    batch_of("series", "test", at, [{"series": 7, "name": "latency", "unit": "ms", "kind": "gauge", "entity": "service:a"}]),
    *(batch_of("metric", "test", at + i * MINUTE, [{"series": 7, "time": at + i * MINUTE, "value": float(i % 5)}]) for i in range(20)),
    *(batch_of("log", "test", at + i * MINUTE, [{"time": at + i * MINUTE, "entity": "service:a", "body": f"took {i} ms",
       "severity_number": 9}]) for i in range(20)),
    *(batch_of("span", "test", at + i * MINUTE, [{"time": at + i * MINUTE, "entity": "service:a", "name": "GET", "trace_id": f"{i:032x}",
       "span_id": f"{i:016x}", "duration": 10**6, "kind": "server", "status": "ok"}]) for i in range(20)),
    *(batch_of("event", source, at, [{"id": kind + status, "time": at, "kind": kind, "entity": "service:a", "title": kind, "status": status,
       "fingerprint": "f", "attributes": said}]) for kind in kinds for status in ("firing", "resolved") for source in ("test", "ninefold")),
]
for name, technique in plugins("techniques").items():
    mine = technique()
    for batch in batches:
        if batch.signal in mine.signals:
            mine.process(batch)
    mine.restore(mine.snapshot())
assert "pandas" not in sys.modules or not getattr(pa.lib, "_pandas_api", None) or not pa.lib._pandas_api.have_pandas
print("all took all")
"""


def test_techniques_need_no_pandas() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=240, check=False)
    assert done.stdout.strip() == "all took all", done.stderr[-2000:]
