"""Programs of this host, made to run where nothing of this host is."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from bench import Bench

from jobsphere.domain.ports import EnvironmentBuildError
from jobsphere.environments.portable import make_portable
from jobsphere.environments.uv import find_uv

ENV = {"PATH": os.environ["PATH"]}


def test_a_program_runs_by_the_copies_alone_and_they_are_made_once(tmp_path: Path) -> None:
    uv = find_uv(ENV)
    portable = make_portable(uv, tmp_path / "portable", ENV, Bench())
    if len(portable.words) == 1:
        pytest.skip("the uv of this host is linked statically")
    assert portable.words[-1] == uv
    assert {str(path) for path in portable.files} == {uv, str(Path(portable.words[0]).parent)}
    # What the loader does not find among the copies it looks for in the system: here it tells.
    opened = subprocess.run(
        [portable.words[0], "--library-path", portable.words[2], "--list", uv],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [line for line in opened.splitlines() if "=>" in line and str(tmp_path) not in line] == []
    assert "uv" in subprocess.run([*portable.words, "--version"], capture_output=True, text=True, check=True).stdout
    made = list((tmp_path / "portable").rglob("*"))

    assert make_portable(uv, tmp_path / "portable", ENV, Bench()) == portable
    assert list((tmp_path / "portable").rglob("*")) == made


@pytest.mark.parametrize("is_program", [True, False])
def test_what_needs_no_loader_is_taken_as_it_is(tmp_path: Path, is_program: bool) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n")
    program = shutil.which("busybox") if is_program else str(script)
    if program is None:
        pytest.skip("no busybox")
    bench = Bench()
    portable = make_portable(program, tmp_path / "portable", ENV, bench)
    assert (portable.words, portable.files) == ((program,), (Path(program),))
    assert bench.programs == []


def test_a_program_that_does_not_run_here_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    content = Path(find_uv(ENV)).read_bytes()
    broken.write_bytes(content.replace(b"libgcc_s.so.1", b"libnope_.so.1"))
    if b"libnope_.so.1" not in broken.read_bytes():
        pytest.skip("the uv of this host is linked statically")
    with pytest.raises(EnvironmentBuildError, match=r"does not run on this server:\n.*libnope_\.so\.1"):
        make_portable(str(broken), tmp_path / "portable", ENV, Bench())


def test_the_half_of_a_killed_one_is_written_over(tmp_path: Path) -> None:
    uv, folder = find_uv(ENV), tmp_path / "portable"
    (folder / "draft").mkdir(parents=True)
    (folder / "draft" / "old").touch()
    portable = make_portable(uv, folder, ENV, Bench())
    if len(portable.words) == 1:
        pytest.skip("the uv of this host is linked statically")
    assert list(folder.iterdir()) == [Path(portable.words[0]).parent]
    assert not (Path(portable.words[0]).parent / "old").exists()
