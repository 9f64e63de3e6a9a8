"""Words that no client should send, jobs that move meanwhile, and readers that have nothing to read yet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.world import PROJECT, WHO, World, a_file, a_spec, attempt

from jobsphere.domain.attempt import LogChunk, LogFrame, LogStream
from jobsphere.domain.errors import FailedPreconditionError, InvalidArgumentError
from jobsphere.domain.job import Job


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


@pytest.mark.parametrize("token", ["9" * 5000, "٣", "-1", "x", "1.5"])
async def test_a_page_token_that_is_none_is_refused(world: World, token: str) -> None:
    with pytest.raises(InvalidArgumentError, match="page_token"):
        await world.projects.page(WHO, "c" * 20, page_token=token)


async def test_a_reader_of_a_silent_job_is_waited_for(world: World) -> None:
    world.seconds = 1000.0
    job = await world.created()
    reader = world.readers.enter(job.id)
    world.seconds += 60  # the program says nothing for a minute, then ends
    assert world.readers.pending(job) > 0
    world.readers.leave(reader)


async def test_clearing_a_project_passes_over_a_job_that_was_just_executed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, idle = await world.created(), await world.created()
    before = await world.store.jobs_with_data(PROJECT)
    await world.jobs.execute(WHO, started.id)

    async def as_before(_: str) -> list[Job]:
        return [replace(job) for job in before]

    monkeypatch.setattr(world.store, "jobs_with_data", as_before)
    await world.jobs.delete_all_data(WHO, PROJECT)
    assert (await world.store.get_job(idle.id)).data_cleared
    assert not (await world.store.get_job(started.id)).data_cleared


async def test_a_cleared_job_that_never_ran_says_so(world: World) -> None:
    job = await world.created(a_spec(input_files=(a_file("in", b"in"),)))
    await world.jobs.delete_data(WHO, job.id)

    with pytest.raises(FailedPreconditionError, match="cleared"):
        await world.jobs.execute(WHO, job.id)


async def test_lines_that_come_between_the_last_look_and_the_end_are_given(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await world.running()
    read = world.runner.read_logs

    async def read_then_end(attempt_id: str, offset: int, limit: int) -> LogChunk:
        seen = await read(attempt_id, offset, limit)
        monkeypatch.setattr(world.runner, "read_logs", read)
        await world.runner.write(attempt(job), LogFrame(LogStream.OUT, 1, b"the last line\n"))
        await world.ends(job)
        await world.reconcile(job)
        return seen

    monkeypatch.setattr(world.runner, "read_logs", read_then_end)
    chunks = [chunk async for chunk in world.logs.stream(WHO, job.id, 0)]

    assert [f.content for c in chunks for f in c.frames] == [b"the last line\n"]
