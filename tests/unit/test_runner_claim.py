"""The claim of an attempt: one supervisor's, whoever else asks, and whatever a crash left of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobsphere.runner.rundir import CLAIM, RESERVE, RunDirectory


@pytest.fixture(params=[True, False], ids=["laid out", "made by an older server"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> RunDirectory:
    if request.param:
        (tmp_path / f"{RESERVE}.{CLAIM}").touch()
    return RunDirectory(str(tmp_path))


def test_the_first_has_it_and_the_second_changes_nothing(run: RunDirectory) -> None:
    assert run.claim()
    first = Path(run.at(CLAIM)).read_bytes()
    assert not run.claim()
    assert Path(run.at(CLAIM)).read_bytes() == first
    assert not run.has(f"{RESERVE}.{CLAIM}")


def test_a_claim_whose_draft_a_kill_left_is_one(run: RunDirectory) -> None:
    assert run.claim()
    Path(run.at(f"{RESERVE}.{CLAIM}")).hardlink_to(run.at(CLAIM))
    first = Path(run.at(CLAIM)).read_bytes()
    assert not run.claim()
    assert Path(run.at(CLAIM)).read_bytes() == first


def test_one_that_comes_between_is_not_replaced(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks hold nobody off where the file system has none that work; the name is given once all the same."""
    Path(run.at(CLAIM)).write_text("another's")
    monkeypatch.setattr(RunDirectory, "has", lambda *_: False)
    assert not run.claim()
    assert Path(run.at(CLAIM)).read_text() == "another's"
