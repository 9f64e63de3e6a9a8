"""What callers can do with jobs, and what they are told when they cannot."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.world import DAY, NOW, PROJECT, WHO, World, a_file, a_spec, attempt, chunks

from jobsphere.domain.artifact import FileDesc
from jobsphere.domain.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    JobsphereError,
    NotFoundError,
    UnavailableError,
)
from jobsphere.domain.job import Argument, EnvironmentSpec, GracefulShutdown, JobStatus
from jobsphere.domain.operation import OperationKind
from jobsphere.service.forks import merge
from jobsphere.service.jobs import parse_filter

UNKNOWN = "x" * 20


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


async def test_create_asks_for_what_the_project_lacks_and_each_content_once(world: World) -> None:
    held, new = a_file("held", b"held"), a_file("new", b"new")
    await world.blobs.receive(PROJECT, held.sha256, 4, chunks(b"held"))
    spec = a_spec(input_files=(held, new, a_file("copy-of-new", b"new")))

    submitted = await world.jobs.create(WHO, PROJECT, spec, "", "", "", DAY)

    assert [u.file.desc.path for u in submitted.uploads] == ["new"]
    assert submitted.uploads[0].url == f"PUT {PROJECT} {new.sha256} 3 new"
    assert submitted.operation.kind is OperationKind.CREATE


async def test_one_hash_of_two_sizes_is_refused(world: World) -> None:
    lying = a_file("b", b"same")
    spec = a_spec(input_files=(a_file("a", b"same"), type(lying)(lying.desc, lying.sha256, 99)))

    with pytest.raises(InvalidArgumentError, match="another size"):
        await world.created(spec)


async def test_execute_needs_every_input_and_then_gives_one_operation(world: World) -> None:
    file = a_file("in.txt", b"content")
    job = await world.created(a_spec(input_files=(file,)))
    with pytest.raises(FailedPreconditionError, match=r"in\.txt"):
        await world.jobs.execute(WHO, job.id)
    await world.blobs.receive(PROJECT, file.sha256, 7, chunks(b"content"))

    first = await world.jobs.execute(WHO, job.id)
    second = await world.jobs.execute(WHO, job.id)

    assert first.operation == second.operation
    assert not first.done
    assert world.woken == [job.id]


async def test_execute_that_loses_its_answer_can_be_repeated(world: World) -> None:
    job = await world.created()
    world.store.fail("update_job", after=True)
    with pytest.raises(JobsphereError):
        await world.jobs.execute(WHO, job.id)

    again = await world.jobs.execute(WHO, job.id)

    assert again.operation.id == (await world.store.get_job(job.id)).operation_id


async def test_a_job_cancelled_before_execute_cannot_run(world: World) -> None:
    job = await world.created()
    await world.jobs.cancel(WHO, job.id, "", graceful=False)

    with pytest.raises(FailedPreconditionError, match="cancelled before"):
        await world.jobs.execute(WHO, job.id)


@pytest.mark.parametrize(
    ("asked", "parameters", "signal", "seconds"),
    [
        (True, GracefulShutdown(10, 2), 2, 10),
        (True, GracefulShutdown(), 15, 30),
        (False, GracefulShutdown(10, 2), 0, None),
        (True, None, 0, None),
    ],
)
async def test_cancel_is_graceful_only_with_parameters(
    world: World, asked: bool, parameters: GracefulShutdown | None, signal: int, seconds: int | None
) -> None:
    job = await world.running(a_spec(graceful_shutdown=parameters))

    await world.jobs.cancel(WHO, job.id, "why", graceful=asked)

    request = (await world.store.get_job(job.id)).cancel
    assert request
    assert (request.signal, request.reason, request.requested_by) == (signal, "why", "ann")
    assert request.deadline == (NOW + timedelta(seconds=seconds) if seconds else None)


async def test_the_ttl_counts_from_the_end_and_when_set_from_then(world: World) -> None:
    job = await world.created()
    assert job.data_expires_at == NOW + DAY
    job = await world.running()
    await world.ends(job)
    world.clock.pass_by(3600)
    job = await world.reconcile(job)
    assert job.data_expires_at == NOW + timedelta(hours=1) + DAY

    await world.jobs.set_ttl(WHO, job.id, timedelta(days=3))
    assert (await world.store.get_job(job.id)).data_expires_at == NOW + timedelta(hours=1, days=3)
    await world.jobs.set_ttl(WHO, job.id, None)
    assert (await world.store.get_job(job.id)).data_expires_at is None
    with pytest.raises(InvalidArgumentError):
        await world.jobs.set_ttl(WHO, job.id, timedelta())


async def test_downloads_are_only_the_jobs_own_files(world: World) -> None:
    job = await world.running()
    await world.ends(job)
    job = await world.reconcile(job)
    log = job.artifacts.logs[0]

    assert [s.file for s in await world.jobs.downloads(WHO, job.id, (log,))] == [log]
    assert await world.jobs.downloads(WHO, job.id, ()) == ()
    with pytest.raises(NotFoundError):
        await world.jobs.downloads(WHO, job.id, (a_file("other", b"other"),))


async def test_cleared_data_is_gone_and_the_job_stays(world: World) -> None:
    job = await world.running()
    await world.ends(job)
    job = await world.reconcile(job)

    operation = await world.jobs.delete_data(WHO, job.id)

    cleared = await world.store.get_job(job.id)
    assert operation.kind is OperationKind.DELETE_DATA
    assert (cleared.data_cleared, cleared.data_size_bytes) == (True, 0)
    assert await world.blobs.held(PROJECT) == set()
    assert attempt(job) not in world.runner.held
    for call in (
        world.jobs.downloads(WHO, job.id, job.artifacts.logs),
        world.jobs.clone(WHO, job.id, a_spec(cmd=""), "", "", DAY),
        world.jobs.set_ttl(WHO, job.id, DAY),
    ):
        with pytest.raises(FailedPreconditionError, match="cleared"):
            await call


async def test_what_another_job_refers_to_stays(world: World) -> None:
    jobs = []
    for _ in range(2):
        job = await world.running()
        await world.ends(job)
        jobs.append(await world.reconcile(job))
    await world.jobs.delete(WHO, jobs[0].id)

    assert await world.blobs.held(PROJECT) == {jobs[1].artifacts.logs[0].sha256}
    await world.jobs.delete_all_data(WHO, PROJECT)
    assert await world.blobs.held(PROJECT) == set()


async def test_a_job_under_way_cannot_be_cleared_or_deleted(world: World) -> None:
    job = await world.running()

    for call in (world.jobs.delete(WHO, job.id), world.jobs.delete_data(WHO, job.id)):
        with pytest.raises(FailedPreconditionError, match="cancel it or wait"):
            await call
    await world.jobs.delete_all_data(WHO, PROJECT)
    assert not (await world.store.get_job(job.id)).data_cleared


async def test_a_sweep_removes_what_nobody_refers_to(world: World) -> None:
    wanted, rubbish = a_file("a", b"wanted"), a_file("b", b"rubbish")
    await world.created(a_spec(input_files=(wanted,)))
    for file, content in ((wanted, b"wanted"), (rubbish, b"rubbish")):
        await world.blobs.receive(PROJECT, file.sha256, len(content), chunks(content))

    await world.data.sweep()

    assert await world.blobs.held(PROJECT) == {wanted.sha256}


async def test_a_sweep_removes_the_logs_that_a_crash_has_left(world: World) -> None:
    """It came between the row's end, or its data's, and the removal."""
    jobs = []
    for _ in range(3):
        jobs.append(await world.running())
        await world.ends(jobs[-1])
        await world.reconcile(jobs[-1])
    kept, cleared, deleted = jobs
    world.runner.fault = UnavailableError("the node is away")
    await world.jobs.delete_data(WHO, cleared.id)
    await world.jobs.delete(WHO, deleted.id)
    world.runner.fault = None
    assert len(world.runner.held) == 3

    await world.data.sweep()

    assert list(world.runner.held) == [f"{kept.id}-1"]


async def test_unknown_jobs_and_projects_are_not_found(world: World) -> None:
    for call in (
        world.jobs.create(WHO, UNKNOWN, a_spec(), "", "", "", DAY),
        world.jobs.clone(WHO, UNKNOWN, a_spec(), "", "", DAY),
        world.jobs.execute(WHO, UNKNOWN),
        world.jobs.cancel(WHO, UNKNOWN, "", graceful=False),
        world.jobs.get_view(WHO, UNKNOWN),
        world.jobs.page(WHO, UNKNOWN, "", 10, ""),
        world.jobs.delete(WHO, UNKNOWN),
        world.jobs.operations.get(WHO, UNKNOWN),
        world.jobs.operations.cancel(WHO, UNKNOWN),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_a_fork_keeps_what_is_not_overridden(world: World) -> None:
    source = await world.created(
        a_spec(
            cmd="run ${A}", arguments=(Argument("A", "1"), Argument("B", "2")), output_files=(FileDesc("o", "O"),),
            env=EnvironmentSpec(vars=(("K", "v"),)),
        )
    )  # fmt: skip
    overrides = a_spec(cmd="", arguments=(Argument("B", "3"),), instance_types=("c1.8",))

    submitted = await world.jobs.clone(WHO, source.id, overrides, "", "other words", DAY)

    fork = await world.store.get_job(submitted.job_id)
    assert (fork.parent_job_id, fork.name, fork.desc) == (source.id, "job", "other words")
    assert fork.spec.arguments == (Argument("A", "1"), Argument("B", "3"))
    assert (fork.spec.cmd, fork.spec.instance_types) == ("run ${A}", ("c1.8",))
    assert (fork.spec.output_files, fork.spec.env) == (source.spec.output_files, source.spec.env)


@pytest.mark.parametrize(
    "overrides",
    [
        a_spec(arguments=(Argument("NEW", "1"),)),
        a_spec(input_files=(a_file("i", b"", "NEW"),)),
        a_spec(output_files=(FileDesc("o", "NEW"),)),
    ],
)
def test_an_override_of_nothing_is_refused(overrides: object) -> None:
    with pytest.raises(InvalidArgumentError, match="NEW"):
        merge(a_spec(), overrides)  # type: ignore[arg-type]


def test_the_filter_has_one_form() -> None:
    assert parse_filter("") is None
    assert parse_filter("status IN (EXECUTING, UPLOADING_OUTPUT)") == (
        JobStatus.EXECUTING,
        JobStatus.UPLOADING_OUTPUT,
    )
    assert parse_filter(' status in ("ERROR") ') == (JobStatus.ERROR,)


@given(st.text(max_size=1100))
def test_any_other_filter_is_refused_and_never_breaks(text: str) -> None:
    if not text.strip():
        assert parse_filter(text) is None
        return
    with pytest.raises(InvalidArgumentError, match=r"^filter: "):
        parse_filter(text)


async def test_operations_say_how_the_job_ended(world: World) -> None:
    job = await world.running()
    status = await world.jobs.execute(WHO, job.id)
    assert not (await world.jobs.operations.get(WHO, status.operation.id)).done
    await world.jobs.operations.cancel(WHO, status.operation.id)
    await world.ends(job)
    await world.reconcile(job)

    done = await world.jobs.operations.get(WHO, status.operation.id)

    assert done.done
    assert done.error
    assert (done.error.code, done.error.message) == ("CANCELLED", "Cancelled by ann: its operation was cancelled")
    assert (await world.jobs.operations.cancel(WHO, status.operation.id)).done
