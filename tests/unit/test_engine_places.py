"""A place or a turn is given back, whatever fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.contract.ports_memory_runner import unavailable
from tests.unit.world import NOW, WHO, World, attempt

from jobsphere.domain.attempt import Ended, EndReason, Started, StopOrder
from jobsphere.domain.job import JobStatus
from jobsphere.domain.node_ports import Condition
from jobsphere.engine.engine import Engine
from jobsphere.engine.retention import Retention


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path, places=1).open()


def place_is_free(world: World) -> bool:
    return world.dispatcher.running == 0


@pytest.mark.parametrize("after", [False, True])
async def test_a_job_whose_placing_could_not_be_stored_keeps_its_place(world: World, after: bool) -> None:
    job = await world.executed()
    world.store.fail("update_job", after=after)
    await world.reconcile(job)
    assert (await world.reconcile(job)).attempt is not None
    assert attempt(job) in world.runner.held


async def test_a_job_whose_run_directory_is_gone_gives_its_place_back(world: World) -> None:
    job = await world.running()
    world.runner.held.clear()
    assert (await world.reconcile(job)).status is JobStatus.ERROR
    assert place_is_free(world)


async def test_a_job_cancelled_while_it_waits_gives_its_turn_away(world: World) -> None:
    await world.running()
    second, third = await world.executed(), await world.executed()
    await world.reconcile(second)
    await world.jobs.cancel(WHO, second.id, "", False)
    await world.reconcile(second)
    assert "number 1 in the queue" in (await world.reconcile(third)).status_details


async def test_a_job_whose_node_cannot_tidy_gives_its_place_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await world.running()
    await world.ends(job)

    async def refuse(_: str) -> None:
        raise unavailable()

    monkeypatch.setattr(world.runner, "tidy", refuse)
    assert (await world.reconcile(job)).status is JobStatus.SUCCESS
    assert place_is_free(world)


async def test_a_job_is_lost_with_its_node_and_told_so(world: World) -> None:
    job = await world.running()
    world.nodes.become("memory", Condition.LOST, "its power failed")
    lost = await world.reconcile(job)
    assert (lost.status, place_is_free(world)) == (JobStatus.ERROR, True)
    assert "node memory (its power failed)" in lost.failure.message


async def test_nothing_is_given_up_while_a_node_is_only_away(world: World) -> None:
    job = await world.running()
    world.nodes.become("memory", Condition.AWAY)
    assert (await world.reconcile(job)).status is JobStatus.EXECUTING
    world.nodes.become("memory", Condition.READY)
    await world.ends(job)
    assert (await world.reconcile(job)).status is JobStatus.SUCCESS


async def test_what_still_runs_of_a_lost_job_when_its_node_is_back_is_stopped(world: World) -> None:
    job = await world.running()
    world.nodes.become("memory", Condition.LOST)
    await world.reconcile(job)
    world.nodes.become("memory", Condition.READY)
    await world.reconcile(job)
    held = world.runner.held[attempt(job)]
    assert (held.order, held.tidied) == (StopOrder(), False)
    await world.ends(job, EndReason.STOPPED)
    assert (await world.reconcile(job)).status is JobStatus.ERROR
    assert held.tidied


async def until(what) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)


async def test_an_end_whose_answer_was_lost_is_looked_at_again(world: World) -> None:
    retention = Retention(world.store, world.clock, world.data.clear, 60)
    engine = Engine(
        world.store,
        world.nodes,
        world.blobs,
        world.clock,
        retention,
        lambda _: None,
        world.types,
        0.01,
        world.provisioner,
        world.products,
    )
    job = await world.executed()
    await engine.start()
    try:
        await until(lambda: attempt(job) in world.runner.held)
        world.store.fail("update_job", after=True)
        records = Started(NOW), Ended(NOW, EndReason.EXITED, 0), world.collected(job)
        await world.runner.become(attempt(job), *records)
        await until(lambda: engine.running == 0)
        assert world.runner.held[attempt(job)].tidied
    finally:
        await engine.stop()
