"""Which Python an environment gets: found by its version, wherever this host has it."""

import sys
from pathlib import Path

import pytest
from bench import Bench

from jobsphere.environments.interpreters import DEFAULT_SEARCH_PATH, find_interpreter

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"
SEARCH = (str(Path(sys.executable).resolve().parent), *DEFAULT_SEARCH_PATH)


def fake_python(folder: Path, says: str, code: int = 0) -> Path:
    folder.mkdir(parents=True)
    program = folder / "python3.77"
    program.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    program.chmod(0o755)
    return program


def test_an_interpreter_is_asked_for_its_version(tmp_path: Path) -> None:
    fake_python(tmp_path / "a", "interpreter 3.12 /lies")
    fake_python(tmp_path / "b", "3.77: command not found", 127)
    fake_python(tmp_path / "c", "interpreter 3.77 /failed", 1)
    fake_python(tmp_path / "d", "interpreter 3.77 /right/python")
    search = [str(tmp_path / name) for name in "abcd"]
    assert find_interpreter("3.77", search[:3], {}, Bench()) is None
    assert find_interpreter("3.77", search, {}, Bench()) == "/right/python"


def test_the_interpreter_of_this_process_need_not_be_asked() -> None:
    assert find_interpreter(OWN, SEARCH, {}, bench := Bench()) == str(Path(sys.executable).resolve())
    assert bench.programs == []


def test_the_newest_match_of_a_pattern_comes_first(tmp_path: Path) -> None:
    for patch in ("9", "10", "2"):
        fake_python(tmp_path / f"3.77.{patch}" / "bin", f"interpreter 3.77 /of/{patch}")
    assert find_interpreter("3.77", [f"{tmp_path}/*/bin"], {}, Bench()) == "/of/10"


def test_path_and_home_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_python(tmp_path / "home" / "py", "interpreter 3.77 /home/one")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert find_interpreter("3.77", ["~/py"], {}, Bench()) == "/home/one"
    assert find_interpreter("3.77", ["$PATH"], {"PATH": f":relative:{tmp_path}/home/py"}, Bench()) == "/home/one"
