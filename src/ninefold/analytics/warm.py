"""Compiling ahead: builds (or loads from Numba's cache on disk) the loops, so that no batch waits for a compiler.

The app calls `warm()` in a thread at start; ``python -m ninefold.analytics.warm`` does it at installation.
"""

from __future__ import annotations

import os
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from types import ModuleType

_MODULES = (
    "tables", "metrics.kernel", "logs.scanning", "traces.joining", "traces.paths",
    "metrics.collecting", "metrics.likening", "metrics.jointly", "metrics.segmenting", "metrics.smoothing",
)  # fmt: skip
"""Modules of compiled loops, those first that every batch needs."""
_lock = threading.Lock()
_loaded: dict[str, ModuleType] = {}


def loops(name: str) -> ModuleType:
    """A module of compiled loops by its name below `analytics`; the first call of a process blocks while it is compiled or loaded."""
    if name not in _loaded:
        with _lock:
            _find_cache()
            _loaded[name] = import_module(f"ninefold.analytics.{name}")
    return _loaded[name]


def ready(name: str) -> bool:
    """Whether `loops` would answer without compiling."""
    return name in _loaded


def warm() -> None:
    """Compile everything; returns when it is there."""
    for name in _MODULES:
        loops(name)


def _find_cache() -> None:
    """Where neither the package's folder nor the user's can be written, Numba would refuse to cache: give it a private one.

    It is a new one each time, since a cache is code and must not come from a folder that others could have made.
    """
    own, home = Path(__file__).parent, Path.home()
    places = (own / "__pycache__", own, home / ".cache", home)
    if not any(place.is_dir() and os.access(place, os.W_OK) for place in places):
        os.environ.setdefault("NUMBA_CACHE_DIR", tempfile.mkdtemp(prefix="ninefold-compiled-"))


if __name__ == "__main__":
    warm()
