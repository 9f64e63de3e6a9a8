"""Secrets of projects: who sets, who gets, who may not delete, and sealing all of them anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.world import NOW, PROJECT, WHO, World, a_spec, attempt

from jobsphere.domain.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    UnavailableError,
)
from jobsphere.domain.job import DockerImageSpec, EnvironmentSpec, JobSpec, JobStatus, Phase
from jobsphere.domain.resource import Project
from jobsphere.domain.resources import MAX_OF_KIND, Secret
from jobsphere.service.resealing import Resealed, reseal

S = JobStatus
VALUE = "planted-value"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


def with_image(**more: str) -> JobSpec:
    return a_spec(env=EnvironmentSpec(docker_image_spec=DockerImageSpec("cr.io/x:1", "ann", **more)))


async def test_a_value_is_stored_sealed_and_replaced(world: World) -> None:
    first = await world.secrets.set(WHO, PROJECT, "TOKEN", VALUE)
    world.clock.pass_by(60)
    second = await world.secrets.set(WHO, PROJECT, "TOKEN", "other")

    assert await world.secrets.all(WHO, PROJECT) == [second]
    assert (second.id, second.created_at, second.version) == (first.id, first.created_at, 2)
    assert second.body.updated_at == world.clock.now()
    assert world.sealer.open(PROJECT, second.body.sealed) == "other"
    assert VALUE[::-1] not in repr(first)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("", VALUE, "1 to 63 of the characters"),
        ("A B", VALUE, "1 to 63 of the characters"),
        ("DS_PROJECT_HOME", VALUE, "the server sets itself"),
        ("A", "", "is empty"),
        ("A", VALUE + "\0", "NUL"),
        ("A", VALUE * 10_000, "longer than 64 KiB"),
    ],
)
async def test_what_cannot_be_a_variable_is_refused_without_showing_it(
    world: World, name: str, value: str, words: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        await world.secrets.set(WHO, PROJECT, name, value)
    assert VALUE not in str(caught.value)


async def test_a_project_that_is_not_there_has_no_secrets(world: World) -> None:
    for call in (
        world.secrets.set(WHO, "q", "A", "v"),
        world.secrets.all(WHO, "q"),
        world.secrets.delete(WHO, "q", "A"),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_there_is_an_end_to_them(world: World) -> None:
    for number in range(MAX_OF_KIND):
        await world.secrets.set(WHO, PROJECT, f"S{number}", "v")
    with pytest.raises(ResourceExhaustedError, match="delete one first"):
        await world.secrets.set(WHO, PROJECT, "MORE", "v")
    await world.secrets.set(WHO, PROJECT, "S0", "new")


async def test_jobs_get_them_sealed_unless_they_set_the_variable_themselves(world: World) -> None:
    for name in ("TOKEN", "WITH-DASH", "MINE"):
        await world.secrets.set(WHO, PROJECT, name, VALUE)
    job = await world.reconcile(await world.executed(a_spec(env=EnvironmentSpec(vars=(("MINE", "own"),)))))

    plan = world.runner.held[attempt(job)].plan
    assert [name for name, _ in plan.secrets] == ["TOKEN", "WITH-DASH"]
    assert {world.sealer.open(PROJECT, sealed) for _, sealed in plan.secrets} == {VALUE}
    assert "planted" not in repr(plan)
    assert "detnalp"[::-1] not in repr(plan)


async def test_a_registry_password_by_name_is_looked_up_at_create_and_at_the_launch(world: World) -> None:
    spec = with_image(password_ds_secret_name="REG")
    with pytest.raises(FailedPreconditionError, match="no secret 'REG'; set it with `jobsphere secret set REG"):
        await world.created(spec)
    await world.secrets.set(WHO, PROJECT, "REG", "first")
    job = await world.executed(spec)
    await world.secrets.set(WHO, PROJECT, "REG", "second")
    await world.reconcile(job)

    image = world.runner.held[attempt(job)].plan.image
    assert image
    assert world.sealer.open(PROJECT, image.password_sealed) == "second"


async def test_a_registry_password_may_be_named_by_id_in_its_own_project_only(world: World) -> None:
    await world.teams.create_project(Project("q" * 20, "other", "c" * 20, NOW, WHO.id), None, None)
    secret = await world.secrets.set(WHO, PROJECT, "REG", "v")
    spec = with_image(password_ds_secret_name=secret.id)
    job = await world.running(spec)
    assert world.runner.held[attempt(job)].plan.image
    with pytest.raises(FailedPreconditionError, match="in use by"):
        await world.secrets.delete(WHO, PROJECT, "REG")
    with pytest.raises(FailedPreconditionError, match="the project has no secret"):
        await world.jobs.create(WHO, "q" * 20, spec, "", "", "", None)


async def test_a_password_that_is_gone_at_the_launch_fails_the_job_and_frees_its_place(world: World) -> None:
    await world.secrets.set(WHO, PROJECT, "REG", "v")
    job = await world.created(with_image(password_ds_secret_name="REG"))
    await world.secrets.delete(WHO, PROJECT, "REG")
    await world.jobs.execute(WHO, job.id)
    job = await world.reconcile(job)

    assert (job.status, job.failure and job.failure.phase) == (S.ERROR, Phase.IMAGE)
    assert "no secret 'REG'; set it with" in job.status_details
    assert world.dispatcher.running == 0
    assert attempt(job) not in world.runner.held


async def test_a_store_that_fails_for_a_moment_fails_no_job(world: World) -> None:
    job = await world.executed()
    world.resources.fail("list_resources")
    job = await world.reconcile(job)
    assert job.status is S.PREPARING
    job = await world.reconcile(job)
    assert world.runner.held[attempt(job)].launches == 1


async def test_a_lost_attempt_is_closed_whatever_became_of_its_secrets(world: World) -> None:
    await world.secrets.set(WHO, PROJECT, "REG", "v")
    job = await world.running(with_image(password_ds_secret_name="REG"))
    secret = await world.resources.find_resource(Secret, PROJECT, "REG")
    assert await world.resources.delete_resource(secret)
    held = world.runner.held[attempt(job)]
    held.seen = replace(held.seen, alive=False)
    world.seconds += 60
    await world.reconcile(job)
    assert held.launches == 2


async def test_one_that_a_live_job_names_is_not_deleted(world: World) -> None:
    for name in ("REG", "OTHER"):
        await world.secrets.set(WHO, PROJECT, name, "v")
    job = await world.running(with_image(password_ds_secret_name="REG"))
    with pytest.raises(FailedPreconditionError, match=rf"secret 'REG' is in use by: job \({job.id}\); wait"):
        await world.secrets.delete(WHO, PROJECT, "REG")
    await world.secrets.delete(WHO, PROJECT, "OTHER")
    await world.ends(job)
    await world.reconcile(job)
    await world.secrets.delete(WHO, PROJECT, "REG")
    assert await world.secrets.all(WHO, PROJECT) == []
    with pytest.raises(NotFoundError, match="no secret 'REG'"):
        await world.secrets.delete(WHO, PROJECT, "REG")


async def test_a_change_that_others_come_before_is_decided_again(world: World) -> None:
    first = await world.secrets.set(WHO, PROJECT, "A", "v")
    find = world.resources.find_resource
    taken: list[str] = []

    async def late(kind, project_id, name):
        found = await find(kind, project_id, name)
        if not taken:
            taken.append(name)
            await world.resources.delete_resource(found)
        return found

    world.resources.find_resource = late  # type: ignore[method-assign]
    second = await world.secrets.set(WHO, PROJECT, "A", "w")
    assert second.id != first.id
    assert await world.secrets.all(WHO, PROJECT) == [second]


# Sealing anew.


async def test_all_is_sealed_anew_once(world: World) -> None:
    await world.secrets.set(WHO, PROJECT, "A", VALUE)
    job = await world.created(with_image(password_sealed=world.sealer.seal(PROJECT, VALUE)))
    plain = await world.created()
    await world.image_resources.add(WHO, PROJECT, "mine", "x", "ann", password=VALUE)
    world.sealer.key = "k2"
    await world.secrets.set(WHO, PROJECT, "B", VALUE)

    assert await reseal(world.resources, world.store, world.sealer) == Resealed(found=4, changed=3)
    assert await reseal(world.resources, world.store, world.sealer) == Resealed(found=4, changed=0)
    (named,) = await world.image_resources.all(WHO, PROJECT)
    assert world.sealer.seal(PROJECT, VALUE) == named.body.password_sealed
    image = (await world.store.get_job(job.id)).spec.env.docker_image_spec
    assert image
    sealed = [image.password_sealed, *(s.body.sealed for s in await world.secrets.all(WHO, PROJECT))]
    assert {s[:3] for s in sealed} == {"k2|"}
    assert {world.sealer.open(PROJECT, s) for s in sealed} == {VALUE}
    assert await world.store.get_job(plain.id) == plain


@pytest.mark.parametrize("after", [False, True])
async def test_sealing_anew_may_break_off_anywhere(world: World, after: bool) -> None:
    for name in "ABC":
        await world.secrets.set(WHO, PROJECT, name, VALUE)
    job = await world.created(with_image(password_sealed=world.sealer.seal(PROJECT, VALUE)))
    world.sealer.key = "k2"
    world.resources.fail("update_resource", nth=2, after=after)
    world.store.fail("update_job", after=after)
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await reseal(world.resources, world.store, world.sealer)
    await reseal(world.resources, world.store, world.sealer)
    assert {s.body.sealed[:3] for s in await world.secrets.all(WHO, PROJECT)} == {"k2|"}
    image = (await world.store.get_job(job.id)).spec.env.docker_image_spec
    assert image
    assert image.password_sealed.startswith("k2|")
