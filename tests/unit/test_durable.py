"""Steps that a crash may come between: all of them have a name, and a test can be told of each."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import jobsphere
from jobsphere import durable as module
from jobsphere.durable import Point, durable, sync_directory

SOURCES = Path(jobsphere.__file__).parent
LASTING = {"fsync", "fdatasync", "syncfs", "sync", "rename", "renames", "replace", "link", "hardlink_to", "move"}
BESIDE = {"backup", "cli", "client", "doctor"}


def is_lasting(call: ast.Call) -> bool:
    """A system call that makes something last, by how it is written."""
    if not isinstance(call.func, ast.Attribute):
        return False
    name, owner = call.func.attr, ast.unparse(call.func.value)
    if name == "execute":
        words = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else ""
        return words == "COMMIT" or "wal_checkpoint" in str(words)
    if name == "sync":
        return owner == "os"
    if name == "replace":  # of strings and datetimes too, which take two, or named ones
        return owner == "os" or (len(call.args) == 1 and not call.keywords)
    return name in LASTING and (name != "move" or owner == "shutil")


def unnamed(node: ast.AST, inside: bool = False) -> Iterator[ast.Call]:
    """The lasting calls below a node that are in no ``with durable(…)``."""
    if isinstance(node, ast.With | ast.AsyncWith):
        calls = (item.context_expr for item in node.items)
        inside |= any(isinstance(c, ast.Call) and ast.unparse(c.func) == "durable" for c in calls)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        inside = False
    if isinstance(node, ast.Call) and not inside and is_lasting(node):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from unnamed(child, inside)


def files() -> list[Path]:
    """The server, the supervisor and what they use; commands and clients beside them can be given again."""
    return [path for path in sorted(SOURCES.rglob("*.py")) if path.relative_to(SOURCES).parts[0] not in BESIDE]


def test_every_step_that_lasts_has_a_name() -> None:
    found = [f"{path.relative_to(SOURCES)}:{call.lineno}: {ast.unparse(call)}" for path in files()
             for call in unnamed(ast.parse(path.read_text()))]  # fmt: skip
    assert found == []


@pytest.mark.parametrize(
    "line",
    ["os.fsync(fd)", "a.rename(b)", "os.replace(a, b)", "libc.syncfs(fd)", "c.execute('COMMIT')", "os.link(a, b)"],
)
def test_one_without_a_name_is_found(line: str) -> None:
    assert list(unnamed(ast.parse(line)))
    assert not list(unnamed(ast.parse(f"with durable(Point.X):\n    {line}")))
    assert list(unnamed(ast.parse(f"with durable(Point.X):\n    def later():\n        {line}")))


def test_every_name_is_that_of_a_step() -> None:
    texts = "\n".join(path.read_text() for path in files() if path.name != "durable.py" or path.parent != SOURCES)
    assert [point for point in Point if f"Point.{point.name}" not in texts] == []


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Point, bool]]:
    found: list[tuple[Point, bool]] = []
    monkeypatch.setattr(module, "_observers", [])
    module.observe(lambda point, done: found.append((point, done)))
    return found


def test_a_step_is_told_of_before_and_after(told: list[tuple[Point, bool]], tmp_path: Path) -> None:
    sync_directory(tmp_path, Point.BLOB_PLACED)
    assert told == [(Point.BLOB_PLACED, False), (Point.BLOB_PLACED, True)]


def test_one_that_fails_is_not_done(told: list[tuple[Point, bool]], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), durable(Point.BLOB_PLACED):
        os.rename(tmp_path / "a", tmp_path / "b")
    assert told == [(Point.BLOB_PLACED, False)]
