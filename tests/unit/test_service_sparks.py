"""Spark connectors of projects: what is accepted, what jobs get of them, and when one may go."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.world import NOW, PROJECT, WHO, World, a_file, a_spec, attempt

from jobsphere.domain.access import Scope
from jobsphere.domain.accounts import Account, AccountKind
from jobsphere.domain.artifact import FileDesc
from jobsphere.domain.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from jobsphere.domain.job import EnvironmentSpec, JobStatus, Phase
from jobsphere.domain.resource import Project, Subject
from jobsphere.domain.resources import SparkConnector
from jobsphere.domain.spark import SPARK_FILE, SparkMode, SparkPlan
from jobsphere.service.grants import Grant

OTHER = "q" * 20
PARAMS = (("spark.sql.shuffle.partitions", "8"),)
BODY = SparkConnector(SparkMode.CONNECT, "127.0.0.1:15002", PARAMS, (("spark.password", "PW"),))
FILE = f"./{SPARK_FILE}"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = await World(tmp_path).open()
    await world.secrets.set(WHO, PROJECT, "PW", "planted-value")
    return world


async def test_a_job_gets_its_parameters_those_of_secrets_sealed(world: World) -> None:
    connector = await world.sparks.add(WHO, PROJECT, "team", BODY)
    assert connector.body == BODY
    job = await world.reconcile(await world.executed(a_spec(spark_connector_id=connector.id)))
    spark = world.runner.held[attempt(job)].plan.spark
    assert spark
    ((name, sealed),) = spark.sealed_params
    assert (name, world.sealer.open(PROJECT, sealed)) == ("spark.password", "planted-value")
    assert spark == SparkPlan("team", SparkMode.CONNECT, "127.0.0.1:15002", PARAMS, spark.sealed_params)
    assert sealed not in repr(spark)


async def test_a_job_without_one_has_none(world: World) -> None:
    job = await world.reconcile(await world.executed())
    assert world.runner.held[attempt(job)].plan.spark is None


@pytest.mark.parametrize(
    "body",
    [
        SparkConnector(SparkMode.LOCAL),
        SparkConnector(SparkMode.CONTEXT, "master.cluster", (("spark.master", "spark://master.cluster:7077"),)),
        SparkConnector(host="[::1]:15002/;use_ssl=true;user_id=ann"),
        SparkConnector(host="connect.cluster/"),
    ],
)
async def test_what_can_be_is_accepted(world: World, body: SparkConnector) -> None:
    assert (await world.sparks.add(WHO, PROJECT, "team", body)).body == body


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": ""}, "host: is missing"),
        ({"host": "", "mode": SparkMode.CONTEXT}, "host: is missing"),
        ({"host": "sc://127.0.0.1"}, "host: is not written as"),
        ({"host": "planted@127.0.0.1"}, "host: is not written as"),
        ({"host": "127.0.0.1:1/;use_ssl=true;TOKEN=planted"}, "host: holds a token; make it the project's secret"),
        ({"params": (("a b", "planted"),)}, "params: 'a b' is not the name"),
        ({"params": (("spark.password", "planted"),)}, "params: 'spark.password' is given more than once"),
        ({"params": (("spark.x", "planted\0"),)}, r"params: spark\.x: is longer .* or holds a NUL"),
        ({"params": tuple((f"spark.p{n}", "") for n in range(100))}, "params: 101, while the limit is 100"),
        ({"secret_params": (("spark.x", ""),)}, r"secret_params: spark\.x: names no secret"),
    ],
)
async def test_what_cannot_be_is_refused(world: World, change: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        await world.sparks.add(WHO, PROJECT, "team", replace(BODY, **change))
    assert "planted" not in str(caught.value)


async def test_secrets_and_names_must_fit(world: World) -> None:
    await world.sparks.add(WHO, PROJECT, "team", BODY)
    with pytest.raises(AlreadyExistsError, match="has the Spark connector 'team' already"):
        await world.sparks.add(WHO, PROJECT, "team", BODY)
    with pytest.raises(InvalidArgumentError, match="name: 'a b'"):
        await world.sparks.add(WHO, PROJECT, "a b", BODY)
    with pytest.raises(FailedPreconditionError, match=r"secret_params: spark\.x: the project has no secret 'X'; set"):
        await world.sparks.add(WHO, PROJECT, "other", replace(BODY, secret_params=(("spark.x", "X"),)))
    with pytest.raises(FailedPreconditionError, match="secret 'PW' is named by the Spark connector 'team'; delete"):
        await world.secrets.delete(WHO, PROJECT, "PW")


async def test_one_of_another_project_or_none_is_refused_at_create(world: World) -> None:
    await world.teams.create_project(Project(OTHER, "other", "c" * 20, NOW, WHO.id), None, None)
    theirs = await world.sparks.add(WHO, OTHER, "theirs", SparkConnector(host="h"))
    for connector_id in (theirs.id, "d" * 20):
        words = f"no Spark connector '{connector_id}'; `jobsphere spark list`"
        with pytest.raises(FailedPreconditionError, match=words):
            await world.created(a_spec(spark_connector_id=connector_id))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"env": EnvironmentSpec(docker_image_resource_id="base")}, "cannot choose a Docker image"),
        ({"input_files": (a_file(FILE, b"{}"),)}, "input_files: .* has its connection file"),
        ({"output_files": (FileDesc(FILE),)}, "output_files: .* has its connection file"),
        ({"output_files": (FileDesc(f"{SPARK_FILE}/x"),)}, "output_files: .* has its connection file"),
        ({"spark_connector_id": "team"}, r"spark_parameters\.connector_id: 'team' is not an id"),
    ],
)
async def test_a_job_that_cannot_have_one_is_refused_at_create(
    world: World, more: dict[str, object], words: str
) -> None:
    connector = await world.sparks.add(WHO, PROJECT, "team", BODY)
    with pytest.raises(InvalidArgumentError, match=words):
        await world.created(a_spec(**({"spark_connector_id": connector.id} | more)))


async def test_a_fork_keeps_it_and_one_into_an_image_is_refused(world: World) -> None:
    connector = await world.sparks.add(WHO, PROJECT, "team", BODY)
    source = await world.created(a_spec(spark_connector_id=connector.id))
    fork = await world.jobs.clone(WHO, source.id, a_spec(cmd=""), "", "", None)
    assert (await world.store.get_job(fork.job_id)).spec.spark_connector_id == connector.id
    image = a_spec(env=EnvironmentSpec(docker_image_resource_id="base"))
    with pytest.raises(InvalidArgumentError, match="cannot choose a Docker image"):
        await world.jobs.clone(WHO, source.id, image, "", "", None)


async def test_a_used_one_stays_and_one_that_is_gone_at_the_launch_fails_the_job(world: World) -> None:
    connector = await world.sparks.add(WHO, PROJECT, "team", BODY)
    spec = a_spec(spark_connector_id=connector.id)
    waiting = await world.created(spec)
    running = await world.running(spec)
    with pytest.raises(FailedPreconditionError, match=rf"Spark connector 'team' is in use by: job \({running.id}\)"):
        await world.sparks.delete(WHO, PROJECT, "team")
    await world.ends(running)
    await world.reconcile(running)
    await world.sparks.delete(WHO, PROJECT, "team")
    await world.jobs.execute(WHO, waiting.id)
    waiting = await world.reconcile(waiting)
    assert (waiting.status, waiting.failure and waiting.failure.phase) == (JobStatus.ERROR, Phase.STAGE)


@pytest.mark.parametrize(
    ("role", "views", "changes"),
    [("", False, False), ("viewer", True, False), ("developer", True, False), ("editor", True, True)],
)
async def test_who_may_see_and_change_them(world: World, role: str, views: bool, changes: bool) -> None:
    await world.accounts.add_account(Account("id-bob", "bob", AccountKind.USER, NOW, WHO.id))
    if role:
        grant = Grant(f"datasphere.community-projects.{role}", "id-bob")
        await world.grants.update(WHO, Scope.PROJECT, PROJECT, [grant], [])
    bob, refused = Subject("id-bob", "bob"), (NotFoundError, PermissionDeniedError)
    team = await world.sparks.add(WHO, PROJECT, "team", BODY)
    with nullcontext() if views else pytest.raises(refused):
        assert await world.sparks.all(bob, PROJECT) == [team]
    with nullcontext() if changes else pytest.raises(refused):
        await world.sparks.add(bob, PROJECT, "more", BODY)
    with nullcontext() if changes else pytest.raises(refused):
        await world.sparks.delete(bob, PROJECT, "team")
