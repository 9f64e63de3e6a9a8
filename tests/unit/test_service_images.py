"""Images that a project has under a name: what is accepted, what jobs get of them, and when one may go."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.world import NOW, PROJECT, WHO, World, a_spec, attempt

from jobsphere.domain.attempt import ContainerEngine, EngineKind
from jobsphere.domain.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from jobsphere.domain.job import EnvironmentSpec, JobSpec, JobStatus, Phase
from jobsphere.domain.resource import Project
from jobsphere.runner.images import EngineImages, EngineSettings

OTHER = "q" * 20
ENGINE = ContainerEngine(EngineKind.PODMAN, "podman")


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("jobsphere.runner.images.find_engine", lambda _: ENGINE)
    world = World(tmp_path)
    engine = EngineImages({"system": "python:3.10"}, EngineSettings(), world.sealer.seal)
    world.images._engine = engine
    return await world.open()


def by_id(named: str) -> JobSpec:
    return a_spec(env=EnvironmentSpec(docker_image_resource_id=named))


async def test_a_job_names_it_by_id_or_by_name(world: World) -> None:
    image = await world.image_resources.add(WHO, PROJECT, "mine", "cr.io/x:1", "ann", password="hush")
    assert image.body.reference == "cr.io/x:1"
    for named in (image.id, "mine"):
        job = await world.reconcile(await world.executed(by_id(named)))
        assert job.spec == by_id(named)
        plan = world.runner.held[attempt(job)].plan.image
        assert plan
        assert (plan.reference, plan.username, plan.engine) == ("cr.io/x:1", "ann", ENGINE)
        assert world.sealer.open(PROJECT, plan.password_sealed) == "hush"
        assert world.runner.held[attempt(job)].plan.secrets == ()


async def test_its_password_may_be_a_secret(world: World) -> None:
    with pytest.raises(FailedPreconditionError, match="password: the project has no secret 'REG'"):
        await world.image_resources.add(WHO, PROJECT, "mine", "x", "ann", secret="REG")
    await world.secrets.set(WHO, PROJECT, "REG", "first")
    image = await world.image_resources.add(WHO, PROJECT, "mine", "x", "ann", secret="REG")
    await world.secrets.set(WHO, PROJECT, "REG", "second")
    job = await world.reconcile(await world.executed(by_id(image.id)))
    plan = world.runner.held[attempt(job)].plan.image
    assert plan
    assert world.sealer.open(PROJECT, plan.password_sealed) == "second"
    with pytest.raises(FailedPreconditionError, match="is named by the image 'mine'; delete that first"):
        await world.secrets.delete(WHO, PROJECT, "REG")


async def test_an_id_of_another_project_or_of_none_is_refused_with_those_that_there_are(world: World) -> None:
    await world.teams.create_project(Project(OTHER, "other", "c" * 20, NOW, WHO.id), None, None)
    theirs = await world.image_resources.add(WHO, OTHER, "theirs", "x")
    mine = await world.image_resources.add(WHO, PROJECT, "mine", "x")
    for named in (theirs.id, "theirs", "none"):
        with pytest.raises(InvalidArgumentError, match=rf"there are: system, mine \({mine.id}\)$"):
            await world.created(by_id(named))
    assert await world.created(by_id("system"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a b", "x"), "name: 'a b' must have"),
        (("a", "https://x"), "'https://x' is none; write it as registry/name:tag"),
        (("a", "u:hush@x.y/z"), "image: the image is none"),
        (("a", "x", "ann"), "goes with one password"),
        (("a", "x", "", "", "hush"), "goes with one password"),
        (("a", "x", "ann", "S", "hush"), "goes with one password"),
        (("a", "x", "a:b", "", "hush"), "no colon"),
    ],
)
async def test_what_cannot_be_is_refused_without_showing_it(
    world: World, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        await world.image_resources.add(WHO, PROJECT, *arguments)
    assert "hush" not in str(caught.value)


async def test_a_name_is_taken_once_and_a_used_image_stays(world: World) -> None:
    image = await world.image_resources.add(WHO, PROJECT, "mine", "x")
    with pytest.raises(AlreadyExistsError, match="the project has the image 'mine' already"):
        await world.image_resources.add(WHO, PROJECT, "mine", "y")
    job = await world.running(by_id("mine"))
    with pytest.raises(FailedPreconditionError, match=rf"image 'mine' is in use by: job \({job.id}\)"):
        await world.image_resources.delete(WHO, PROJECT, image.id)
    await world.ends(job)
    await world.reconcile(job)
    assert await world.image_resources.delete(WHO, PROJECT, image.id) == image
    with pytest.raises(NotFoundError, match="has no image 'mine'"):
        await world.image_resources.delete(WHO, PROJECT, "mine")


async def test_one_that_is_gone_at_the_launch_fails_the_job(world: World) -> None:
    await world.image_resources.add(WHO, PROJECT, "mine", "x")
    job = await world.created(by_id("mine"))
    await world.image_resources.delete(WHO, PROJECT, "mine")
    await world.jobs.execute(WHO, job.id)
    job = await world.reconcile(job)
    assert (job.status, job.failure and job.failure.phase) == (JobStatus.ERROR, Phase.IMAGE)
    assert "no image 'mine' any more" in job.status_details


async def test_a_lost_answer_of_a_delete_is_found_out_by_asking_again(world: World) -> None:
    await world.image_resources.add(WHO, PROJECT, "mine", "x")
    world.resources.fail("delete_resource", after=True)
    with pytest.raises(UnavailableError):
        await world.image_resources.delete(WHO, PROJECT, "mine")
    with pytest.raises(NotFoundError):
        await world.image_resources.delete(WHO, PROJECT, "mine")


async def test_activating_is_done_for_what_is_there(world: World) -> None:
    image = await world.image_resources.add(WHO, PROJECT, "mine", "cr.io/x:1")
    operation = await world.image_resources.activate(WHO, PROJECT, image.id)
    assert await world.store.get_operation(operation.id) == operation
    assert (await world.jobs.operations.get(WHO, operation.id)).done
    with pytest.raises(NotFoundError, match="has no image 'x'"):
        await world.image_resources.activate(WHO, PROJECT, "x")
