"""The program's entry: ``ninefold`` and ``python -m ninefold``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType


class _WithoutPandas:
    """PyArrow looks for pandas when it first makes an array, and the engine's wheel brings pandas along though nothing here uses it:
    35 MB of memory and a third of a second. PyArrow looks once, while this hides it; plug-ins can import pandas afterwards."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is hidden while PyArrow starts")

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *_: object) -> None:
        sys.meta_path.remove(self)


def main() -> None:
    """Start the command line."""
    with _WithoutPandas():
        import pyarrow

        pyarrow.array([0])
    from ninefold.cli import main as command_line

    command_line()


if __name__ == "__main__":
    main()
