"""Spark connectors through a whole server, the vendor's CLI, and the vendor's SDK in the job, on a real Spark."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import execute, start_async, wait_status, write_job
from tests.acceptance.spark_server import lacking, spark_connect
from tests.commands import jobsphere
from tests.live import LiveServer, live_server

SECRET = "planted-spark-4711"  # Spark shows no value in which it finds one of its words for secrets
JOB = """
import hashlib, os
import datasphere

wrapper = datasphere.SDK().connect_to_spark()
spark = wrapper.spark
print("mode", wrapper.connection_mode.value, "at", wrapper.master_node_host, "context", wrapper.sc is not None)
print("sum", spark.range(10).selectExpr("sum(id) AS s").collect()[0].s)
print("partitions", spark.conf.get("spark.sql.shuffle.partitions"))
print("pin", hashlib.sha256(spark.conf.get("spark.team.pin", "none").encode()).hexdigest())
print("file", oct(os.stat(os.environ["JOB_DATAPROC_CONNECTION_CONFIG"]).st_mode & 0o777))
"""
CONFIG = f"""cmd: {sys.executable} job.py
inputs: [job.py]
spark: {{connector: %s}}
"""
# The SDK has threads of gRPC running when pyspark forks for its driver: their fork handlers now and then break that.
FORKS = "env: {vars: [{GRPC_ENABLE_FORK_SUPPORT: '0'}]}\n"
PARAMS = ("--param", "spark.sql.shuffle.partitions=7", "--secret-param", "spark.team.pin=SPARK_PIN")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One whose jobs see the Python of the tests: to install a pyspark for each would take minutes."""
    if lacking() and "CI" not in os.environ:
        pytest.skip(lacking())
    shown = json.dumps([sys.prefix, sys.base_prefix])
    data = tmp_path_factory.mktemp("spark") / "data"
    with live_server(data, environ={"JOBSPHERE_SANDBOX_READ_ONLY": shown}) as running:
        jobsphere(data, "secret", "set", "SPARK_PIN", value=SECRET.encode())
        yield running


@pytest.fixture(scope="module")
def spark(server: LiveServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with spark_connect(tmp_path_factory.mktemp("spark-connect") / "server") as host:
        yield host


def files_with(folder: Path, text: str) -> list[Path]:
    return [p for p in folder.rglob("*") if p.is_file() and text.encode() in p.read_bytes()]


def told(mode: str, host: str, *, context: bool) -> list[str]:
    """What the script prints."""
    pin = hashlib.sha256(SECRET.encode()).hexdigest()
    lines = ["sum 45", "partitions 7", f"pin {pin}", "file 0o600"]
    return [f"mode {mode} at {host} context {context}", *lines]


def test_an_unchanged_script_runs_on_a_spark_connect_server(server: LiveServer, spark: str, tmp_path: Path) -> None:
    data, client = server.data_dir, server.client()
    connector = jobsphere(data, "spark", "add", "team", spark, *PARAMS).strip()

    words = execute(client, write_job(tmp_path / "job", CONFIG % connector, job__py=JOB))

    assert [line for line in told("SPARK_CONNECT", spark, context=False) if line not in words] == []
    assert SECRET not in words
    assert SECRET not in server.log
    assert files_with(data, SECRET) == []


@pytest.mark.parametrize("mode", ["context", "local"] if os.environ.get("JOBSPHERE_SOAK") else ["context"])
def test_a_driver_runs_in_the_job(server: LiveServer, tmp_path: Path, mode: str) -> None:
    data, client = server.data_dir, server.client()
    params = (*PARAMS, "--param", "spark.master=local[1]", "--param", "spark.ui.enabled=false")
    connector = jobsphere(data, "spark", "add", mode, "master.cluster", "--mode", mode, *params).strip()

    words = execute(client, write_job(tmp_path / "job", CONFIG % connector + FORKS, job__py=JOB))

    expected = told(f"SPARK_{mode.upper()}", "master.cluster", context=True)
    assert [line for line in expected if line not in words] == [], words
    assert files_with(data, SECRET) == []


def test_its_life_by_command(server: LiveServer, tmp_path: Path) -> None:
    data, client = server.data_dir, server.client()
    connector = jobsphere(data, "spark", "add", "mine", "spark.example:15002", *PARAMS).strip()
    shown = json.loads(jobsphere(data, "spark", "show", "mine"))
    assert (shown["id"], shown["mode"], shown["host"]) == (connector, "SPARK_CONNECT", "spark.example:15002")
    assert shown["params"] == {"spark.sql.shuffle.partitions": "7"}
    assert shown["secret_params"] == {"spark.team.pin": "SPARK_PIN"}
    assert shown in json.loads(jobsphere(data, "spark", "list", "--json"))

    use = f"spark: {{connector: {connector}}}\n"
    in_image = f"cmd: 'true'\nenv: {{docker: base}}\n{use}"
    words = execute(client, write_job(tmp_path / "image", in_image), code=1)
    assert "a job with a Spark connector cannot choose a Docker image" in words

    sleeping = f"cmd: sleep 1000\n{use}"
    job = start_async(client, folder := write_job(tmp_path / "sleeping", sleeping))["job_id"]
    wait_status(client, job, folder, "EXECUTING")
    refused = jobsphere(data, "spark", "delete", "mine", code=1)
    assert "Spark connector 'mine' is in use by" in refused
    assert job in refused
    client.run("project", "job", "cancel", "--id", job, cwd=folder)
    wait_status(client, job, folder, "CANCELLED")

    jobsphere(data, "spark", "delete", "mine")
    words = execute(client, write_job(tmp_path / "gone", sleeping), code=1)
    assert f"no Spark connector '{connector}'; `jobsphere spark list` shows those it has" in words
    audited = jobsphere(data, "audit")
    assert "jobsphere spark add" in audited
    assert "jobsphere spark delete" in audited
    assert SECRET not in audited
