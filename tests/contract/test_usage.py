"""What quotas are told of jobs and bytes, whoever tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from ports_blobs import MemoryBlobStore
from tests.unit.world import NOW, PROJECT, a_file, a_spec, chunks

from jobsphere.blob.local import LocalBlobStore
from jobsphere.domain.job import Attempt, Job, JobStatus
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import FinishedFile, JobStore
from jobsphere.domain.quota_ports import JobCounts
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.postgres import PostgresJobStore
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.store.usage import MemoryJobCounts, SqlJobCounts

OTHER = "q" * 20


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[JobStore, JobCounts]]:
    if request.param == "memory":
        memory = MemoryJobStore()
        yield memory, MemoryJobCounts(memory)
    else:
        store: SqlJobStore
        if request.param == "sqlite":
            store = SqliteJobStore.open(tmp_path / "jobs.db", lambda job: b"")
        else:
            store = await PostgresJobStore.open(request.getfixturevalue("address"), lambda job: b"")
        yield store, store.beside(SqlJobCounts)
        await store.close()


async def test_jobs_are_counted_by_project(stores: tuple[JobStore, JobCounts]) -> None:
    store, counts = stores
    waiting = Job("a", PROJECT, "ann", NOW, a_spec(), status=JobStatus.PREPARING)
    placed = replace(waiting, id="b", attempt=Attempt("b-1", "here", NOW))
    for job in (
        waiting, placed, replace(waiting, id="c", status=JobStatus.CREATING), replace(waiting, id="d", project_id=OTHER)
    ):  # fmt: skip
        await store.add_job(job, Operation(f"o-{job.id}", OperationKind.CREATE, job.project_id, job.id, NOW, "ann"))
    assert (await counts.stored_jobs(PROJECT), await counts.queued_jobs(PROJECT)) == (3, 1)
    assert (await counts.stored_jobs(OTHER), await counts.queued_jobs(OTHER)) == (1, 1)
    assert (await counts.stored_jobs("none"), await counts.queued_jobs("none")) == (0, 0)


@pytest.mark.parametrize("make", [MemoryBlobStore, LocalBlobStore])
async def test_bytes_are_counted_as_they_come_and_go(make: type[LocalBlobStore], tmp_path: Path) -> None:
    store = make(tmp_path / "blobs")
    assert await store.stored_bytes(PROJECT) == 0
    one, two = a_file("one", b"one"), a_file("two", b"twotwo")
    for project in (PROJECT, PROJECT, OTHER):
        await store.receive(project, one.sha256, 3, chunks(b"one"))
    assert await store.stored_bytes(PROJECT) == 3
    made = tmp_path / "made"
    made.write_bytes(b"twotwo")
    for _ in range(2):
        await store.adopt(PROJECT, [FinishedFile(two.sha256, 6, made)])
    assert await store.stored_bytes(PROJECT) == 9

    async def nobody(_: set[str]) -> set[str]:
        return set()

    await store.remove(PROJECT, [one.sha256], nobody)
    assert await store.stored_bytes(PROJECT) == 6
    assert await make(tmp_path / "blobs").stored_bytes(PROJECT) == (6 if make is LocalBlobStore else 0)
    await store.drop(PROJECT)
    assert (await store.stored_bytes(PROJECT), await store.stored_bytes(OTHER)) == (0, 3)
