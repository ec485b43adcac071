"""Every benchmark, one after the other, each in a process of its own, and `bench/RESULTS.md` written from what they return.

``python -m bench.all`` runs all; ``python -m bench.all decode detect`` only these, and keeps the other tables as they stand.
`evaluate` does the same with the modules of `evaluations`. A module's `run()` returns dictionaries: name, value, unit, target (a
number or None), peer (text or None), ratio (to the peer or None), and if need be `lower` (True: smaller is better) and `note` (why a
target is missed).
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).resolve().parent
TITLES = {
    "decode": "Decoding what arrives",
    "detect": "Detection",
    "together": "Metrics judged together, and peers",
    "logs": "Log templates",
    "correlate": "Folding alerts into incidents: speed",
    "store": "The telemetry store",
    "install": "Installation",
    "ingest": "Ingest beside Prometheus and VictoriaMetrics",
    "end_to_end": "The whole program",
    "memory": "Memory with many series",
}
VERSIONS = ("numpy", "numba", "pyarrow", "chdb-core-lite", "clickhouse-connect", "fastapi", "uvicorn")
TIMEOUT_S = 1800


class Report(NamedTuple):
    """A file of tables: the modules' folder, where it is written, its beginning, and a title a module in the order of the tables."""

    folder: Path
    results: Path
    head: str
    titles: Mapping[str, str]


BENCH = Report(
    FOLDER,
    FOLDER / "RESULTS.md",
    "# Measurements\n\n"
    "Written by `make bench`; every figure comes from one command in this folder, beside its peer's from the same run where there is one.",
    TITLES,
)
_CALL = (
    "import importlib.util, json, sys; "
    "spec = importlib.util.spec_from_file_location('measured', sys.argv[1]); "
    "module = importlib.util.module_from_spec(spec); sys.modules['measured'] = module; spec.loader.exec_module(module); "
    "open(sys.argv[2], 'w').write(json.dumps(module.run(), default=float))"
)


def measure(folder: Path, name: str) -> tuple[list[dict[str, Any]], str]:
    """The figures of one module and, when it failed, the last line it said."""
    answer = folder / f".{name}.json"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CALL, folder / f"{name}.py", answer],
            cwd=FOLDER.parent,
            stderr=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
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


def sections(results: Path) -> dict[str, str]:
    """The tables of the last run by module, to keep those that are not measured now."""
    if not results.exists():
        return {}
    found = re.split(r"^<!-- (\w+) -->\n", results.read_text(), flags=re.MULTILINE)
    return {name: body.rstrip() for name, body in zip(found[1::2], found[2::2], strict=True)}


def publish(report: Report, names: list[str]) -> int:
    """Measure these modules (all when none is named), write the file, say what was missed; 1 when a module itself failed."""
    failed = []
    for name in names or list(report.titles):
        print(f"{name} …", flush=True)
        started, before = time.monotonic(), os.getloadavg()[0]
        rows, problem = measure(report.folder, name)
        if problem:
            failed.append(name)
            print(f"  failed: {problem}")
        when = f"{datetime.now(UTC):%Y-%m-%d}, {time.monotonic() - started:.0f} s, load {before:.1f} at the start"
        body = table(rows) if rows else f"Not measured: {problem}"
        place = (report.folder / f"{name}.py").relative_to(FOLDER.parent)
        kept = sections(report.results)  # read again: others may have measured meanwhile
        kept[name] = f"## {report.titles[name]}\n\n`{place}` ({when})\n\n{body}"
        for row in rows:
            print(f"  {'MISSED ' if missed(row) else ''}{row['name']}: {text(row['value'])} {row.get('unit') or ''}")
        tables = "".join(f"\n<!-- {part} -->\n{kept[part]}\n" for part in report.titles if part in kept)
        report.results.write_text(f"{report.head}\n\nMachine: {machine()}.\n{tables}")
    return 1 if failed else 0


def main(report: Report) -> int:
    """Publish what the command line names."""
    unknown = set(sys.argv[1:]) - report.titles.keys()
    if unknown:
        sys.exit(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(report.titles)}")
    return publish(report, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main(BENCH))
