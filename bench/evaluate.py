"""Accuracy on labelled data: every module of `evaluations` in a process of its own, written to `bench/EVALUATION.md`.

``python -m bench.evaluate`` runs all parts; ``python -m bench.evaluate detection logs`` only these, and keeps the other tables.
A part is a module with `run()`, which returns rows as `bench.all` describes them, and whose docstring begins with its title and a colon.
"""

from __future__ import annotations

import ast
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


EVALUATIONS = Report(
    FOLDER / "evaluations",
    FOLDER / "EVALUATION.md",
    "# Accuracy\n\n"
    "Written by `make evaluate`: what Ninefold finds in labelled data, beside its peers in the same run and published figures. One set of "
    "parameters for all data. What the figures say and do not say: docs/analytics/evaluation.md.",
    parts(FOLDER / "evaluations"),
)

if __name__ == "__main__":
    sys.exit(main(EVALUATIONS))
