"""Every benchmark, one after the other, each in a process of its own, and `bench/RESULTS.md` written from what they return.

``python -m bench.all`` runs all; ``python -m bench.all decode detect`` only these, and keeps the other tables as they stand.
A module's `run()` returns dictionaries: name, value, unit, target (a number or None), peer (text or None), ratio (to the peer
or None), and if need be `lower` (True: smaller is better) and `note` (why a target is missed).
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "RESULTS.md"
TITLES = {
    "decode": "Decoding what arrives",
    "detect": "Detection",
    "logs": "Log templates",
    "correlate": "Folding alerts into incidents",
    "rootcause": "Root cause",
    "store": "The telemetry store",
    "install": "Installation",
    "ingest": "Ingest beside Prometheus and VictoriaMetrics",
    "end_to_end": "The whole program",
    "memory": "Memory with many series",
}
VERSIONS = ("numpy", "numba", "pyarrow", "chdb-core-lite", "clickhouse-connect", "fastapi", "uvicorn")
TIMEOUT_S = 1800
_CALL = (
    "import importlib.util, json, sys; "
    "spec = importlib.util.spec_from_file_location('measured', sys.argv[1]); "
    "module = importlib.util.module_from_spec(spec); sys.modules['measured'] = module; spec.loader.exec_module(module); "
    "open(sys.argv[2], 'w').write(json.dumps(module.run(), default=float))"
)


def measure(name: str) -> tuple[list[dict[str, Any]], str]:
    """The figures of one module and, when it failed, the last line it said."""
    answer = FOLDER / f".{name}.json"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CALL, FOLDER / f"{name}.py", answer], stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False
        )
        if done.returncode == 0:
            return json.loads(answer.read_text()), ""
        return [], (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
    except subprocess.TimeoutExpired:
        return [], f"stopped after {TIMEOUT_S} s"
    finally:
        answer.unlink(missing_ok=True)


def number(value: Any) -> float | None:
    """A target as a number; None where there is none."""
    found = re.search(r"-?\d[\d,]*\.?\d*", str(value)) if value not in (None, "") else None
    return float(found.group().replace(",", "")) if found else None


def missed(row: dict[str, Any]) -> bool:
    """Whether a figure is on the wrong side of its target."""
    target = number(row.get("target"))
    if target is None:
        return False
    lower = row.get("lower") or str(row["target"]).lstrip().startswith(("<", "≤"))
    return bool(row["value"] > target if lower else row["value"] < target)


def text(value: Any) -> str:
    """A number in at most four figures with thousands marked; anything else as it is."""
    if value is None or isinstance(value, str):
        return value or ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def table(rows: list[dict[str, Any]]) -> str:
    """A Markdown table; a missed target is named in words, its reason below."""
    lines = ["| figure | measured | unit | target | | peer | ratio |", "|---|---:|---|---:|---|---|---:|"]
    for row in rows:
        verdict = "**missed**" if missed(row) else "met" if number(row.get("target")) is not None else ""
        cells = (
            row["name"],
            text(row["value"]),
            row.get("unit"),
            text(row.get("target")),
            verdict,
            text(row.get("peer")),
            text(row.get("ratio")),
        )
        lines.append("| " + " | ".join(str(cell or "").replace("|", "\\|") for cell in cells) + " |")
    notes = [f"- {row['name']}: {row['note']}" for row in rows if row.get("note")]
    return "\n".join(lines) + ("\n\n" + "\n".join(notes) if notes else "")


def machine() -> str:
    """One line about the machine and the versions that matter."""
    cpu, memory_gb = platform.processor() or platform.machine(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    info = Path("/proc/cpuinfo")
    if info.exists() and (found := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        cpu = found[1]
    known = []
    for package in VERSIONS:
        try:
            known.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory_gb:.0f} GiB; {platform.system()}; Python {platform.python_version()}; {', '.join(known)}"
    )


def sections() -> dict[str, str]:
    """The tables of the last run by module, to keep those that are not measured now."""
    if not RESULTS.exists():
        return {}
    found = re.split(r"^<!-- (\w+) -->\n", RESULTS.read_text(), flags=re.MULTILINE)
    return {name: body.rstrip() for name, body in zip(found[1::2], found[2::2], strict=True)}


def main(names: list[str]) -> int:
    """Measure, write, and say what was missed; 1 when a benchmark itself failed."""
    kept, failed = sections(), []
    for name in names or list(TITLES):
        print(f"{name} …", flush=True)
        started, before = time.monotonic(), os.getloadavg()[0]
        rows, problem = measure(name)
        if problem:
            failed.append(name)
            print(f"  failed: {problem}")
        when = f"{datetime.now(UTC):%Y-%m-%d}, {time.monotonic() - started:.0f} s, load {before:.1f} at the start"
        body = table(rows) if rows else f"Not measured: {problem}"
        kept[name] = f"## {TITLES[name]}\n\n`python bench/{name}.py` ({when})\n\n{body}"
        for row in rows:
            print(f"  {'MISSED ' if missed(row) else ''}{row['name']}: {text(row['value'])} {row.get('unit') or ''}")
    head = (
        "# Measurements\n\n"
        "Written by `make bench`; every figure comes from one command in this folder, beside its peer's from the same run where there "
        f"is one.\n\nMachine: {machine()}.\n"
    )
    RESULTS.write_text(head + "".join(f"\n<!-- {name} -->\n{kept[name]}\n" for name in TITLES if name in kept))
    return 1 if failed else 0


if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - TITLES.keys()
    sys.exit(f"no such benchmark: {', '.join(sorted(unknown))}" if unknown else main(sys.argv[1:]))
