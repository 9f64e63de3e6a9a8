"""The runner of Slurm where the two disagree: what Slurm refuses, has forgotten, or was never told."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.slurm import CPUS, MEMORY_MB, PARTITION, Slurm

from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.local import LocalBlobStore
from jobsphere.domain.attempt import AttemptPlan, EndReason, Observation, StopOrder
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.runner.directories import Takers
from jobsphere.runner.rundir import create_run_directory
from jobsphere.runner.slurm import SUBMITTED, SlurmRunner, SlurmSettings
from jobsphere.runner.slurm_commands import cluster_name, nodes_of, total


def plan(attempt_id: str) -> AttemptPlan:
    """The cluster is that of all tests, and remembers: each has a name of its own."""
    return AttemptPlan(attempt_id, "j1", "p1", "echo begun >> begun; cat begun")


@pytest.fixture(autouse=True)
def found(slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", slurm.environ["SLURM_CONF"])


def runner_on(path: Path, partition: str = PARTITION, *args: str) -> SlurmRunner:
    takers = Takers(LocalBlobStore(path / "blobs"), LocalDatasets(path / "datasets"))
    argv = [sys.executable, "-m", "jobsphere.node", "--data-dir", str(path)]
    return SlurmRunner(path, "cluster", takers, argv, SlurmSettings(partition, args, 0.1, 0.3))


async def closed(runner: SlurmRunner, attempt_id: str) -> Observation:
    """The attempt, collected: launched again whenever nobody carries it, as the engine does."""
    async with asyncio.timeout(100):
        while not (seen := await runner.observe(attempt_id)).collected:
            if not seen.alive:
                await runner.launch(plan(attempt_id))
            await asyncio.sleep(0.02)
    return seen


async def test_what_slurm_refuses_ends_with_its_words(tmp_path: Path) -> None:
    runner = runner_on(tmp_path, "nosuch")
    await runner.launch(plan("refused"))
    await runner.launch(plan("refused"))
    seen = await closed(runner, "refused")
    assert seen.ended
    assert seen.ended.reason is EndReason.FAILED
    assert "invalid partition specified: nosuch" in seen.ended.message
    assert seen.started is None
    await runner.close()


async def test_a_job_that_slurm_has_forgotten_is_lost_and_not_started(tmp_path: Path) -> None:
    runner = runner_on(tmp_path)
    run = tmp_path / "attempts" / "forgotten"
    create_run_directory(str(run), plan("forgotten"))
    (run / SUBMITTED).write_text('"4711"')
    seen = await closed(runner, "forgotten")
    assert seen.ended
    assert seen.ended.reason is EndReason.LOST
    assert "does not know its job 4711" in seen.ended.message
    assert seen.started is None
    await runner.close()


async def test_a_stop_before_the_submission_submits_nothing(slurm: Slurm, tmp_path: Path) -> None:
    before = slurm.jobs()
    runner = runner_on(tmp_path)
    create_run_directory(str(tmp_path / "attempts" / "stopped"), plan("stopped"))
    await runner.stop("stopped", StopOrder())
    seen = await closed(runner, "stopped")
    assert seen.ended
    assert seen.ended.reason is EndReason.STOPPED
    assert slurm.jobs() == before
    await runner.close()


async def test_the_partition_tells_its_capacity_and_the_cluster_its_name(slurm: Slurm) -> None:
    assert total(await nodes_of(PARTITION)) == NodeCapacity(CPUS, MEMORY_MB << 20)
    assert await nodes_of("nosuch") == []
    assert await cluster_name() in slurm.told("scontrol", "show", "config")
