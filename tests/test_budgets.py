"""What keeps the code readable: sizes, documentation, reasons beside blanket excepts, and nothing private in what is published."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "ninefold"
FILE_LINES, FUNCTION_LINES = 500, 60
TEXT_LIMIT_BYTES = 2 << 20

# Spelt in pieces, so that this file does not contain what it looks for.
_HOSTS = ("pypi" + ".org", "files.python" + "hosted.org", "registry.npm" + "js.org", "registry.yarn" + "pkg.com", "deb.debian" + ".org")
_PATHS = ("/work/" + "main", "/work/" + "shared", "/root/" + ".", "/opt/" + "wheels", "/opt/" + "pypi", "file:///" + "opt")
_WORDS = ("chat" + "gpt", "clau" + "de", "anthro" + "pic", "language " + "model", "this " + "session", "helper " + "session")
PRIVATE = re.compile("|".join(re.escape(text) for text in _HOSTS + _PATHS + _WORDS), re.IGNORECASE)

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def sources() -> list[Path]:
    """The program's own files."""
    return sorted(SRC.rglob("*.py"))


def published() -> list[Path]:
    """Every file of the checkout that git has or would take, small enough to be text."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink() and path.stat().st_size < TEXT_LIMIT_BYTES]


def definitions(node: ast.AST, public: bool = True) -> Iterator[tuple[Definition, bool]]:
    """Every function and class below a node, with whether people outside may use it; functions inside functions are private."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, public and not child.name.startswith("_")
            yield from definitions(child, False)
        elif isinstance(child, ast.ClassDef):
            yield child, public and not child.name.startswith("_")
            yield from definitions(child, public and not child.name.startswith("_"))
        else:
            yield from definitions(child, public)


def _compiled(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a decorator such as ``@njit(types.void(...))`` states the types instead of annotations, or the caller does (``@hot``)."""
    if any(isinstance(decorator, ast.Name) and decorator.id.lstrip("_") in ("hot", "cold") for decorator in node.decorator_list):
        return True
    calls = (decorator for decorator in node.decorator_list if isinstance(decorator, ast.Call) and decorator.args)
    return any(isinstance(call.func, ast.Name) and call.func.id in ("njit", "vectorize", "guvectorize") for call in calls)


def of(path: Path) -> str:
    """A short name for a test id."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize(
    "path", [*sources(), *(path for room in ("bench", "tests") for path in sorted((ROOT / room).rglob("*.py")))], ids=of
)
def test_files_are_short(path: Path) -> None:
    assert path.read_text().count("\n") < FILE_LINES


@pytest.mark.parametrize("path", [*sources(), *sorted((ROOT / "bench").rglob("*.py"))], ids=of)
def test_functions_are_short(path: Path) -> None:
    for node, _ in definitions(ast.parse(path.read_text())):
        if not isinstance(node, ast.ClassDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines < FUNCTION_LINES, f"{of(path)}:{node.lineno} {node.name} has {lines} lines"


@pytest.mark.parametrize("path", sources(), ids=of)
def test_public_names_are_documented_and_annotated(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{of(path)} has no docstring"
    for node, public in definitions(tree):
        if not public:
            continue
        assert ast.get_docstring(node), f"{of(path)}:{node.lineno} {node.name} has no docstring"
        if not isinstance(node, ast.ClassDef) and not _compiled(node):
            arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            assert not bare, f"{of(path)}:{node.lineno} {node.name}: {bare} not annotated"
            assert node.returns is not None, f"{of(path)}:{node.lineno} {node.name} does not say what it returns"


@pytest.mark.parametrize("path", sources(), ids=of)
def test_a_blanket_except_has_its_reason_beside_it(path: Path) -> None:
    lines = path.read_text().split("\n")
    for node in ast.walk(ast.parse("\n".join(lines))):
        if not isinstance(node, ast.ExceptHandler):
            continue
        blanket = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
        if blanket:
            comment = lines[node.lineno - 1].partition("#")[2].replace("noqa: BLE001", "").strip(" -:")
            ends_by_raising = isinstance(node.body[-1], ast.Raise)
            assert comment or ends_by_raising, f"{of(path)}:{node.lineno} catches everything without saying why"


def test_nothing_private_is_published() -> None:
    found = []
    for path in published():
        data = path.read_bytes()
        if b"\0" in data[:8192]:
            continue
        for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
            if match := PRIVATE.search(line):
                found.append(f"{of(path)}:{number}: {match.group()}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("lock", "extra"), [("requirements.lock", ""), ("requirements-dev.lock", "dev")])
def test_locks_pin_what_the_project_asks_for(lock: str, extra: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text, f"{lock} names an address"
    pinned = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for line in project["dependencies"] + (project["optional-dependencies"][extra] if extra else []):
        wanted = Requirement(line)
        if wanted.name == project["name"]:
            continue  # its own extras
        version = pinned.get(canonicalize_name(wanted.name))
        assert version is not None, f"{wanted.name} is not in {lock}; run make lock"
        assert wanted.specifier.contains(version, prereleases=True), f"{lock} has {wanted.name} {version}; run make lock"
