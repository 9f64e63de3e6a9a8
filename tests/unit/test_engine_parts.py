"""The dispatcher's places, the queue of keys, and retention."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.world import NOW, PROJECT, World, a_spec, alone, node_for

from jobsphere.domain.attempt import Started
from jobsphere.domain.capacity import GIB, Grant, Limits
from jobsphere.domain.job import Attempt, Job, JobStatus
from jobsphere.engine.dispatcher import Dispatcher
from jobsphere.engine.retention import Retention
from jobsphere.engine.work import KeyedQueue


def a_job(name: str, project: str = PROJECT) -> Job:
    return Job(name, project, "ann", NOW, a_spec(), name=name)


def type_of(grant: Grant | None) -> str | None:
    return grant.instance_type if grant else None


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the queue tells nobody
            await asyncio.sleep(0.001)


def test_places_are_given_in_order_and_never_more_than_there_are() -> None:
    dispatcher = Dispatcher(alone(node_for(2)))
    jobs = [a_job(f"job-{i}") for i in range(5)]

    assert [type_of(dispatcher.place(j)) for j in jobs] == ["c1.4", "c1.4", None, None, None]
    assert "number 2 in the queue" in dispatcher.why_waiting(jobs[3])
    assert "job-0, job-1" in dispatcher.why_waiting(jobs[3])
    assert dispatcher.release("job-1") == ["job-2"]
    assert dispatcher.place(jobs[4]) is None
    assert type_of(dispatcher.place(jobs[2])) == "c1.4"


def test_who_is_taken_up_at_start_holds_a_place() -> None:
    dispatcher = Dispatcher(alone(node_for(1)))
    attempt = Attempt("found-running-1", "here", NOW, Limits(4, GIB))
    dispatcher.keep(replace(a_job("found-running"), attempt=attempt))

    assert dispatcher.place(a_job("new")) is None


def test_a_waiting_job_that_ends_gives_its_turn_away() -> None:
    dispatcher = Dispatcher(alone(node_for(1)))
    first, second, third = (a_job(n) for n in ("first", "second", "third"))
    dispatcher.place(first)
    dispatcher.place(second)
    dispatcher.place(third)
    dispatcher.release("second")

    assert dispatcher.release("first") == ["third"]
    assert type_of(dispatcher.place(third)) == "c1.4"


def test_projects_take_turns() -> None:
    dispatcher = Dispatcher(alone(node_for(1)))
    dispatcher.place(a_job("running", "a"))
    jobs = [a_job(f"a{i}", "a") for i in range(3)] + [a_job("b0", "b"), a_job("c0", "c"), a_job("c1", "c")]
    for job in jobs:
        dispatcher.place(job)
    served, running = [], "running"
    while turn := dispatcher.release(running):
        job = next(j for j in jobs if j.id == turn[0])
        assert type_of(dispatcher.place(job)) == "c1.4"
        served.append(running := job.id)

    assert served == ["a0", "b0", "c0", "a1", "c1", "a2"]


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=40))
def test_nobody_is_overtaken_within_a_project_and_no_place_is_given_twice(
    places: int, steps: list[tuple[str, bool]]
) -> None:
    dispatcher, waiting, running, served = Dispatcher(alone(node_for(places))), {}, [], {"a": [], "b": [], "c": []}

    def try_to_place(job: Job) -> None:
        if dispatcher.place(job):
            waiting.pop(job.id)
            running.append(job.id)
            served[job.project_id].append(int(job.id[1:]))

    for number, (project, ends) in enumerate(steps):
        job = a_job(f"{project}{number}", project)
        waiting[job.id] = job
        try_to_place(job)
        if ends and running:
            for turn in dispatcher.release(running.pop(0)):
                try_to_place(waiting[turn])
        assert len(running) <= places
        assert not waiting or len(running) == places

    assert all(numbers == sorted(numbers) for numbers in served.values())


async def test_a_key_is_never_worked_on_twice_at_once_and_no_hint_is_lost() -> None:
    active: Counter[str] = Counter()
    done: Counter[str] = Counter()

    async def work(key: str) -> None:
        active[key] += 1
        assert active[key] == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        active[key] -= 1
        done[key] += 1

    queue = KeyedQueue(work, workers=4)
    queue.start()
    for _ in range(20):
        queue.add("a")
        queue.add_soon("a")
        queue.add("b")
        await asyncio.sleep(0)
    before = done["a"]
    queue.add("a")
    await until(lambda: done["a"] > before and done["b"] >= 2)
    await queue.stop()


async def test_a_hint_that_comes_during_the_work_is_worked_on_after_it() -> None:
    gate, done = asyncio.Event(), Counter[str]()

    async def work(key: str) -> None:
        await gate.wait()
        done[key] += 1

    queue = KeyedQueue(work, workers=2)
    queue.start()
    queue.add("a")
    await asyncio.sleep(0)
    queue.add("a")
    queue.add("a")
    gate.set()
    await until(lambda: done["a"] == 2)
    await queue.stop()


async def test_hints_within_a_moment_are_one_piece_of_work() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = KeyedQueue(work, workers=1)
    queue.start()
    for _ in range(10):
        queue.add_soon("a")
    await until(lambda: bool(done))
    await queue.stop()

    assert done == ["a"]


async def test_keys_that_can_wait_come_after_others_and_are_not_forgotten_over_them() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = KeyedQueue(work, workers=1)
    for number in range(20):
        queue.add(f"round-{number}", can_wait=True)
        queue.add(f"hint-{number}")
    queue.add("round-19")  # somebody waits for it by now
    queue.add("hint-0", can_wait=True)
    queue.start()
    await until(lambda: len(done) == 40)
    await queue.stop()

    assert sorted(done) == sorted({*done})
    hints = [at for at, key in enumerate(done) if key.startswith("hint") or key == "round-19"]
    assert hints[-1] <= 23
    assert [key for key in done if key.startswith("round")][:2] == ["round-0", "round-1"]
    assert done.index("round-1") < hints[-1]


async def test_a_key_that_can_wait_is_worked_on_again_if_it_is_added_during_the_work() -> None:
    gate, done = asyncio.Event(), Counter[str]()

    async def work(key: str) -> None:
        await gate.wait()
        done[key] += 1

    queue = KeyedQueue(work, workers=1)
    queue.start()
    queue.add("a", can_wait=True)
    await asyncio.sleep(0)
    queue.add("a", can_wait=True)
    gate.set()
    await until(lambda: done["a"] == 2)
    await queue.stop()


def test_who_waited_before_this_start_comes_before_who_comes_meanwhile() -> None:
    dispatcher = Dispatcher(alone(node_for(1)))
    dispatcher.begin_taking_up()
    assert dispatcher.place(a_job("new")) is None
    for name in ("first", "second"):
        dispatcher.take_up(a_job(name), None)
    assert dispatcher.turns() == ["first"]
    assert type_of(dispatcher.place(a_job("first"))) == "c1.4"
    assert dispatcher.all_taken_up() == ["new"]

    assert dispatcher.place(a_job("new")) is None
    assert dispatcher.release("first") == ["second"]
    assert dispatcher.release("second") == ["new"]


def test_one_who_leads_no_more_knows_of_nobody() -> None:
    dispatcher = Dispatcher(alone(node_for(1)))
    for name in ("runs", "waits"):
        dispatcher.place(a_job(name))
    dispatcher.clear()

    assert (dispatcher.running, dispatcher.waiting, dispatcher.turns()) == (0, 0, [])
    assert type_of(dispatcher.place(a_job("another"))) == "c1.4"


async def test_expired_data_is_cleared_and_one_that_cannot_be_stops_no_other(tmp_path: Path) -> None:
    world = await World(tmp_path).open()
    stuck, plain, kept = await world.created(), await world.created(), await world.created(ttl=None)
    running = await world.running()
    retention = Retention(world.store, world.clock, world.data.clear, 60)
    world.clock.pass_by(86401)
    clear = world.data.clear

    async def clear_but(job: Job) -> Job:
        if job.id == stuck.id:
            world.store.fail("update_job")
        return await clear(job)

    retention = Retention(world.store, world.clock, clear_but, 60)
    assert await retention.sweep() == 1

    cleared = [(await world.store.get_job(j.id)).data_cleared for j in (stuck, plain, kept, running)]
    assert cleared == [False, True, False, False]
    assert (await world.store.get_job(running.id)).status is JobStatus.EXECUTING


async def test_a_thousand_jobs_wait_and_all_come_to_their_turn(tmp_path: Path) -> None:
    count = 1000
    world = await World(tmp_path, places=8).open()
    jobs = [await world.executed() for _ in range(count)]
    for job in jobs:
        await world.reconciler.reconcile(job.id)
    launched = 0
    while launched < count:
        held = [a for a in await world.runner.attempts() if not world.runner.held[a].seen.collected]
        assert 0 < len(held) <= 8
        for name in held:
            job = await world.store.get_job(name.rpartition("-")[0])
            await world.runner.become(name, Started(NOW))
            await world.ends(job)
            world.woken.clear()
            await world.reconciler.reconcile(job.id)
            launched += 1
            for woken in list(world.woken):
                await world.reconciler.reconcile(woken)

    assert len(world.runner.held) == count
