"""The build hook: builds when it must, only then, and says in one sentence why it cannot."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import build_console
import pytest
from build_console import BuildError, build, fingerprint

ROOT = Path(build_console.__file__).parent


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with the least a console needs; its bundler copies one file."""
    sources = tmp_path / "console"
    (sources / "src").mkdir(parents=True)
    (sources / "src" / "main.tsx").write_text("1")
    lock = {"name": "x", "lockfileVersion": 3, "requires": True, "packages": {"": {"name": "x"}}}
    (sources / "package.json").write_text('{"name": "x", "private": true, "type": "module"}')
    (sources / "package-lock.json").write_text(json.dumps(lock))
    (sources / "build.mjs").write_text(
        "import { cpSync } from 'node:fs'; cpSync('src/main.tsx', process.argv[2] + '/app.js', { recursive: true })"
    )
    return tmp_path


def test_builds_once_and_again_when_a_source_changed(tree: Path) -> None:
    static = tree / "src" / "ninefold" / "web" / "static"
    static.parent.mkdir(parents=True)
    assert build(tree)
    assert (static / "app.js").read_text() == "1"
    assert not build(tree)
    (tree / "console" / "src" / "main.tsx").write_text("2")
    (static / "left-over.js").write_text("old")
    assert build(tree)
    assert (static / "app.js").read_text() == "2"
    assert not (static / "left-over.js").exists()
    assert build(tree, force=True)


def test_a_tree_without_sources_needs_no_build(tmp_path: Path) -> None:
    assert not build(tmp_path)
    assert not build(tmp_path, force=True)


def test_names_and_contents_count_but_packages_do_not(tree: Path) -> None:
    sources = tree / "console"
    before = fingerprint(sources)
    (sources / "node_modules").mkdir()
    (sources / "node_modules" / "x.js").write_text("x")
    assert fingerprint(sources) == before
    (sources / "src" / "main.tsx").rename(sources / "src" / "other.tsx")
    assert fingerprint(sources) != before


def test_a_failing_bundler_is_one_sentence_and_keeps_the_old_build(tree: Path) -> None:
    static = tree / "src" / "ninefold" / "web" / "static"
    static.parent.mkdir(parents=True)
    build(tree)
    (tree / "console" / "build.mjs").write_text("throw new Error('no such module: uplot')")
    with pytest.raises(BuildError, match=r"^bundling for the console failed: .*no such module: uplot$"):
        build(tree)
    assert (static / "app.js").read_text() == "1"


def test_without_node_and_without_pypi_it_says_what_to_install(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(build_console.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(
        build_console.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", "ERROR: no route to host\n")
    )
    with pytest.raises(
        BuildError, match=r"needs Node 20 or newer; install it from nodejs.org \(the copy on PyPI: ERROR: no route to host\)"
    ):
        build(tree)


def test_an_old_node_is_not_taken(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("node", "npm"):
        (folder / name).write_text("#!/bin/sh\necho v18.19.0\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert build_console._own_node() is None


def test_the_lock_names_no_registry() -> None:
    packages = json.loads((ROOT / "console" / "package-lock.json").read_text())["packages"]
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert all("integrity" in package for name, package in packages.items() if name)
