"""Accuracy on labelled data: every module of `evaluations` in a process of its own, written to `bench/EVALUATION.md`.

``python -m bench.evaluate`` runs all parts; ``python -m bench.evaluate detection logs`` only these, and keeps the other tables.
A part is a module with `run()`, which returns rows as `bench.all` describes them, and whose docstring begins with its title and a colon.
Programs to compare with are installed into `.venv-peers` by `make evaluate`; where one is missing, its row says so.
"""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

from bench.all import FOLDER, Report, main


def parts(folder: Path) -> dict[str, str]:
    """The modules of a folder by name, with the titles their docstrings begin with; none of them is imported."""
    found = {}
    for path in sorted(folder.glob("[!_]*.py")):
        said = ast.get_docstring(ast.parse(path.read_text())) or path.stem
        found[path.stem] = said.splitlines()[0].partition(":")[0].rstrip(".")
    return found


PEERS = FOLDER.parent / ".venv-peers"
HEAD = """# Accuracy

Written by `make evaluate`: what Ninefold finds in labelled data, beside its peers in the same run and published figures. One set of
parameters for all data. What the figures say and do not say: docs/analytics/evaluation.md.

What was used to choose parameters, and what is reported:

| part | chosen on | reported |
|---|---|---|
| detection: NAB | half A: every second file by sorted name, from the first; figures of half B were seen between rounds | \
all files with the threshold from all files, as every published score; with the threshold from the other half; and half B with \
parameters and threshold from half A |
| detection: generated fleets; feedback | other seeds | seeds 11 (fleets), 2, 4 and 11 (feedback) |
| metrics judged together: ASD, SMD | the same 14 entities: development figures | test parts; only train parts are known when they begin |
| forecasts | every second series by sorted name, from the first | the other half, from the second |
| change points | seeds below 1000 | seeds 1000 and up; NAB only counts how many are reported |
| log templates | these systems, and others like them, were read while the masks were written | the same; expect less elsewhere |
| log sessions | learned: the published training part; the threshold with both systems in sight | the published test part |
| correlation | the replay with seeds 0, 11 and 12; the recorded alerts | seeds 1 and 2; the recorded alerts whole |
| root cause, traces | the same faults, one set of weights for all systems: development figures | all faults |
| regression | nothing fitted to the recorded series | each forecast before its point was seen |"""

EVALUATIONS = Report(
    FOLDER / "evaluations",
    FOLDER / "EVALUATION.md",
    HEAD,
    parts(FOLDER / "evaluations"),
)

if __name__ == "__main__":
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(PEERS))))
    sys.exit(main(EVALUATIONS))
