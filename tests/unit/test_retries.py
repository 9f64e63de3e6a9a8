"""Jobs that are started anew when they are lost: once for each loss, and no more often than they asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.contract.ports_memory_runner import MemoryRunner
from tests.unit.world import DAY, PROJECT, WHO, World, a_spec

from jobsphere.domain.attempt import Ended, EndReason, LogFrame, LogStream, Started, StopOrder
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import Job, JobStatus
from jobsphere.domain.node_ports import Condition

S = JobStatus


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path, places=1).open()


async def executed(world: World, retries: int = 1) -> Job:
    config = f"cmd: true\nx-jobsphere: {{retries: {retries}}}\n"
    submitted = await world.jobs.create(WHO, PROJECT, a_spec(), "job", "", config, DAY)
    await world.jobs.execute(WHO, submitted.job_id)
    return await world.store.get_job(submitted.job_id)


async def started(world: World, job: Job) -> Job:
    job = await world.reconcile(job)
    assert job.attempt is not None
    await world.runner.become(job.attempt.id, Started(world.clock.now()))
    job = await world.reconcile(job)
    assert job.status is S.EXECUTING
    return job


async def lose(world: World, job: Job) -> Job:
    """The supervisor is killed; another closes the books."""
    assert job.attempt is not None
    await world.runner.become(
        job.attempt.id, Ended(world.clock.now(), EndReason.LOST, message="killed"), world.collected(job)
    )
    return await world.reconcile(job)


async def succeed(world: World, job: Job) -> Job:
    assert job.attempt is not None
    await world.runner.become(job.attempt.id, Ended(world.clock.now(), EndReason.EXITED, 0), world.collected(job))
    return await world.reconcile(job)


async def test_a_lost_job_runs_anew_as_another_attempt(world: World) -> None:
    job = await lose(world, await started(world, await executed(world)))
    assert (job.status, job.attempt, job.started_at) == (S.PREPARING, None, None)
    assert "Retry 1 of 1: killed" in job.status_details
    assert world.dispatcher.running == 0
    assert job.id in world.woken
    job = await started(world, job)
    assert [a.id for a in job.attempts] == [f"{job.id}-1", f"{job.id}-2"]
    assert world.runner.held[f"{job.id}-1"].tidied
    job = await succeed(world, job)
    assert (job.status, job.return_code) == (S.SUCCESS, 0)


async def test_one_that_is_lost_too_often_ends_with_the_reason(world: World) -> None:
    job = await executed(world, 2)
    for _ in range(3):
        job = await lose(world, await started(world, job))
    assert (job.status, len(job.attempts), world.dispatcher.running) == (S.ERROR, 3, 0)
    assert job.failure is not None
    assert "killed" in job.failure.message


async def test_what_a_program_does_by_itself_is_its_result(world: World) -> None:
    job = await started(world, await executed(world))
    await world.ends(job, EndReason.EXITED, 3)
    assert (await world.reconcile(job)).status is S.ERROR


async def test_a_lost_job_that_is_being_cancelled_is_cancelled(world: World) -> None:
    job = await started(world, await executed(world))
    await world.jobs.cancel(WHO, job.id, "", graceful=False)
    assert (await lose(world, await world.store.get_job(job.id))).status is S.CANCELLED


async def test_what_runs_on_a_node_that_is_back_is_stopped_while_the_next_attempt_goes_on(world: World) -> None:
    job = await started(world, await executed(world))
    other = MemoryRunner(world.outbox, world.runner.takers, "other")
    world.nodes.add(other, world.types.of(world.nodes.all()["memory"]).node)
    world.nodes.become("memory", Condition.LOST, "no power")
    world.dispatcher.nodes_changed()
    job = await world.reconcile(job)
    assert "node memory (no power)" in job.status_details
    job = await world.reconcile(job)
    assert job.attempt is not None
    first, second = job.lost_attempts[0].id, job.attempt.id
    assert (job.attempt.node, list(other.held)) == ("other", [second])
    world.nodes.become("memory", Condition.READY)
    await world.reconcile(job)
    assert world.runner.held[first].order == StopOrder()
    assert other.held[second].order is None


async def test_the_log_is_all_attempts_logs_and_is_resumed_in_each(world: World) -> None:
    job = await started(world, await executed(world))
    await world.runner.write(f"{job.id}-1", LogFrame(LogStream.OUT, 1, b"one\n"))
    following = asyncio.create_task(read(world, job.id, 0))
    job = await started(world, await lose(world, job))
    await world.runner.write(f"{job.id}-2", LogFrame(LogStream.OUT, 2, b"two\n"))
    await succeed(world, job)
    async with asyncio.timeout(20):
        chunks = await following
    assert [text for text, _ in chunks] == [b"one\n", b"two\n"]
    assert [text for text, _ in await read(world, job.id, chunks[0][1])] == [b"two\n"]
    assert await read(world, job.id, chunks[1][1]) == []
    with pytest.raises(InvalidArgumentError, match="offset"):
        await read(world, job.id, 5 << 48)


async def test_data_and_run_directories_of_all_attempts_go(world: World) -> None:
    job = await started(world, await lose(world, await started(world, await executed(world))))
    job = await succeed(world, job)
    assert len(world.runner.held) == 2
    await world.jobs.delete(WHO, job.id)
    assert world.runner.held == {}


async def read(world: World, job_id: str, offset: int) -> list[tuple[bytes, int]]:
    return [
        (b"".join(frame.content for frame in chunk.frames), chunk.offset)
        async for chunk in world.logs.stream(WHO, job_id, offset)
        if chunk.frames
    ]
