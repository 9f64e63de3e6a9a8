"""The Spark of an attempt: a file as the vendor's SDK wants it, for the program's user, while the program runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from datasphere.spark import ConnectionMode, SparkConfig, parse_spark_config
from supervisors import KEY, PROJECT, Node, open_keyed_node

from jobsphere.domain.attempt import SYSTEM_LOG, EndReason, LogStream, SandboxPlan
from jobsphere.domain.job import Phase
from jobsphere.domain.spark import SPARK_FILE, SparkMode, SparkPlan
from jobsphere.runner.sandbox import why_not
from jobsphere.secretbox import SecretBox

VALUE = 'planted "hush"'


def spark(key: bytes = KEY) -> SparkPlan:
    secret = ("spark.password", SecretBox(key).seal(PROJECT, VALUE))
    return SparkPlan("team", SparkMode.CONNECT, "127.0.0.1:15002", (("spark.app.name", "ä"),), (secret,))


@pytest.fixture
async def node(tmp_path: Path):
    async with open_keyed_node(tmp_path / "data") as opened:
        yield opened


@pytest.fixture(params=[None, SandboxPlan()], ids=["bare", "fenced"])
def fence(request: pytest.FixtureRequest) -> SandboxPlan | None:
    if request.param and why_not() and "CI" not in os.environ:
        pytest.skip(why_not())
    return request.param


def files_with(node: Node, text: str) -> list[Path]:
    return [p for p in node.data.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


async def test_it_is_as_the_sdk_wants_it_and_its_users_alone(node: Node, fence: SandboxPlan | None) -> None:
    script = (
        f"cat {SPARK_FILE}; cd /; cmp $JOB_DATAPROC_CONNECTION_CONFIG $OLDPWD/{SPARK_FILE} && "
        "test -O $JOB_DATAPROC_CONNECTION_CONFIG && stat -c '%a %F' $JOB_DATAPROC_CONNECTION_CONFIG >&2"
    )
    seen = await node.run(script, spark=spark(), sandbox=fence)

    assert seen.ended
    assert seen.ended.code == 0, seen.ended.message
    params = {"spark.app.name": "ä", "spark.password": VALUE}
    config = SparkConfig("127.0.0.1:15002", ConnectionMode.CONNECT, params)
    assert parse_spark_config(json.loads(await node.text())) == config
    assert await node.text(LogStream.ERR) == "600 regular file\n"
    log = await node.text(LogStream.FILE, path=SYSTEM_LOG)
    assert f"Spark connector 'team' (SPARK_CONNECT): its connection file is {SPARK_FILE}" in log


async def test_its_secrets_are_nowhere_when_it_has_ended(node: Node, fence: SandboxPlan | None) -> None:
    script = f"cat {SPARK_FILE}; ps axww; echo up; until [ -e go ]; do sleep 0.05; done; exit 3"
    await node.runner.launch(node.plan(script, spark=spark(), sandbox=fence, mask_secrets=True))
    await node.printed("up\n")
    running = files_with(node, "hush")
    assert running == ([] if fence else [node.at("work", SPARK_FILE)])
    node.at("work", "go").touch()
    await node.end()

    assert '"spark.password": "*****"' in await node.text()
    assert files_with(node, "hush") == []


async def test_one_that_cannot_be_opened_is_named(node: Node) -> None:
    seen = await node.run("true", spark=spark(b"x" * 32))

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.ENVIRONMENT)
    assert seen.ended.message.startswith("Spark connector 'team': spark.password: a stored secret cannot be opened")


async def test_a_program_that_cannot_be_started_leaves_none(node: Node) -> None:
    seen = await node.run("true", spark=spark(), variables=(("A\0", "b"),))

    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.RUN)
    assert files_with(node, "hush") == []


async def test_a_lost_attempt_leaves_none(node: Node) -> None:
    await node.runner.launch(node.plan("echo up; sleep 1000", spark=spark()))
    await node.printed("up\n")
    assert files_with(node, "hush") != []
    await node.kill_supervisor()
    await node.runner.launch(node.plan("never", spark=spark()))
    seen = await node.end()

    assert seen.ended
    assert seen.ended.reason is EndReason.LOST
    assert files_with(node, "hush") == []


async def test_the_jobs_own_variable_comes_first(node: Node) -> None:
    own = (("JOB_DATAPROC_CONNECTION_CONFIG", "own.json"),)
    await node.run("echo $JOB_DATAPROC_CONNECTION_CONFIG", spark=spark(), variables=own)
    assert await node.text() == "own.json\n"
