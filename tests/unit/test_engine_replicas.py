"""Engines of several servers over one store and the same nodes: one after the other, and for a moment at once."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from tests.unit.world import World, attempt

from jobsphere.domain.attempt import Started
from jobsphere.domain.job import JobStatus
from jobsphere.engine.dispatcher import Dispatcher
from jobsphere.engine.engine import Engine
from jobsphere.engine.reconciler import Reconciler
from jobsphere.engine.retention import Retention


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


class Replica:
    """One server's engine, and what it does of a job when it is asked."""

    def __init__(self, world: World) -> None:
        self.may_act = True
        how = {"running_at_once": world.quotas.running, "leads": lambda: self.may_act}
        parts = world.store, world.nodes, world.blobs, world.clock
        retention = Retention(world.store, world.clock, world.data.clear, 60)
        self.engine = Engine(
            *parts, retention, world.changes.publish, world.types, 60, world.provisioner, world.products, **how
        )  # fmt: skip
        self.reconciler = Reconciler(
            *parts, Dispatcher(world.types), world.changes.publish, lambda _: None, world.provisioner, world.products,
            **how,
        )  # fmt: skip


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0)


async def test_engines_take_turns_and_one_that_led_before_leads_again(world: World) -> None:
    one, two = Replica(world), Replica(world)
    jobs = [await world.executed() for _ in range(3)]  # there is room for two
    for engine in (one.engine, two.engine, one.engine):
        await engine.start()
        await until(lambda engine=engine: engine.running == 2 and engine.waiting == 1)
        await until(lambda: len(world.runner.held) == 2)
        await engine.stop()
        assert (engine.running, engine.waiting) == (0, 0)
    assert sorted(world.runner.held) == sorted(attempt(job) for job in jobs[:2])
    await two.engine.start()
    await world.runner.become(attempt(jobs[0]), Started(world.clock.now()))
    await world.ends(jobs[0])
    two.engine.wake(jobs[0].id)
    await until(lambda: attempt(jobs[2]) in world.runner.held)
    await two.engine.stop()
    assert (await world.store.get_job(jobs[0].id)).status is JobStatus.SUCCESS


async def test_a_hint_to_one_that_does_not_lead_is_nothing(world: World) -> None:
    one = Replica(world)
    await one.engine.start()
    await one.engine.stop()
    job = await world.executed()
    one.engine.wake(job.id)
    assert not one.engine._queue._waiting
    await one.engine.start()  # looks by itself
    await until(lambda: attempt(job) in world.runner.held)
    await one.engine.stop()


async def test_the_last_words_of_an_attempt_whose_job_has_ended_are_passed_by(world: World) -> None:
    one = Replica(world)
    await one.engine.start()
    job = await world.executed()
    one.engine.wake(job.id)
    await until(lambda: attempt(job) in world.runner.held)
    one.engine._hear(attempt(job))
    assert one.engine._queue._gathered == {job.id}
    await world.runner.become(attempt(job), Started(world.clock.now()))
    await world.ends(job)
    await until(lambda: not one.engine.running and not one.engine._queue._gathered)
    one.engine._hear(attempt(job))
    assert not one.engine._queue._gathered
    await one.engine.stop()


async def test_two_that_lead_for_a_moment_start_each_program_once(world: World) -> None:
    replicas = [Replica(world) for _ in range(3)]
    jobs = [await world.executed() for _ in range(2)]
    for _ in range(3):
        await asyncio.gather(*(r.reconciler.reconcile(job.id) for r in replicas for job in jobs))
    stored = [await world.store.get_job(job.id) for job in jobs]
    assert [job.attempt.id for job in stored if job.attempt] == [attempt(job) for job in jobs]
    assert sorted(world.runner.held) == sorted(attempt(job) for job in jobs)  # a repeat is of the same run directory
    for job in jobs:
        await world.runner.become(attempt(job), Started(world.clock.now()))
        await world.ends(job)
    await asyncio.gather(*(r.reconciler.reconcile(job.id) for r in replicas for job in jobs))
    assert {(await world.store.get_job(job.id)).status for job in jobs} == {JobStatus.SUCCESS}


async def test_one_that_lost_its_lease_starts_nothing(world: World) -> None:
    """Stopped between the intent and the launch, for so long that the job has ended and is deleted."""
    slow, job = Replica(world), await world.executed()
    held = world.provisioner.provide

    async def provide(job):
        slow.may_act = False
        return await held(job)

    world.provisioner.provide = provide  # type: ignore[method-assign]
    await slow.reconciler.reconcile(job.id)
    assert (await world.store.get_job(job.id)).attempt is not None
    assert world.runner.held == {}
    await slow.reconciler.reconcile(job.id)
    assert world.runner.held == {}
    world.provisioner.provide = held  # type: ignore[method-assign]
    await Replica(world).reconciler.reconcile(job.id)
    assert list(world.runner.held) == [attempt(job)]


async def test_who_waits_is_taken_up_at_a_start_without_a_write_each(world: World) -> None:
    one, jobs = Replica(world), [await world.executed() for _ in range(250)]
    await one.engine.start()
    await until(lambda: one.engine.waiting == 248 and len(world.runner.held) == 2)
    versions = [(await world.store.get_job(job.id)).version for job in jobs]
    await one.engine.stop()

    assert sorted(world.runner.held) == sorted(attempt(job) for job in jobs[:2])
    assert versions[2:] == [job.version for job in jobs[2:]]


async def test_a_store_that_cannot_list_who_waits_leaves_them_to_the_rounds(world: World) -> None:
    one, job = Replica(world), await world.executed()
    world.store.fail("live_page")
    await one.engine.start()
    another = await world.executed()
    one.engine.wake(another.id)
    await until(lambda: attempt(another) in world.runner.held)
    one.engine.look_at_everything()
    await until(lambda: attempt(job) in world.runner.held)
    await one.engine.stop()


@pytest.mark.parametrize("trouble", [OSError(errno.EIO, "a disk that fails"), ValueError("a mistake of ours")], ids=str)
async def test_looks_go_on_after_one_that_failed(world: World, trouble: Exception) -> None:
    """Whatever it was that failed: what nobody hints at any more is found by the next look."""
    one, job = Replica(world), await world.executed()
    await one.engine.start()
    await until(lambda: attempt(job) in world.runner.held)
    real, asked = world.runner.attempts, list[str]()

    async def attempts() -> Sequence[str]:
        asked.append("once more")
        if len(asked) < 3:
            raise trouble
        return await real()

    world.runner.attempts = attempts  # type: ignore[method-assign]
    for count in (1, 2, 3):
        one.engine.look_at_everything()
        await until(lambda count=count: len(asked) == count)
    await one.engine.stop()
