"""Which images are accepted, and what is stored and planned of them."""

import json
import shutil
from dataclasses import replace

import pytest
from tests.unit.world import NOW, PROJECT, WHO, World

from jobsphere.config import load
from jobsphere.domain import limits
from jobsphere.domain.attempt import ContainerEngine, EngineKind, ImagePlan
from jobsphere.domain.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    JobsphereError,
    UnavailableError,
)
from jobsphere.domain.job import Attempt, DockerImageSpec, EnvironmentSpec, JobSpec, PipOptions, PythonEnv
from jobsphere.engine.provisions import Provision
from jobsphere.engine.reconciler import plan_of
from jobsphere.runner import images
from jobsphere.runner.images import EngineImages, EngineSettings, find_engine
from jobsphere.service.forks import merge
from jobsphere.store.records import dump

BY_ID = EnvironmentSpec(docker_image_resource_id="system-python-3-10")
LOGIN = DockerImageSpec("cr.yandex/team/x:1", "ann", "planted-password")
KNOWN = {"system-python-3-10": "python:3.10", "b" * 20: "localhost/b"}


def spec(env: EnvironmentSpec) -> JobSpec:
    return JobSpec(cmd="true", instance_types=("c1.4",), env=env)


@pytest.fixture
def engine(monkeypatch):
    """A program that says what podman says, on PATH; the calls are counted."""
    calls = []
    monkeypatch.setattr(shutil, "which", lambda name: f"/there/{name}" if name == "podman" else None)
    monkeypatch.setattr(images, "_ask", lambda kind, argv: calls.append(argv) or ({}, ""))
    return calls


def known(**settings) -> EngineImages:
    return EngineImages(KNOWN, EngineSettings(**settings), lambda project, secret: f"sealed({project},{len(secret)})")


async def test_ids_are_mapped_and_unknown_ones_listed(engine):
    assert await known().accept("p", spec(BY_ID)) == spec(BY_ID)
    plan = await known().plan("p1", spec(BY_ID))
    assert plan
    assert (plan.reference, plan.engine.program) == ("docker.io/library/python:3.10", "/there/podman")
    with pytest.raises(InvalidArgumentError, match=r"no image 'nope'; there are: b{20}, system-python-3-10$"):
        await known().accept("p", spec(EnvironmentSpec(docker_image_resource_id="nope")))


async def test_a_password_is_sealed_and_only_planned_so(engine):
    stored = await known().accept("p1", spec(EnvironmentSpec(docker_image_spec=LOGIN)))
    plan = await known().plan("p1", stored)
    assert plan
    assert (plan.username, plan.password_sealed) == ("ann", "sealed(p1,16)")
    assert "planted" not in repr(stored) + repr(plan) + repr(LOGIN)
    fork = merge(stored, JobSpec(cmd="other"))
    assert await known().accept("p1", fork) == fork


async def test_an_id_that_is_gone_fails_for_good(engine):
    with pytest.raises(FailedPreconditionError, match="no image 'gone' any more"):
        await known().plan("p1", spec(EnvironmentSpec(docker_image_resource_id="gone")))


async def test_the_engine_is_asked_once_it_works_and_never_for_plain_jobs(engine):
    source = known()
    await source.accept("p", spec(EnvironmentSpec()))
    assert await source.plan("p1", spec(EnvironmentSpec())) is None
    assert engine == []
    for _ in range(2):
        await source.accept("p", spec(BY_ID))
    assert len(engine) == 1


async def test_without_an_engine_create_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(FailedPreconditionError, match=r"podman is not installed; docker is.*apt-get install podman"):
        await known().accept("p", spec(BY_ID))
    with pytest.raises(UnavailableError):
        await known().plan("p1", spec(BY_ID))
    with pytest.raises(FailedPreconditionError, match="container_engine = none"):
        find_engine(EngineSettings("none"))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (replace(LOGIN, image_url="https://x/y"), "is no image"),
        (replace(LOGIN, username=""), "go together"),
        (replace(LOGIN, password_plain_text=""), "go together"),
        (replace(LOGIN, username="a:b"), "no colon"),
        (replace(LOGIN, image_url="u:planted-password@x.y/z"), "the image URL is no image"),
    ],
)
def test_what_cannot_be_is_refused_without_showing_it(image, words):
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        limits.check_spec(spec(EnvironmentSpec(docker_image_spec=image)))
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("python", "builds"),
    [
        (PythonEnv(), False),
        (PythonEnv(requirements=("# none",), pip_options=PipOptions(index_url="https://i/")), False),
        (PythonEnv(python_version="3.11"), True),
        (PythonEnv(requirements=("numpy",)), True),
        (PythonEnv(conda_yaml="dependencies: [numpy]"), True),
    ],
)
async def test_an_image_runs_by_its_own_python_unless_something_is_asked_for(tmp_path, python, builds):
    world = await World(tmp_path).open()
    job = await world.created(spec(replace(BY_ID, python_env=python)))
    image = ImagePlan("docker.io/library/python:3.10", ContainerEngine(EngineKind.PODMAN, "podman"))
    attempt = Attempt("a", "n", NOW)
    assert (plan_of(job, attempt, None, Provision(image)).environment is not None) is builds
    assert plan_of(job, attempt, None, Provision()).environment is not None


async def test_a_url_as_an_id_is_told_how_to_write_it(engine):
    with pytest.raises(InvalidArgumentError, match=r"docker: \{image: URL\}$"):
        await known().accept("p", spec(EnvironmentSpec(docker_image_resource_id="cr.yandex/x:1")))


@pytest.mark.parametrize(("password", "written"), [("pl-nted", "pl-nted"), ("it's", "'it''s'"), ('a"b', '"a\\"b"')])
async def test_the_stored_config_does_not_repeat_the_password(tmp_path, password, written):
    world = await World(tmp_path).open()
    image = replace(LOGIN, password_plain_text=password)
    made = await world.jobs.create(
        WHO, PROJECT, spec(EnvironmentSpec(docker_image_spec=image)), "", "", f"password: {written} # x", None
    )
    assert "*****" in (config := (await world.store.get_job(made.job_id)).config)
    assert written.strip("'\"") not in config


async def test_a_stored_job_holds_the_sealed_password_only(tmp_path):
    world = await World(tmp_path).open()
    job = await world.created(spec(EnvironmentSpec(docker_image_spec=LOGIN)))
    stored = json.loads(dump(job))["spec"]["env"]["docker_image_spec"]
    assert (stored["password_plain_text"], stored["password_sealed"]) == ("", f"sealed for {job.project_id}")
    world.engine_images.engine = None
    with pytest.raises(JobsphereError, match="no engine"):
        await world.created(spec(BY_ID))


def test_the_settings_file_maps_ids(tmp_path):
    file = tmp_path / "jobsphere.toml"
    file.write_text('[images]\n"system-python-3-10" = {image = "python:3.10"}\n')
    assert load({}, file).images["system-python-3-10"].image == "python:3.10"
    file.write_text('[images]\n"x" = {image = "dir:/etc"}\n')
    with pytest.raises(InvalidArgumentError, match="is no image"):
        load({}, file)
