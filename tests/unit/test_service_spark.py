"""Spark connectors of projects: what is accepted, what jobs get of them, and when one may go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.world import NOW, PROJECT, WHO, World, a_file, a_spec, attempt

from jobsphere.domain.artifact import FileDesc
from jobsphere.domain.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from jobsphere.domain.job import DockerImageSpec, EnvironmentSpec, JobStatus, Phase
from jobsphere.domain.resource import Project, Subject
from jobsphere.domain.resources import SparkConnector
from jobsphere.domain.spark import CONNECTION_FILE, SparkConnection, SparkMode, connection_config, mode_named

OTHER = "q" * 20
PARAMS = (("spark.sql.shuffle.partitions", "3"),)
BODY = SparkConnector(SparkMode.CONNECT, "127.0.0.1:15002", PARAMS, (("spark.hadoop.k", "SK"),))


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = await World(tmp_path).open()
    await world.secrets.set(WHO, PROJECT, "SK", "value-of-SK")
    return world


async def test_a_job_gets_its_secret_parameters_sealed(world: World) -> None:
    connector = await world.sparks.create(WHO, PROJECT, "cluster", BODY)
    job = await world.reconcile(await world.executed(a_spec(spark_connector_id=connector.id)))
    spark = world.runner.held[attempt(job)].plan.spark
    assert spark is not None
    ((name, sealed),) = spark.sealed_params
    assert (name, world.sealer.open(PROJECT, sealed)) == ("spark.hadoop.k", "value-of-SK")
    assert spark == SparkConnection(
        connector.id, "cluster", SparkMode.CONNECT, "127.0.0.1:15002", PARAMS, spark.sealed_params
    )
    assert sealed not in repr(spark)


async def test_a_job_without_a_connector_gets_none(world: World) -> None:
    job = await world.reconcile(await world.executed())
    assert world.runner.held[attempt(job)].plan.spark is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"master": ""}, "master: is not written as HOST"),
        ({"master": "sc://h"}, "master: is not written as HOST"),
        ({"master": "h:1/;token=planted"}, "master: is not written as HOST"),
        ({"mode": SparkMode.LOCAL}, "master: with SPARK_LOCAL there is none"),
        ({"mode": SparkMode.CONTEXT, "master": "k8s://h"}, r"HOST \(YARN\) or spark://HOST:PORT"),
        ({"params": (("a b", "1"),)}, "params: 'a b' is not the name"),
        ({"params": (("spark.hadoop.k", "1"),)}, "params: 'spark.hadoop.k' has more than one value"),
        ({"params": (("spark.a", "x" * 4097),)}, "params: 'spark.a' has more than 4096 characters"),
        ({"params": (("spark.hadoop.fs.s3a.secret.key", "planted"),)}, "is a secret by its name; put the value into"),
        ({"params": tuple((f"spark.{n}", "1") for n in range(100))}, "101 parameters, while the limit is 100"),
    ],
)
async def test_what_cannot_be_is_refused(world: World, change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        await world.sparks.create(WHO, PROJECT, "cluster", replace(BODY, **change))  # type: ignore[arg-type]
    assert "planted" not in str(caught.value)


async def test_names_and_secrets_must_fit(world: World) -> None:
    await world.sparks.create(WHO, PROJECT, "cluster", BODY)
    with pytest.raises(AlreadyExistsError, match="has the Spark connector 'cluster' already"):
        await world.sparks.create(WHO, PROJECT, "cluster", BODY)
    with pytest.raises(InvalidArgumentError, match="name: 'a b'"):
        await world.sparks.create(WHO, PROJECT, "a b", BODY)
    with pytest.raises(FailedPreconditionError, match=r"secret_params: spark.k: the project has no secret 'X'; set it"):
        await world.sparks.create(WHO, PROJECT, "o", replace(BODY, secret_params=(("spark.k", "X"),)))
    with pytest.raises(FailedPreconditionError, match="secret 'SK' is named by the Spark connector 'cluster'"):
        await world.secrets.delete(WHO, PROJECT, "SK")


async def test_one_is_changed_under_its_id(world: World) -> None:
    connector = await world.sparks.create(WHO, PROJECT, "cluster", BODY)
    changed = await world.sparks.update(WHO, PROJECT, connector.id, lambda was: replace(was, master="h:1"))
    assert (changed.id, changed.body.master, changed.body.params) == (connector.id, "h:1", PARAMS)
    assert await world.sparks.find(WHO, PROJECT, "cluster") == changed
    with pytest.raises(InvalidArgumentError, match="master"):
        await world.sparks.update(WHO, PROJECT, "cluster", lambda was: replace(was, master=""))
    with pytest.raises(NotFoundError, match="no Spark connector 'nope'"):
        await world.sparks.update(WHO, PROJECT, "nope", lambda was: was)


async def test_who_has_no_role_is_told_of_no_project(world: World) -> None:
    nobody = Subject("nobody", "nobody")
    for call in (
        world.sparks.create(nobody, PROJECT, "cluster", BODY),
        world.sparks.all(nobody, PROJECT),
        world.sparks.update(nobody, PROJECT, "cluster", lambda was: was),
        world.sparks.delete(nobody, PROJECT, "cluster"),
    ):
        with pytest.raises((NotFoundError, PermissionDeniedError)):
            await call


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"env": EnvironmentSpec(docker_image_spec=DockerImageSpec("docker.io/library/python:3.11"))},
            "runs in no Docker image",
        ),
        ({"env": EnvironmentSpec(docker_image_resource_id="system-python-3-10")}, "runs in no Docker image"),
        ({"input_files": (a_file(CONNECTION_FILE, b"x"),)}, "input_files: '.spark_connection_config.json' is the file"),
        ({"output_files": (FileDesc(f"./{CONNECTION_FILE}"),)}, "output_files: '.spark_connection_config.json' is"),
        ({"spark_connector_id": "Z"}, "spark_parameters.connector_id: 'Z' is not an id"),
    ],
)
async def test_what_does_not_go_with_one_is_refused_at_create(
    world: World, more: dict[str, object], words: str
) -> None:
    connector = await world.sparks.create(WHO, PROJECT, "cluster", BODY)
    with pytest.raises(InvalidArgumentError, match=words):
        await world.created(a_spec(**{"spark_connector_id": connector.id, **more}))


async def test_one_of_another_project_or_none_is_refused_at_create(world: World) -> None:
    await world.teams.create_project(Project(OTHER, "other", "c" * 20, NOW, WHO.id), None, None)
    theirs = await world.sparks.create(WHO, OTHER, "theirs", SparkConnector(SparkMode.LOCAL))
    for connector_id in (theirs.id, "d" * 20):
        words = f"spark_parameters.connector_id: .* no Spark connector '{connector_id}'; `jobsphere spark list`"
        with pytest.raises(FailedPreconditionError, match=words):
            await world.created(a_spec(spark_connector_id=connector_id))


async def test_a_used_one_stays_and_one_that_is_gone_at_the_launch_fails_the_job(world: World) -> None:
    connector = await world.sparks.create(WHO, PROJECT, "cluster", BODY)
    spec = a_spec(spark_connector_id=connector.id)
    waiting = await world.created(spec)
    running = await world.running(spec)
    with pytest.raises(FailedPreconditionError, match=rf"connector 'cluster' is in use by: job \({running.id}\)"):
        await world.sparks.delete(WHO, PROJECT, "cluster")
    await world.ends(running)
    await world.reconcile(running)
    await world.sparks.delete(WHO, PROJECT, "cluster")
    await world.jobs.execute(WHO, waiting.id)
    waiting = await world.reconcile(waiting)
    assert (waiting.status, waiting.failure and waiting.failure.phase) == (JobStatus.ERROR, Phase.STAGE)


@pytest.mark.parametrize(
    ("mode", "master", "host", "more"),
    [
        (SparkMode.CONNECT, "h:15002", "h:15002", {}),
        (SparkMode.CONTEXT, "yarn-master", "yarn-master", {}),
        (SparkMode.CONTEXT, "spark://h:7077", "h:7077", {"spark.master": "spark://h:7077"}),
        (SparkMode.LOCAL, "", "localhost", {}),
    ],
)
def test_the_file_says_what_the_sdk_asks_for(mode: SparkMode, master: str, host: str, more: dict[str, str]) -> None:
    assert connection_config(SparkConnection("i", "n", mode, master, PARAMS), [("spark.k", "v")]) == {
        "master_node_host": host,
        "connection_mode": mode.value,
        "session_params": {**dict(PARAMS), "spark.k": "v", **more},
    }


def test_modes_are_known_by_both_of_their_names() -> None:
    assert [mode_named(text) for text in ("connect", "SPARK_CONTEXT", "Local")] == list(SparkMode)
    with pytest.raises(InvalidArgumentError, match="mode: 'yarn' is none of SPARK_CONNECT, SPARK_CONTEXT"):
        mode_named("yarn")
