"""The connection file of an attempt: the program's own, and nowhere else in clear."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from supervisors import PROJECT, Node, open_node

from jobsphere.domain.attempt import SYSTEM_LOG, EndReason, LogStream, SandboxPlan
from jobsphere.domain.job import Phase
from jobsphere.domain.spark import CONNECTION_FILE, SparkConnection, SparkMode
from jobsphere.runner.sandbox import why_not
from jobsphere.secretbox import SecretBox

KEY = b"k" * 32
VALUE = "planted-spark"


def connection(key: bytes = KEY) -> SparkConnection:
    sealed = (("spark.hadoop.k", SecretBox(key).seal(PROJECT, VALUE)),)
    return SparkConnection("c" * 20, "cluster", SparkMode.CONNECT, "h:1", (("spark.a", "1"),), sealed)


@pytest.fixture
async def node(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "key").write_bytes(KEY)
    async with open_node(tmp_path / "data") as opened:
        yield opened


@pytest.mark.parametrize("fence", [None, SandboxPlan(network=False)])
async def test_the_program_finds_it_by_its_name_and_by_the_variable(node: Node, fence: SandboxPlan | None) -> None:
    if fence and why_not() and "CI" not in os.environ:
        pytest.skip(why_not())
    script = f'cat {CONNECTION_FILE}; cd /; cmp "$JOB_DATAPROC_CONNECTION_CONFIG" "$OLDPWD/{CONNECTION_FILE}"'
    script += f' && stat -c " %a" "$OLDPWD/{CONNECTION_FILE}"; rm "$OLDPWD/{CONNECTION_FILE}"'
    await node.runner.launch(node.plan(script, sandbox=fence, spark=connection(), mask_secrets=True))
    seen = await node.end()

    assert seen.ended
    assert (seen.ended.reason, seen.ended.code) == (EndReason.EXITED, 0), seen.ended.message
    config, _, mode = (await node.text()).partition("} ")
    assert mode == "600\n"
    assert json.loads(f"{config}}}") == {
        "master_node_host": "h:1",
        "connection_mode": "SPARK_CONNECT",
        "session_params": {"spark.a": "1", "spark.hadoop.k": "*****"},
    }
    log = await node.text(LogStream.FILE, path=SYSTEM_LOG)
    assert "Spark connector 'cluster': SPARK_CONNECT at h:1" in log
    assert ("gives jobs no network" in log) == (fence is not None)
    assert [p for p in node.data.rglob("*") if p.is_file() and VALUE.encode() in p.read_bytes()] == []


async def test_a_parameter_that_cannot_be_opened_is_named(node: Node) -> None:
    seen = await node.run("true", spark=connection(b"x" * 32))
    assert seen.ended
    assert (seen.ended.reason, seen.ended.phase) == (EndReason.FAILED, Phase.STAGE)
    assert "Spark connector 'cluster', parameter 'spark.hadoop.k': a stored secret" in seen.ended.message
