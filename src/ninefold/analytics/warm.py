"""Compiling ahead: builds (or loads from Numba's cache on disk) the kernels, so that no batch waits for a compiler.

The app calls `warm()` in a thread at start; ``python -m ninefold.analytics.warm`` does it at installation.
"""

from __future__ import annotations

import os
import tempfile
import threading
from importlib import import_module
from pathlib import Path
from types import ModuleType

ready = threading.Event()
"""Set once the kernels can be called without compiling."""
_lock = threading.Lock()
_LOOPS = ("jointly", "paths", "segmenting", "smoothing")


def kernels() -> ModuleType:
    """The module of compiled kernels; the first call of a process blocks while they are compiled or loaded."""
    with _lock:
        if not ready.is_set():
            _find_cache()
            import_module("ninefold.analytics.kernel")
            ready.set()
    return import_module("ninefold.analytics.kernel")


def loops(name: str) -> ModuleType:
    """A module of compiled loops for questions that are asked now and then; blocks while it is compiled or loaded."""
    with _lock:
        _find_cache()
        return import_module(f"ninefold.analytics.{name}")


def warm() -> None:
    """Compile everything; returns when `ready` is set and the loops are there."""
    kernels()
    for name in _LOOPS:
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
