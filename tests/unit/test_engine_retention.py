"""Retention goes on: past a store that fails, and past any number of jobs that cannot be cleared."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import pytest
from tests.contract.ports_memory_runner import unavailable
from tests.unit.world import PROJECT, World

from jobsphere.domain.job import Job
from jobsphere.engine.retention import Retention


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


async def until(what) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)


@pytest.mark.parametrize("trouble", [OSError(errno.EROFS, "read-only"), ValueError("a mistake of ours")], ids=str)
async def test_retention_outlives_whatever_clearing_raises(world: World, trouble: Exception) -> None:
    stuck, other = [await world.created() for _ in range(2)]
    world.clock.pass_by(2 * 86400)
    raised, cleared = list[Exception](), list[str]()

    async def clear(old: Job) -> Job:
        if old.id == stuck.id and len(raised) < 2:
            raised.append(trouble)
            raise trouble
        done = await world.data.clear(old)
        cleared.append(old.id)
        return done

    task = asyncio.create_task(Retention(world.store, world.clock, clear, 0.001).run())
    try:
        await until(lambda: len(cleared) == 2 or task.done())
        assert sorted(cleared) == sorted([stuck.id, other.id])
        assert len(raised) == 2
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_retention_outlives_a_store_that_fails(world: World) -> None:
    job = await world.created()
    world.clock.pass_by(2 * 86400)
    world.store.fail("expired_jobs")
    cleared: list[str] = []

    async def clear(old: Job) -> Job:
        cleared.append(old.id)
        return await world.data.clear(old)

    task = asyncio.create_task(Retention(world.store, world.clock, clear, 0.001).run())
    try:
        await until(lambda: cleared or task.done())
        assert cleared == [job.id]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_hundred_that_cannot_be_cleared_stop_no_other(world: World) -> None:
    jobs = [await world.created() for _ in range(101)]
    world.clock.pass_by(2 * 86400)
    assert {j.project_id for j in jobs} == {PROJECT}

    async def clear(job: Job) -> Job:
        if job.id != jobs[-1].id:
            raise unavailable()
        return await world.data.clear(job)

    assert await Retention(world.store, world.clock, clear, 60).sweep() == 1
    assert (await world.store.get_job(jobs[-1].id)).data_cleared
