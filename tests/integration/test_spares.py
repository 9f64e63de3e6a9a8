"""Run directories that are made beforehand: one attempt gets each, and nothing is left of them."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from supervisors import until

from jobsphere.domain.attempt import AttemptPlan
from jobsphere.runner import spares as module
from jobsphere.runner.rundir import RunDirectory, create_run_directory
from jobsphere.runner.spares import KEPT, Spares


def plan(attempt_id: str) -> AttemptPlan:
    return AttemptPlan(attempt_id, attempt_id, "project", "true")


def members(folder: Path) -> dict[str, tuple[int, int]]:
    """The names in there, each with its mode and size."""
    return {p.name: (p.lstat().st_mode, p.lstat().st_size) for p in folder.iterdir() if p.name != "plan.json"}


@pytest.fixture
async def spares(tmp_path: Path) -> AsyncIterator[Spares]:
    spares = Spares(str(tmp_path))
    yield spares
    await spares.close()


async def test_one_that_was_made_beforehand_is_as_one_made_now(spares: Spares, tmp_path: Path) -> None:
    assert spares.take() is None
    await until(lambda: len(os.listdir(tmp_path)) == KEPT, "they are made")
    assert all(name.startswith(".") for name in os.listdir(tmp_path))  # no attempt's
    inode = os.stat(spare := spares.take() or "").st_ino
    assert create_run_directory(str(tmp_path / "a-1"), plan("a-1"), spare)
    assert create_run_directory(str(tmp_path / "b-1"), plan("b-1"))
    assert (tmp_path / "a-1").stat().st_ino == inode
    assert members(tmp_path / "a-1") == members(tmp_path / "b-1")
    assert RunDirectory(str(tmp_path / "a-1")).plan() == plan("a-1")


async def test_each_is_one_attempt_s(spares: Spares, tmp_path: Path) -> None:
    spares.take()
    await until(lambda: len(spares._made) == KEPT, "they are made")
    taken = [spares.take() for _ in range(KEPT + 1)]
    assert taken[-1] is None
    assert len({*taken}) == KEPT + 1
    await until(lambda: len(os.listdir(tmp_path)) == 2 * KEPT, "others are made")


async def test_one_of_an_attempt_that_is_there_goes(spares: Spares, tmp_path: Path) -> None:
    create_run_directory(str(tmp_path / "a-1"), plan("a-1"))
    spares.take()
    await until(lambda: len(os.listdir(tmp_path)) == 1 + KEPT, "they are made")
    spare = spares.take()
    assert not create_run_directory(str(tmp_path / "a-1"), plan("a-1"), spare)
    assert spare
    assert not Path(spare).exists()


async def test_none_is_left_behind(tmp_path: Path) -> None:
    spares = Spares(str(tmp_path))
    spares.take()
    await until(lambda: os.listdir(tmp_path), "the first is begun")  # it may be in the middle of it
    await spares.close()
    assert os.listdir(tmp_path) == []


async def test_a_disk_that_cannot_have_one_leaves_it_to_the_attempt(
    spares: Spares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def full(folder: str) -> str:
        tried.append(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "create_spare", full)
    assert spares.take() is None
    await until(lambda: tried, "it is tried")
    assert spares.take() is None
    await until(lambda: len(tried) == 2, "it is tried again")
    assert os.listdir(tmp_path) == []
