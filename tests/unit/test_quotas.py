"""What a project may have at most: what is refused, what waits, and what is kept all the same."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.world import DAY, PROJECT, WHO, World, a_file, a_spec, attempt, chunks

from jobsphere.domain.attempt import Started
from jobsphere.domain.errors import InvalidArgumentError, ResourceExhaustedError
from jobsphere.domain.job import JobStatus
from jobsphere.domain.quota import Quota, StoredSizes, parse_quota, show_quota
from jobsphere.domain.resource import with_quota


async def world_with(tmp_path: Path, places: int = 9, **quota: int) -> World:
    return await World(tmp_path, places, Quota(**quota)).open()


async def test_no_quota_limits_nothing(tmp_path: Path) -> None:
    world = await world_with(tmp_path)
    for _ in range(20):
        await world.executed()


async def test_one_job_too_many_is_refused_with_the_figures_and_the_next_step(tmp_path: Path) -> None:
    world = await world_with(tmp_path, jobs=2)
    first = await world.created()
    await world.created()
    with pytest.raises(ResourceExhaustedError, match=r"2 jobs are stored, and 2 may be.*Next: delete jobs.*operator"):
        await world.created()
    await world.jobs.delete(WHO, first.id)
    await world.created()


async def test_of_many_at_once_as_many_get_in_as_may(tmp_path: Path) -> None:
    world = await world_with(tmp_path, jobs=3)
    results = await asyncio.gather(*(world.created() for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(result, ResourceExhaustedError) for result in results) == 7


async def test_a_fork_counts_too(tmp_path: Path) -> None:
    world = await world_with(tmp_path, jobs=1)
    job = await world.created()
    with pytest.raises(ResourceExhaustedError):
        await world.jobs.clone(WHO, job.id, a_spec(cmd="", instance_types=()), "", "", DAY)


async def test_only_new_bytes_count(tmp_path: Path) -> None:
    world = await world_with(tmp_path, bytes=10)
    held = a_file("held", b"12345678")
    await world.blobs.receive(PROJECT, held.sha256, 8, chunks(b"12345678"))
    await world.created(a_spec(input_files=(held, a_file("new", b"ab"))))
    with pytest.raises(ResourceExhaustedError, match=r"8 B are stored \(8 B in .*\), 3 B more would be, 10 B may be"):
        await world.created(a_spec(input_files=(held, a_file("new", b"abc"))))


async def test_bytes_that_come_in_count_from_their_beginning(tmp_path: Path) -> None:
    world = await world_with(tmp_path, bytes=10)
    async with world.quotas.uploading(PROJECT, 6):
        with pytest.raises(ResourceExhaustedError):
            async with world.quotas.uploading(PROJECT, 6):
                pass
        with pytest.raises(ResourceExhaustedError):
            await world.created(a_spec(input_files=(a_file("new", b"12345"),)))
    async with world.quotas.uploading(PROJECT, 10):
        pass


async def test_what_a_job_gives_is_kept_and_the_next_one_refused(tmp_path: Path) -> None:
    world = await world_with(tmp_path, bytes=2)
    job = await world.running()
    await world.ends(job)
    job = await world.reconcile(job, 2)
    assert job.status is JobStatus.SUCCESS
    assert await world.blobs.missing(PROJECT, {f.sha256 for f in job.artifacts.files()}) == set()
    with pytest.raises(ResourceExhaustedError):
        await world.created(a_spec(input_files=(a_file("new", b"1"),)))
    await world.created()  # nothing new
    await world.jobs.delete_data(WHO, job.id)
    await world.created(a_spec(input_files=(a_file("new", b"1"),)))


async def test_datasets_and_the_disk_count_and_what_uses_most_is_told(tmp_path: Path) -> None:
    world = await world_with(tmp_path, bytes=100)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 40)
    await world.datasets.create(WHO, PROJECT, "one", [source])
    world.disks.sizes[PROJECT] = 30
    figures = r"70 B are stored \(40 B in datasets, 30 B on its disk\), 40 B more would be, 100 B may be"
    with pytest.raises(ResourceExhaustedError, match=rf"{figures}\. Next: delete datasets.*dataset list"):
        await world.datasets.create(WHO, PROJECT, "two", [source])
    assert [d.name for d in await world.datasets.all(WHO, PROJECT)] == ["one"]
    assert len(list((tmp_path / "datasets" / PROJECT).iterdir())) == 1, "what was refused does not stay"
    world.disks.sizes[PROJECT] = 50
    with pytest.raises(ResourceExhaustedError, match=r"Next: remove files from its disk.*project disk ls"):
        await world.created(a_spec(input_files=(a_file("new", b"x" * 20),)))
    with pytest.raises(ResourceExhaustedError):
        async with world.quotas.uploading(PROJECT, 20):
            pass
    with pytest.raises(ResourceExhaustedError):
        async with world.quotas.adding(PROJECT, 20):
            pass
    await world.datasets.delete(WHO, PROJECT, "one")
    async with world.quotas.adding(PROJECT, 20):
        pass


async def test_of_many_uploads_at_once_as_many_come_in_as_may(tmp_path: Path) -> None:
    world = await world_with(tmp_path, bytes=100)
    in_there, go = 0, asyncio.Event()

    async def slow(project_id: str) -> int:
        await asyncio.sleep(0)  # others have their turn
        return 0

    world.blobs.stored_bytes = slow  # type: ignore[method-assign]

    async def upload() -> None:
        nonlocal in_there
        async with world.quotas.uploading(PROJECT, 30):
            in_there += 1
            await go.wait()

    uploads = [asyncio.create_task(upload()) for _ in range(10)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert in_there == 3
    go.set()
    results = await asyncio.gather(*uploads, return_exceptions=True)
    assert sum(isinstance(result, ResourceExhaustedError) for result in results) == 7


async def test_a_job_that_would_leave_yet_more_is_not_begun(tmp_path: Path) -> None:
    world = await world_with(tmp_path, bytes=10)
    job = await world.created()
    world.disks.sizes[PROJECT] = 11
    with pytest.raises(ResourceExhaustedError, match=r"11 B are stored \(11 B on its disk\), 10 B may be"):
        await world.jobs.execute(WHO, job.id)
    assert (await world.store.get_job(job.id)).status is JobStatus.CREATING
    world.disks.sizes[PROJECT] = 10
    await world.jobs.execute(WHO, job.id)


async def test_what_a_project_has_is_told(tmp_path: Path) -> None:
    world = await world_with(tmp_path)
    await world.running()
    await world.executed()
    held = a_file("held", b"12345678")
    await world.blobs.receive(PROJECT, held.sha256, 8, chunks(b"12345678"))
    world.disks.sizes[PROJECT] = 3
    async with world.quotas.uploading(PROJECT, 5):
        usage = await world.quotas.usage(PROJECT)
    assert (usage.jobs, usage.running, usage.queued) == (2, 1, 1)
    assert usage.sizes == StoredSizes(8, 0, 3, 5)


async def test_the_queue_has_an_end(tmp_path: Path) -> None:
    world = await world_with(tmp_path, queued=2)
    waiting = [await world.executed(), await world.executed()]
    job = await world.created()
    with pytest.raises(ResourceExhaustedError, match="2 jobs wait for their turn, and 2 may"):
        await world.jobs.execute(WHO, job.id)
    assert (await world.store.get_job(job.id)).status is JobStatus.CREATING
    await world.reconcile(waiting[0])
    await world.jobs.execute(WHO, job.id)
    await world.jobs.execute(WHO, waiting[1].id)  # once more: it is in already


async def test_one_project_runs_as_many_as_it_may_and_others_go_on(tmp_path: Path) -> None:
    world = await world_with(tmp_path, places=4, running=2)
    jobs = [await world.executed() for _ in range(4)]
    for job in jobs:
        await world.reconcile(job)
    placed = [(await world.store.get_job(job.id)).attempt is not None for job in jobs]
    assert placed == [True, True, False, False]
    assert "2 jobs of this project run" in (await world.store.get_job(jobs[2].id)).status_details
    project, _ = await world.projects.create(WHO, "other", community_id="c" * 20)
    submitted = await world.jobs.create(WHO, project.id, a_spec(), "", "", "", DAY)
    await world.jobs.execute(WHO, submitted.job_id)
    await world.reconciler.reconcile(submitted.job_id)
    assert (await world.store.get_job(submitted.job_id)).attempt is not None

    await world.runner.become(attempt(jobs[0]), Started(world.clock.now()))
    await world.ends(jobs[0])
    world.woken.clear()
    await world.reconcile(jobs[0], 2)
    assert jobs[2].id in world.woken
    assert jobs[3].id not in world.woken


async def test_a_projects_own_quota_goes_before_the_servers(tmp_path: Path) -> None:
    world = await world_with(tmp_path, jobs=1)
    await world.projects.update(WHO, PROJECT, lambda was: with_quota(was, {"jobs": "2"}))
    await world.created()
    await world.created()
    with pytest.raises(ResourceExhaustedError):
        await world.created()
    await world.projects.update(WHO, PROJECT, lambda was: with_quota(was, {"jobs": ""}))
    with pytest.raises(ResourceExhaustedError, match="1 may be"):
        await world.created()


def test_quotas_are_written_as_people_write_them() -> None:
    quota = parse_quota({"jobs": "100", "bytes": "1.5 GiB", "running": "", "queued": "0"})
    assert quota == Quota(jobs=100, bytes=3 << 29, queued=0)
    assert parse_quota(show_quota(quota)) == quota
    assert quota.over(Quota(jobs=1, running=4)) == replace(quota, running=4)


@pytest.mark.parametrize("wrong", [{"cpus": "1"}, {"jobs": "many"}, {"jobs": "1.5"}, {"jobs": "-1"}, {"bytes": "1 XB"}])
def test_what_is_no_quota_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidArgumentError, match="quota"):
        parse_quota(wrong)
