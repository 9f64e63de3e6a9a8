"""One look at one job: what it makes of every state of the attempt, and that any of it can be repeated or break off."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract.ports_memory_runner import unavailable
from tests.unit.world import NOW, WHO, World, a_spec, attempt

from jobsphere.domain.artifact import File
from jobsphere.domain.attempt import Ended, EndReason, Observation, Started, Step
from jobsphere.domain.errors import NotFoundError
from jobsphere.domain.job import GracefulShutdown, Job, JobStatus, Phase

S = JobStatus


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


async def test_a_job_gets_its_place_and_is_launched_once(world: World) -> None:
    job = await world.reconcile(await world.executed(), times=3)

    assert job.status is S.PREPARING
    assert job.attempt
    assert (job.attempt.id, job.attempt.node, job.actual_instance_type) == (attempt(job), "memory", "c1.4")
    assert world.runner.held[attempt(job)].launches == 1


async def test_records_that_appear_one_by_one_move_it_on(world: World) -> None:
    job = await world.reconcile(await world.executed())
    world.runner.held[attempt(job)].seen = Observation(known=True, alive=True, step=Step("Staging inputs", 5))
    job = await world.reconcile(job)
    assert (job.status_details, job.progress.percent if job.progress else 0) == ("Staging inputs", 5)

    await world.runner.become(attempt(job), Started(NOW))
    job = await world.reconcile(job)
    assert (job.status, job.started_at) == (S.EXECUTING, NOW)

    await world.runner.become(attempt(job), Ended(NOW, EndReason.EXITED, 0))
    job = await world.reconcile(job)
    assert (job.status, job.return_code) == (S.UPLOADING_OUTPUT, 0)

    await world.runner.become(attempt(job), world.collected(job))
    job = await world.reconcile(job)
    assert job.status is S.SUCCESS
    assert [f.desc.path for f in job.artifacts.logs] == ["stdout.txt"]
    assert await world.blobs.missing(job.project_id, {job.artifacts.logs[0].sha256}) == set()
    assert world.runner.held[attempt(job)].tidied


async def test_records_that_appear_at_once_are_one_write(world: World) -> None:
    job = await world.reconcile(await world.executed())
    await world.runner.become(attempt(job), Started(NOW))
    await world.ends(job)
    before = world.store.calls["update_job"]

    job = await world.reconcile(job)

    assert (job.status, job.started_at) == (S.SUCCESS, NOW)
    assert world.store.calls["update_job"] == before + 1


@pytest.mark.parametrize(
    ("reason", "code", "status"),
    [(EndReason.EXITED, 7, S.ERROR), (EndReason.FAILED, None, S.ERROR), (EndReason.LOST, None, S.ERROR),
     (EndReason.STOPPED, None, S.ERROR)],
)  # fmt: skip
async def test_every_other_end_is_an_error_with_its_words_and_its_log(
    world: World, reason: EndReason, code: int | None, status: JobStatus
) -> None:
    job = await world.running()
    await world.ends(job, reason, code, "the words")

    job = await world.reconcile(job)

    assert job.status is status
    assert job.failure
    assert "the words" in job.status_details or reason is EndReason.STOPPED
    assert job.artifacts.logs
    assert (job.return_code is None) is (reason is not EndReason.EXITED)


async def test_what_fails_before_the_program_is_an_error_of_its_phase(world: World) -> None:
    job = await world.reconcile(await world.executed())
    await world.runner.become(attempt(job), Ended(NOW, EndReason.FAILED, None, Phase.ENVIRONMENT, "no such package"))
    await world.runner.become(attempt(job), world.collected(job))

    job = await world.reconcile(job)

    assert job.failure
    assert (job.status, job.failure.phase, job.started_at) == (S.ERROR, Phase.ENVIRONMENT, None)


async def test_a_supervisor_that_was_seen_alive_and_is_gone_is_replaced_at_once(world: World) -> None:
    """What it has left of the program is ended by the next one."""
    job = await world.running()
    await world.runner.become(attempt(job), alive=False)

    await world.reconcile(job, times=3)
    assert world.runner.held[attempt(job)].launches == 2
    world.seconds += 60
    await world.reconcile(job, times=3)
    assert world.runner.held[attempt(job)].launches == 3


async def test_a_supervisor_that_was_just_asked_for_is_given_time_to_come(world: World) -> None:
    job = await world.reconcile(await world.executed())
    await world.runner.become(attempt(job), alive=False)

    await world.reconcile(job, times=3)
    assert world.runner.held[attempt(job)].launches == 1


async def test_a_run_directory_that_is_gone_ends_the_job(world: World) -> None:
    job = await world.running()
    del world.runner.held[attempt(job)]

    job = await world.reconcile(job)

    assert job.failure
    assert (job.status, job.failure.phase) == (S.ERROR, Phase.MACHINE)


async def test_an_intent_without_a_run_directory_is_launched(world: World) -> None:
    """A crash came between the row and the launch."""
    job = await world.reconcile(await world.executed())
    del world.runner.held[attempt(job)]
    world.seconds += 60

    job = await world.reconcile(job)

    assert job.status is S.PREPARING
    assert attempt(job) in world.runner.held


async def test_a_node_out_of_reach_is_tried_again(world: World) -> None:
    job = await world.executed()
    world.runner.fault = unavailable()
    job = await world.reconcile(job)
    assert (job.status, job.attempt is not None) == (S.PREPARING, True)

    world.runner.fault = None
    await world.reconcile(job)

    assert attempt(job) in world.runner.held


async def test_cancel_before_a_place_ends_it_at_once(world: World) -> None:
    job = await world.executed()
    await world.jobs.cancel(WHO, job.id, "", graceful=False)

    assert (await world.reconcile(job)).status is S.CANCELLED


@pytest.mark.parametrize("started", [False, True])
async def test_cancel_is_passed_on_until_the_attempt_has_stopped(world: World, started: bool) -> None:
    job = await (world.running() if started else world.executed())
    job = await world.reconcile(job)
    await world.jobs.cancel(WHO, job.id, "enough", graceful=False)

    job = await world.reconcile(job)
    order = world.runner.held[attempt(job)].order
    assert order
    assert (job.status, order.signal) == (S.CANCELLING, 0)
    await world.ends(job, EndReason.STOPPED, None)
    job = await world.reconcile(job)

    assert (job.status, job.status_details) == (S.CANCELLED, "Cancelled by ann: enough")
    assert job.artifacts.logs


async def test_graceful_cancel_has_its_signal_and_the_second_one_forces(world: World) -> None:
    job = await world.running(a_spec(graceful_shutdown=GracefulShutdown(10, 2)))
    await world.jobs.cancel(WHO, job.id, "", graceful=True)
    await world.reconcile(job)
    first = world.runner.held[attempt(job)].order
    await world.jobs.cancel(WHO, job.id, "", graceful=False)
    await world.reconcile(job)
    second = world.runner.held[attempt(job)].order

    assert first
    assert second
    assert (first.signal, second.signal) == (2, 0)


async def test_cancel_while_collecting_ends_cancelled_with_the_files(world: World) -> None:
    job = await world.running()
    await world.runner.become(attempt(job), Ended(NOW, EndReason.EXITED, 0))
    job = await world.reconcile(job)
    await world.jobs.cancel(WHO, job.id, "", graceful=False)
    await world.runner.become(attempt(job), world.collected(job))

    job = await world.reconcile(job)

    assert job.status is S.CANCELLED
    assert job.artifacts.logs


async def test_a_cancelled_intent_without_a_run_directory_is_cancelled(world: World) -> None:
    job = await world.reconcile(await world.executed())
    del world.runner.held[attempt(job)]
    await world.jobs.cancel(WHO, job.id, "", graceful=False)

    assert (await world.reconcile(job)).status is S.CANCELLED


async def test_a_blob_swept_before_its_reference_was_stored_is_adopted_again(world: World) -> None:
    job = await world.running()
    await world.ends(job)
    adopt = world.blobs.adopt

    async def adopt_and_lose(project_id: str, files: object) -> None:
        world.blobs.adopt = adopt  # type: ignore[method-assign]
        await adopt(project_id, files)  # type: ignore[arg-type]
        world.blobs._held.clear()

    world.blobs.adopt = adopt_and_lose  # type: ignore[method-assign]
    job = await world.reconcile(job)

    assert job.status is S.SUCCESS
    assert await world.blobs.missing(job.project_id, {f.sha256 for f in job.artifacts.logs}) == set()


async def test_what_a_deleted_job_left_on_the_node_is_removed(world: World) -> None:
    job = await world.running()
    await world.ends(job)
    job = await world.reconcile(job)
    remove = world.runner.remove

    async def crash(attempt_id: str) -> None:
        raise unavailable()

    world.runner.remove = crash  # type: ignore[method-assign]
    await world.jobs.delete(WHO, job.id)
    assert attempt(job) in world.runner.held
    world.runner.remove = remove  # type: ignore[method-assign]
    await world.reconciler.reconcile(job.id)

    assert attempt(job) not in world.runner.held
    with pytest.raises(NotFoundError):
        await world.store.get_job(job.id)


async def run_through(world: World) -> Job:
    """A whole job; looks are repeated until each has had its effect."""
    job = await world.executed()
    for step in ("place", "start", "end"):
        for _ in range(4):
            world.seconds += 10
            await world.reconciler.reconcile(job.id)
        if step == "place":
            await world.runner.become(attempt(job), Started(NOW))
        elif step == "start":
            await world.ends(job)
    return await world.store.get_job(job.id)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("nth", range(1, 12))
async def test_a_store_that_fails_at_any_call_changes_nothing(tmp_path: Path, nth: int, after: bool) -> None:
    undisturbed = await run_through(await World(tmp_path / "one").open())
    world = await World(tmp_path / "two").open()
    job = await world.executed()
    world.store.fail(nth=nth, after=after)
    for step in ("place", "start", "end"):
        for _ in range(4):
            world.seconds += 10
            await world.reconciler.reconcile(job.id)
        if step == "place":
            await world.runner.become(attempt(job), Started(NOW))
        elif step == "start":
            await world.ends(job)
    world.store.heal()
    ended = await world.store.get_job(job.id)

    def told(j: Job) -> tuple[JobStatus, int | None, tuple[File, ...]]:
        return j.status, j.return_code, j.artifacts.files()

    assert told(ended) == told(undisturbed)
    assert world.runner.held[attempt(job)].tidied
