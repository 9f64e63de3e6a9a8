"""Datasets of projects: made from files or by jobs, given to jobs, and in nobody's way when they go."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.world import NOW, PROJECT, WHO, World, a_spec, attempt

from jobsphere.domain.attempt import CollectedDataset, Ended, EndReason, Mount, Started
from jobsphere.domain.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from jobsphere.domain.job import Job, JobSpec, JobStatus, OutputDataset, OutputDatasetDesc, Phase
from jobsphere.domain.resource import Project
from jobsphere.domain.resources import Dataset, output_dataset_id

S = JobStatus
OTHER = "q" * 20
DESC = OutputDatasetDesc("model", "OUT", 1, "what it is", (("a", "b"),))


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "f").write_text("ff")
    return folder


def using(*ids: str) -> JobSpec:
    return a_spec(dataset_ids=ids)


def making() -> JobSpec:
    return a_spec(output_datasets=(DESC, replace(DESC, name="other", var="OUT2")))


async def test_a_job_sees_it_by_its_id(world: World, source: Path) -> None:
    dataset = await world.datasets.create(WHO, PROJECT, "data", [source], "text", (("k", "v"),))
    assert dataset.body == Dataset(2, 1, "text", (("k", "v"),))
    job = await world.reconcile(await world.executed(using(dataset.id)))
    folder = world.dataset_files.folder(PROJECT, dataset.id)
    assert world.runner.held[attempt(job)].plan.mounts == (Mount(str(folder), f"datasets/{dataset.id}", (dataset.id,)),)
    assert (folder / "f").read_text() == "ff"


async def test_one_of_another_project_or_none_is_refused_at_create(world: World, source: Path) -> None:
    await world.teams.create_project(Project(OTHER, "other", "c" * 20, NOW, WHO.id), None, None)
    theirs = await world.datasets.create(WHO, OTHER, "data", [source])
    for dataset_id in (theirs.id, "d" * 20):
        with pytest.raises(FailedPreconditionError, match=f"no dataset '{dataset_id}'; `jobsphere dataset list`"):
            await world.created(using(dataset_id))


async def test_one_that_is_gone_at_the_launch_fails_the_job(world: World, source: Path) -> None:
    dataset = await world.datasets.create(WHO, PROJECT, "data", [source])
    job = await world.created(using(dataset.id))
    await world.datasets.delete(WHO, PROJECT, "data")
    await world.jobs.execute(WHO, job.id)
    job = await world.reconcile(job)
    assert (job.status, job.failure and job.failure.phase) == (S.ERROR, Phase.STAGE)
    assert "the project has no dataset" in job.status_details


async def test_a_used_one_stays_and_a_deleted_one_takes_its_files_along(world: World, source: Path) -> None:
    dataset = await world.datasets.create(WHO, PROJECT, "data", [source])
    job = await world.running(using(dataset.id))
    with pytest.raises(FailedPreconditionError, match=rf"dataset 'data' is in use by: job \({job.id}\)"):
        await world.datasets.delete(WHO, PROJECT, dataset.id)
    await world.ends(job)
    await world.reconcile(job)
    await world.datasets.delete(WHO, PROJECT, dataset.id)
    assert not world.dataset_files.folder(PROJECT, dataset.id).exists()
    assert await world.datasets.all(WHO, PROJECT) == []


async def test_activating_is_done_for_what_is_there(world: World, source: Path) -> None:
    dataset = await world.datasets.create(WHO, PROJECT, "data", [source])
    operation = await world.datasets.activate(WHO, PROJECT, dataset.id)
    assert await world.store.get_operation(operation.id) == operation
    assert (await world.jobs.operations.get(WHO, operation.id)).done
    with pytest.raises(NotFoundError, match="has no dataset 'x'"):
        await world.datasets.activate(WHO, PROJECT, "x")


async def test_what_cannot_be_leaves_no_files(world: World, source: Path) -> None:
    await world.datasets.create(WHO, PROJECT, "data", [source])
    for call, error in (
        (world.datasets.create(WHO, PROJECT, "data", [source]), AlreadyExistsError),
        (world.datasets.create(WHO, PROJECT, "a b", [source]), InvalidArgumentError),
        (world.datasets.create(WHO, PROJECT, "b", []), InvalidArgumentError),
        (world.datasets.create(WHO, PROJECT, "b", [source], "x" * 5000), InvalidArgumentError),
        (world.datasets.create(WHO, OTHER, "b", [source]), NotFoundError),
    ):
        with pytest.raises(error):
            await call
    world.resources.fail("add_resource")
    with pytest.raises(UnavailableError):
        await world.datasets.create(WHO, PROJECT, "b", [source])
    assert len(list(world.dataset_files.folder(PROJECT, "x").parent.iterdir())) == 1


# Made by jobs.


async def made(world: World, job: Job, code: int = 0) -> None:
    """The program has ended, and its datasets are in the outbox."""
    collected = world.collected(job)
    datasets = tuple(CollectedDataset(n, desc, f"dataset-{n}", 3, 1) for n, desc in enumerate(job.spec.output_datasets))
    for dataset in datasets:
        folder = world.outbox / attempt(job) / dataset.name
        folder.mkdir()
        (folder / "f").write_text(dataset.name)
    await world.runner.become(attempt(job), Ended(NOW, EndReason.EXITED, code))
    await world.runner.become(attempt(job), replace(collected, datasets=datasets))


async def test_a_job_that_succeeds_makes_them_and_they_can_be_used_at_once(world: World) -> None:
    job = await world.running(making())
    plan = world.runner.held[attempt(job)].plan
    assert plan.locations == (("OUT", "outputs/dataset-0"), ("OUT2", "outputs/dataset-1"))
    assert [place.desc.name for place in plan.datasets] == ["model", "other"]
    await made(world, job)
    job = await world.reconcile(job)

    assert job.status is S.SUCCESS
    ids = [output_dataset_id(attempt(job), n) for n in range(2)]
    assert job.output_datasets == tuple(OutputDataset(d, i) for d, i in zip(making().output_datasets, ids, strict=True))
    first, _ = await world.datasets.all(WHO, PROJECT)
    assert (first.id, first.name, first.created_by_id) == (ids[0], "model", WHO.id)
    assert first.body == Dataset(3, 1, "what it is", (("a", "b"),), job.id)
    assert (world.dataset_files.folder(PROJECT, ids[0]) / "f").read_text() == "dataset-0"
    assert await world.executed(using(*ids))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", ["add_resource", "get_resource"])
async def test_making_them_may_break_off_anywhere(world: World, call: str, after: bool) -> None:
    job = await world.running(making())
    await made(world, job)
    world.resources.fail(call, times=3, after=after)
    world.store.fail("update_job", nth=1, after=after)
    for _ in range(5):
        job = await world.reconcile(job)
    assert job.status is S.SUCCESS
    assert [d.name for d in await world.datasets.all(WHO, PROJECT)] == ["model", "other"]
    assert len(job.output_datasets) == 2


async def test_a_second_run_makes_others_beside_those_of_the_first(world: World) -> None:
    for _ in range(2):
        job = await world.running(making())
        await made(world, job)
        job = await world.reconcile(job)
    names = [d.name for d in await world.datasets.all(WHO, PROJECT)]
    assert names[:2] == ["model", "other"]
    assert names[2] == f"model-{job.output_datasets[0].id[:8]}"
    assert job.output_datasets[0].desc.name == "model"


async def test_one_that_is_cancelled_in_the_last_moment_makes_none(world: World) -> None:
    early = await world.running(making())
    await world.jobs.cancel(WHO, early.id, "", graceful=False)
    await made(world, early)
    assert (await world.reconcile(early)).status is S.CANCELLED

    late = await world.executed(making())
    await world.reconcile(late)
    await world.runner.become(attempt(late), Started(NOW))
    late = await world.reconcile(late)
    await made(world, late)
    world.store.fail("update_job")
    await world.reconcile(late)
    assert await world.datasets.all(WHO, PROJECT) != []
    await world.jobs.cancel(WHO, late.id, "", graceful=False)
    late = await world.reconcile(late, times=2)
    assert (late.status, late.output_datasets) == (S.CANCELLED, ())
    assert await world.datasets.all(WHO, PROJECT) == []
    assert list(world.dataset_files.folder(PROJECT, "x").parent.iterdir()) == []


async def test_a_sweep_leaves_what_is_known_and_what_is_being_made(world: World, source: Path) -> None:
    job = await world.running(making())
    being_made = output_dataset_id(attempt(job), 0)
    kept = await world.datasets.create(WHO, PROJECT, "data", [source])
    for name in (being_made, "left"):
        await world.dataset_files.take(PROJECT, name, [source])
    project = world.dataset_files.folder(PROJECT, "x").parent
    await world.dataset_files.take("gone-project", "of-it", [source])
    await world.datasets.sweep()
    assert {p.name for p in project.iterdir()} == {kept.id, being_made}
    assert await world.dataset_files.projects() == [PROJECT]


async def test_a_sweep_waits_for_no_one_who_makes_one(world: World, source: Path) -> None:
    await world.datasets.create(WHO, PROJECT, "data", [source])
    await world.dataset_files.take(PROJECT, "half", [source])
    async with world.dataset_files.making(PROJECT):
        await world.datasets.sweep()
        assert world.dataset_files.folder(PROJECT, "half").exists()
    await world.datasets.sweep()
    assert not world.dataset_files.folder(PROJECT, "half").exists()


# Going when nobody uses them.


async def expired(world: World, days: int) -> list[str]:
    return [dataset.name async for dataset in world.datasets.expire(days)]


def last_used(world: World, dataset_id: str, days_ago: float) -> None:
    when = world.clock.now().timestamp() - days_ago * 86400
    os.utime(world.dataset_files.folder(PROJECT, dataset_id), (when, when))


async def test_what_no_job_has_used_for_so_long_goes(world: World, source: Path) -> None:
    old, young = [await world.datasets.create(WHO, PROJECT, name, [source]) for name in ("old", "young")]
    world.clock.pass_by(10 * 86400)
    last_used(world, old.id, 7.1)
    last_used(world, young.id, 6.9)
    new = await world.datasets.create(WHO, PROJECT, "new", [source])
    last_used(world, new.id, 365)  # what an archive says of its folder is no use of it
    assert await expired(world, 7) == ["old"]
    assert [d.name for d in await world.datasets.all(WHO, PROJECT)] == ["young", "new"]
    assert not world.dataset_files.folder(PROJECT, old.id).exists()
    assert await expired(world, 7) == []


@pytest.mark.parametrize("how", ["created", "waiting", "running"])
async def test_what_a_job_refers_to_stays_and_is_in_use_until_its_end(world: World, source: Path, how: str) -> None:
    dataset = await world.datasets.create(WHO, PROJECT, "data", [source])
    steps = {"created": world.created, "waiting": world.executed, "running": world.running}
    job = await steps[how](using(dataset.id))
    world.clock.pass_by(10 * 86400)
    last_used(world, dataset.id, 8)
    assert await expired(world, 7) == []
    at = await world.dataset_files.last_used(PROJECT, dataset.id)
    assert at
    assert at.timestamp() > world.clock.now().timestamp() - 8 * 86400, "that it is in use is noted"
    if how == "running":
        await world.ends(job)
        job = await world.reconcile(job)
    elif how == "waiting":
        await world.jobs.cancel(WHO, job.id, "", graceful=False)
        await world.reconcile(job)
    await world.data.clear(await world.store.get_job(job.id))
    assert await expired(world, 7) == []
    last_used(world, dataset.id, 8)
    assert await expired(world, 7) == ["data"]


async def test_the_launch_of_a_job_is_a_use(world: World, source: Path) -> None:
    dataset = await world.datasets.create(WHO, PROJECT, "data", [source])
    last_used(world, dataset.id, 100)
    job = await world.running(using(dataset.id))
    at = await world.dataset_files.last_used(PROJECT, dataset.id)
    assert at
    assert at.timestamp() > world.clock.now().timestamp() - 86400
    await world.ends(job)


async def test_one_that_a_job_names_while_it_goes_comes_back(
    world: World, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = await world.datasets.create(WHO, PROJECT, "data", [source])
    world.clock.pass_by(10 * 86400)
    last_used(world, dataset.id, 8)
    real = world.datasets._referred

    async def referred() -> set[str]:
        found = await real()
        monkeypatch.undo()
        await world.created(using(dataset.id))
        return found

    monkeypatch.setattr(world.datasets, "_referred", referred)
    assert await expired(world, 7) == []
    assert [d.id for d in await world.datasets.all(WHO, PROJECT)] == [dataset.id]
    assert (world.dataset_files.folder(PROJECT, dataset.id) / "f").exists()


def test_ids_of_outputs_are_ids_and_differ() -> None:
    ids = {output_dataset_id(f"job-{n}", m) for n in range(50) for m in range(3)}
    assert len(ids) == 150
    assert all(len(i) == 20 and i.isalnum() and i == i.lower() for i in ids)
