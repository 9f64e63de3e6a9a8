"""What every JobStore promises, asked of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from jobsphere.domain.artifact import Artifacts, File, FileDesc
from jobsphere.domain.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from jobsphere.domain.job import LIVE_STATUSES, Attempt, EnvironmentSpec, Job, JobSpec, JobStatus, PythonEnv
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import JobStore
from jobsphere.store.failing import FailingJobStore
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.postgres import PostgresJobStore
from jobsphere.store.sqlite import SqliteJobStore

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
_numbers = count()


def encode(job: Job) -> bytes:
    return f"{job.id} {job.status} {job.version}".encode()


@pytest.fixture(params=["sqlite", "postgres", "memory", "failing"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[JobStore]:
    opened: JobStore
    match request.param:
        case "sqlite":
            opened = SqliteJobStore.open(tmp_path / "jobsphere.db", encode)
        case "postgres":
            opened = await PostgresJobStore.open(request.getfixturevalue("address"), encode)
        case "memory":
            opened = MemoryJobStore(encode)
        case _:
            opened = FailingJobStore(MemoryJobStore(encode))
    yield opened
    await opened.close()


def a_file(path: str, digit: str) -> File:
    return File(FileDesc(path), sha256=digit * 64, size_bytes=1)


def a_job(status: JobStatus = JobStatus.CREATING, project_id: str = "p1", **fields: object) -> Job:
    values: dict[str, object] = {"spec": JobSpec(cmd="true"), "id": f"job{next(_numbers)}", "status": status, **fields}
    return Job(project_id=project_id, created_by_id="me", created_at=NOW, **values)


def an_operation(job: Job, kind: OperationKind = OperationKind.CREATE) -> Operation:
    return Operation(f"op{next(_numbers)}", kind, job.project_id, job.id, NOW, "me")


def moved(job: Job, status: JobStatus, **fields: object) -> Job:
    return replace(job, status=status, version=job.version + 1, **fields)


async def added(store: JobStore, *jobs: Job) -> tuple[Job, ...]:
    for job in jobs:
        await store.add_job(job, an_operation(job))
    return jobs


# Jobs.


async def test_a_job_comes_back_as_it_was_stored(store: JobStore) -> None:
    job = a_job(spec=JobSpec(cmd="x", input_files=(a_file("a", "1"),)), data_ttl=14 * timedelta(days=1))
    await added(store, job)
    assert await store.get_job(job.id) == job


async def test_a_view_is_what_was_encoded_when_the_state_was_stored(store: JobStore) -> None:
    (job,) = await added(store, a_job())
    view = await store.view_job(job.id)
    assert (view.project_id, view.body) == ("p1", encode(job))
    new = moved(job, JobStatus.PREPARING)
    assert await store.update_job(new, job)
    assert (await store.view_job(job.id)).body == encode(new)


async def test_what_is_not_there_is_not_found(store: JobStore) -> None:
    for ask in (store.get_job, store.view_job, store.get_operation, store.get_project):
        with pytest.raises(NotFoundError, match="nothing"):
            await ask("nothing")


async def test_an_id_is_taken_once_and_the_refused_write_leaves_nothing(store: JobStore) -> None:
    (job,) = await added(store, a_job())
    second = replace(job, project_id="p2", spec=JobSpec(cmd="other", input_files=(a_file("a", "9"),)))
    operation = an_operation(second)
    with pytest.raises(AlreadyExistsError):
        await store.add_job(second, operation)
    assert await store.get_job(job.id) == job
    assert await store.unreferenced("p2", ["9" * 64]) == {"9" * 64}
    with pytest.raises(NotFoundError):
        await store.get_operation(operation.id)


async def test_a_taken_operation_id_undoes_the_whole_write(store: JobStore) -> None:
    job, other = a_job(), a_job()
    operation = an_operation(job)
    await store.add_job(job, operation)
    for write in (
        store.add_job(other, replace(operation, job_id=other.id)),
        store.update_job(moved(job, JobStatus.PREPARING), job, operation),
        store.add_operation(operation),
    ):
        with pytest.raises(AlreadyExistsError):
            await write
    assert await store.get_job(job.id) == job
    with pytest.raises(NotFoundError):
        await store.get_job(other.id)


# Guarded changes.


async def test_an_update_stores_the_new_state_and_its_operation(store: JobStore) -> None:
    (job,) = await added(store, a_job())
    operation = an_operation(job, OperationKind.EXECUTE)
    new = moved(job, JobStatus.PREPARING, operation_id=operation.id, attempt=Attempt("a1", "here", NOW))
    assert await store.update_job(new, job, operation)
    assert await store.get_job(job.id) == new
    assert await store.get_operation(operation.id) == operation


@pytest.mark.parametrize("difference", [{"version": 7}, {"status": JobStatus.EXECUTING}, {"id": "gone"}])
async def test_an_update_of_another_state_writes_nothing(store: JobStore, difference: dict[str, object]) -> None:
    (job,) = await added(store, a_job())
    was = replace(job, **difference)
    operation = an_operation(job)
    new = moved(was, JobStatus.SUCCESS, artifacts=Artifacts(outputs=(a_file("o", "5"),)))
    assert not await store.update_job(new, was, operation)
    assert not await store.delete_job(was, operation)
    assert await store.get_job(job.id) == job
    assert await store.unreferenced("p1", ["5" * 64]) == {"5" * 64}
    with pytest.raises(NotFoundError):
        await store.get_operation(operation.id)


async def test_of_many_updates_of_one_state_exactly_one_wins(store: JobStore) -> None:
    (job,) = await added(store, a_job())
    candidates = [moved(job, JobStatus.PREPARING, status_details=str(i)) for i in range(100)]
    won = await asyncio.gather(*(store.update_job(new, job) for new in candidates))
    assert sum(won) == 1
    assert await store.get_job(job.id) == candidates[won.index(True)]


async def test_delete_takes_the_job_its_references_and_its_other_operations(store: JobStore) -> None:
    job, other = await added(
        store,
        a_job(spec=JobSpec(cmd="x", input_files=(a_file("a", "1"), a_file("b", "2")))),
        a_job(spec=JobSpec(cmd="x", input_files=(a_file("a", "1"),))),
    )
    execute, delete = an_operation(job, OperationKind.EXECUTE), an_operation(job, OperationKind.DELETE)
    await store.add_operation(execute)
    assert await store.delete_job(job, delete)
    with pytest.raises(NotFoundError):
        await store.get_job(job.id)
    with pytest.raises(NotFoundError):
        await store.get_operation(execute.id)
    assert await store.get_operation(delete.id) == delete
    assert await store.unreferenced("p1", ["1" * 64, "2" * 64]) == {"2" * 64}
    assert await store.get_job(other.id) == other
    assert not await store.delete_job(job, an_operation(job))


# References to blobs.


async def test_inputs_modules_outputs_logs_and_diagnostics_are_referred_to(store: JobStore) -> None:
    python = PythonEnv(local_modules=(a_file("m", "2"),))
    (job,) = await added(
        store,
        a_job(
            JobStatus.UPLOADING_OUTPUT,
            spec=JobSpec(cmd="x", input_files=(a_file("a", "1"),), env=EnvironmentSpec(python_env=python)),
        ),
    )
    left = Artifacts(
        outputs=(a_file("o", "3"),), logs=(a_file("l", "4"), a_file("a", "1")), diagnostics=(a_file("d", "5"),)
    )
    hashes = [digit * 64 for digit in "123456"]
    assert await store.unreferenced("p1", hashes) == {digit * 64 for digit in "3456"}
    done = moved(job, JobStatus.SUCCESS, artifacts=left)
    assert await store.update_job(done, job)
    assert await store.unreferenced("p1", hashes) == {"6" * 64}
    assert await store.unreferenced("p2", hashes) == set(hashes)


async def test_cleared_data_is_referred_to_by_this_job_no_more(store: JobStore) -> None:
    spec = JobSpec(cmd="x", input_files=(a_file("a", "1"), a_file("b", "2")))
    job, _ = await added(
        store,
        a_job(JobStatus.SUCCESS, spec=spec, artifacts=Artifacts(outputs=(a_file("o", "3"),))),
        a_job(spec=JobSpec(cmd="x", input_files=(a_file("a", "1"),))),
    )
    assert await store.update_job(moved(job, JobStatus.SUCCESS, data_cleared=True), job)
    assert await store.unreferenced("p1", ["1" * 64, "2" * 64, "3" * 64]) == {"2" * 64, "3" * 64}


async def test_a_file_without_a_hash_is_no_reference(store: JobStore) -> None:
    await added(store, a_job(spec=JobSpec(cmd="x", input_files=(File(FileDesc("a")),))))
    assert await store.unreferenced("p1", [""]) == {""}


# Pages.


async def all_pages(store: JobStore, statuses: list[JobStatus] | None, limit: int) -> list[list[bytes]]:
    pages: list[list[bytes]] = []
    token = ""
    while not pages or token:
        page = await store.page_jobs("p1", statuses, limit, token)
        pages.append([view.body for view in page.views])
        token = page.next_token
    return pages


@pytest.mark.parametrize(
    "statuses",
    [
        None,
        [],
        [JobStatus.SUCCESS],
        [JobStatus.ERROR, JobStatus.SUCCESS],
        [JobStatus.SUCCESS, JobStatus.SUCCESS, JobStatus.EXECUTING],
        list(JobStatus),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_pages_are_newest_first_and_hold_each_job_once(
    store: JobStore, statuses: list[JobStatus] | None, limit: int
) -> None:
    kinds = [JobStatus.SUCCESS, JobStatus.ERROR, JobStatus.CREATING]
    jobs = [a_job(kinds[i % 3], project_id="p2" if i % 5 == 4 else "p1") for i in range(15)]
    await added(store, *jobs)
    mine = [j for j in reversed(jobs) if j.project_id == "p1" and (statuses is None or j.status in statuses)]
    pages = await all_pages(store, statuses, limit)
    assert [body for page in pages for body in page] == [encode(j) for j in mine]
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1] or pages == [[]]


async def test_a_page_goes_on_where_it_was_while_jobs_come_and_go(store: JobStore) -> None:
    jobs = await added(store, *(a_job() for _ in range(6)))
    first = await store.page_jobs("p1", None, 2, "")
    await added(store, a_job())
    await store.delete_job(jobs[4], an_operation(jobs[4]))
    second = await store.page_jobs("p1", None, 2, first.next_token)
    assert [v.body for v in second.views] == [encode(jobs[3]), encode(jobs[2])]


async def test_a_token_is_safe_in_a_url(store: JobStore) -> None:
    await added(store, a_job(), a_job())
    token = (await store.page_jobs("p1", None, 1, "")).next_token
    assert token
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@pytest.mark.parametrize(
    "token", ["1", "x" * 12, "é", "SgAAAAAAAAAA", "Sv__________", "SgAAAAAAAAAB=", "' OR 1=1", "\0"]
)
async def test_a_token_of_somebody_else_is_refused(store: JobStore, token: str) -> None:
    with pytest.raises(InvalidArgumentError, match="page_token"):
        await store.page_jobs("p1", None, 1, token)


# What the engine asks.


async def test_jobs_in_gives_all_projects_oldest_first(store: JobStore) -> None:
    jobs = [a_job(status, project_id=f"p{i}") for i, status in enumerate([*JobStatus, *reversed(JobStatus)])]
    await added(store, *jobs)
    assert await store.jobs_in(LIVE_STATUSES) == [j for j in jobs if j.status in LIVE_STATUSES]
    settled = [JobStatus.SUCCESS, JobStatus.CREATING, JobStatus.SUCCESS]
    assert await store.jobs_in(settled) == [j for j in jobs if j.status in settled]
    assert await store.jobs_in([]) == []


async def test_live_ids_come_in_pages_oldest_first(store: JobStore) -> None:
    attempt = Attempt("a-1", "here", NOW)
    jobs = [a_job(JobStatus.PREPARING, attempt=attempt if i == 2 else None) for i in range(3)]
    await added(store, jobs[0], a_job(JobStatus.EXECUTING), jobs[1], a_job(JobStatus.SUCCESS), jobs[2])
    first = await store.live_ids(JobStatus.PREPARING, 0, 2)
    second = await store.live_ids(JobStatus.PREPARING, first[-1].seq, 2)
    assert [(entry.id, entry.has_attempt) for entry in [*first, *second]] == [
        (jobs[0].id, False), (jobs[1].id, False), (jobs[2].id, True)
    ]  # fmt: skip
    assert (len(first), await store.live_ids(JobStatus.PREPARING, second[-1].seq, 2)) == (2, [])


async def test_live_jobs_come_whole_in_pages_oldest_first(store: JobStore) -> None:
    jobs = [a_job(JobStatus.PREPARING) for _ in range(3)]
    await added(store, jobs[0], a_job(JobStatus.EXECUTING), jobs[1], a_job(JobStatus.SUCCESS), jobs[2])
    first, last = await store.live_page(JobStatus.PREPARING, 0, 2)
    second, end = await store.live_page(JobStatus.PREPARING, last, 2)
    assert ([*first], [*second]) == (jobs[:2], jobs[2:])
    assert await store.live_page(JobStatus.PREPARING, end, 2) == ([], 0)


async def test_a_job_leaves_the_live_ones_when_it_ends(store: JobStore) -> None:
    (job,) = await added(store, a_job(JobStatus.UPLOADING_OUTPUT))
    assert await store.update_job(moved(job, JobStatus.SUCCESS), job)
    assert await store.jobs_in(LIVE_STATUSES) == []


async def test_expired_are_settled_jobs_past_their_time_with_data(store: JobStore) -> None:
    past, future = NOW - HOUR, NOW + timedelta(microseconds=1)
    settled = [JobStatus.CREATING, JobStatus.SUCCESS, JobStatus.ERROR, JobStatus.CANCELLED]
    expired = [a_job(status, data_expires_at=NOW - i * HOUR) for i, status in enumerate(settled)]
    await added(
        store,
        *expired,
        *(a_job(status, data_expires_at=past) for status in LIVE_STATUSES),
        a_job(JobStatus.SUCCESS, data_expires_at=future),
        a_job(JobStatus.SUCCESS, data_expires_at=None),
        a_job(JobStatus.SUCCESS, data_expires_at=past, data_cleared=True),
    )
    longest_first = expired[::-1]
    assert await store.expired_jobs(NOW, 100) == longest_first
    assert await store.expired_jobs(NOW, 2) == longest_first[:2]
    cleared = moved(longest_first[0], longest_first[0].status, data_cleared=True)
    assert await store.update_job(cleared, longest_first[0])
    assert await store.expired_jobs(NOW, 100) == longest_first[1:]


async def test_jobs_with_data_are_the_settled_ones_of_the_project(store: JobStore) -> None:
    jobs = [a_job(status) for status in JobStatus]
    await added(store, *jobs, a_job(JobStatus.SUCCESS, data_cleared=True), a_job(JobStatus.SUCCESS, project_id="p2"))
    assert await store.jobs_with_data("p1") == [j for j in jobs if j.status not in LIVE_STATUSES]


# Operations.


async def test_an_operation_comes_back(store: JobStore) -> None:
    for kind in OperationKind:
        operation = Operation(f"op-{kind}", kind, "p1", "", NOW, "me")
        await store.add_operation(operation)
        assert await store.get_operation(operation.id) == operation


# Many at once.


async def test_a_thousand_jobs_at_once_are_all_there(store: JobStore) -> None:
    jobs = [a_job() for _ in range(1000)]
    await asyncio.gather(*(store.add_job(job, an_operation(job)) for job in jobs))
    pages = await all_pages(store, None, 400)
    assert sorted(body for page in pages for body in page) == sorted(encode(j) for j in jobs)


async def test_in_a_crowd_only_the_bad_writes_fail(store: JobStore) -> None:
    (taken,) = await added(store, a_job())
    jobs = [a_job() if i % 10 else replace(taken, name=str(i)) for i in range(200)]
    answers = await asyncio.gather(*(store.add_job(j, an_operation(j)) for j in jobs), return_exceptions=True)
    for job, answer in zip(jobs, answers, strict=True):
        assert isinstance(answer, AlreadyExistsError) == (job.id == taken.id), answer
        assert (await store.get_job(job.id)).name == ""


async def test_closing_twice_is_closing(store: JobStore) -> None:
    await store.close()
    await store.close()
