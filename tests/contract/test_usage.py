"""What quotas are told of jobs and bytes, whoever tells it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from ports_blobs import MemoryBlobStore
from tests.unit.world import NOW, PROJECT, a_file, a_spec, chunks

from jobsphere.blob.local import LocalBlobStore
from jobsphere.blob.project_disk import ProjectDisk
from jobsphere.blob.usage import WalkedBlobBytes, WalkedDiskBytes
from jobsphere.domain.job import Attempt, Job, JobStatus
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import FinishedFile, JobStore
from jobsphere.domain.quota import Quota, StoredSizes
from jobsphere.domain.quota_ports import JobCounts
from jobsphere.domain.resources import Dataset, Resource
from jobsphere.service.quotas import Quotas
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.postgres import PostgresJobStore
from jobsphere.store.resources import MemoryResourceStore
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


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_what_a_project_has_counts_what_is_its_own_alone(kind: str, tmp_path: Path) -> None:
    """In datasets by the store, in blobs and on the disk by what is there."""
    sqlite = SqliteJobStore.open(tmp_path / "jobs.db", lambda job: b"") if kind == "sqlite" else None
    memory = MemoryJobStore()
    jobs = sqlite or memory
    counts = sqlite.beside(SqlJobCounts) if sqlite else MemoryJobCounts(memory)
    resources = sqlite.resources if sqlite else MemoryResourceStore()
    blobs = LocalBlobStore(tmp_path / "blobs") if sqlite else MemoryBlobStore(tmp_path / "blobs")
    looked = WalkedBlobBytes(tmp_path / "blobs") if sqlite else blobs
    one = a_file("one", b"one")
    await blobs.receive(PROJECT, one.sha256, 3, chunks(b"one"))
    (tmp_path / "file").write_bytes(b"x" * 5)
    ProjectDisk(tmp_path, PROJECT).put(tmp_path / "file", "a/b")
    for number, project in enumerate((PROJECT, PROJECT, OTHER)):
        name = f"{number:020}"
        await resources.add_resource(Resource(name, project, f"d{number}", NOW, "ann", Dataset(7, 1)))
    quotas = [Quotas(Quota(), jobs, counts, b, resources, WalkedDiskBytes(tmp_path)) for b in (blobs, looked)]
    for one_of in quotas:
        assert (await one_of.usage(PROJECT)).sizes == StoredSizes(3, 14, 5)
        assert (await one_of.usage(OTHER)).sizes == StoredSizes(0, 7, 0)
    if sqlite:
        await sqlite.close()


async def test_what_comes_while_bytes_are_looked_up_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalBlobStore(tmp_path / "blobs")
    looking, go = threading.Event(), threading.Event()

    def look(root: Path, project_id: str) -> int:
        looking.set()
        go.wait(30)
        return 0  # it had passed by

    monkeypatch.setattr("jobsphere.blob.local.blob_bytes", look)
    asked = [asyncio.create_task(store.stored_bytes(PROJECT)) for _ in range(2)]
    await asyncio.to_thread(looking.wait, 30)
    one = a_file("one", b"one")
    await store.receive(PROJECT, one.sha256, 3, chunks(b"one"))
    go.set()
    assert await asyncio.gather(*asked) == [3, 3]


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
