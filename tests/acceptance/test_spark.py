"""A job script with the vendor's SDK, unchanged, on a real Spark Connect server; a soak also has Spark in the job."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import execute, write_job
from tests.commands import jobsphere
from tests.live import HANG_S, live_server, wait_for

PLANTED = "planted-in-a-session-4711"
JOB = """\
import hashlib

import datasphere

wrapper = datasphere.SDK().connect_to_spark()
total = wrapper.spark.range(10).selectExpr("sum(id) as total").collect()[0].total
partitions = wrapper.spark.conf.get("spark.sql.shuffle.partitions")
secret = hashlib.sha256(wrapper.spark.conf.get("spark.planted").encode()).hexdigest()
print(wrapper.connection_mode.name, wrapper.sc is None, total, partitions, secret)
"""
CONFIG = f"""\
name: on spark
cmd: {sys.executable} job.py
inputs:
- job.py
env:
  vars:
    SPARK_LOCAL_IP: 127.0.0.1
spark:
  connector: %s
"""
STARTED = re.compile(r"Spark Connect server started at: 127\.0\.0\.1:(\d+)")


def missing() -> list[str]:
    lacking = [] if shutil.which("java") else ["java"]
    return lacking if importlib.util.find_spec("pyspark") else [*lacking, "pyspark"]


@pytest.fixture(scope="session")
def connect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """HOST:PORT of a Spark Connect server of its own."""
    if (lacking := missing()) and "CI" not in os.environ:
        pytest.skip(f"not installed: {', '.join(lacking)}; `make spark` brings it")
    with spark_connect(tmp_path_factory.mktemp("spark")) as port:
        yield f"127.0.0.1:{port}"


@contextmanager
def spark_connect(folder: Path) -> Iterator[str]:
    found = importlib.util.find_spec("pyspark")
    assert found
    assert found.origin
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": "0",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.ui.enabled": "false",
    }
    argv = [Path(found.origin).parent / "sbin" / "start-connect-server.sh", "--master", "local[1]"]
    argv += [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
    environ = {**os.environ, "SPARK_NO_DAEMONIZE": "1", "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOG_DIR": str(folder)}
    log = folder / "server.log"
    with log.open("w") as words:
        process = subprocess.Popen(
            argv, cwd=folder, env=environ, stdout=words, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield wait_for(lambda: port_in(log, process), "the Spark Connect server listens")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(HANG_S)


def port_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    text = log.read_text()
    assert process.poll() is None, text
    found = STARTED.search(text)
    return found.group(1) if found else ""


def test_a_job_speaks_to_spark_by_the_sdk_and_its_secret_is_nowhere_in_clear(
    connect_server: str, tmp_path: Path
) -> None:
    (data := tmp_path / "data").mkdir()
    shown = [p for p in (sys.prefix, sys.base_prefix) if not p.startswith("/usr")]
    (data / "jobsphere.toml").write_text(f"sandbox_read_only = {json.dumps(shown)}\njobs_at_once = 1\n")
    with live_server(data) as server:
        client = server.client()
        jobsphere(data, "secret", "set", "PLANTED", value=PLANTED.encode())
        params = ("--param", "spark.sql.shuffle.partitions=3", "--secret-param", "spark.planted=PLANTED")
        connector = jobsphere(data, "spark", "create", "team", "connect", connect_server, *params).strip()

        words = execute(client, write_job(tmp_path / "job", CONFIG % connector, job__py=JOB))

        digest = hashlib.sha256(PLANTED.encode()).hexdigest()
        assert f"CONNECT True 45 3 {digest}" in words
        assert PLANTED not in words
        found = json.loads(jobsphere(data, "spark", "show", "team"))
        assert (found["mode"], found["secret_params"]) == ("SPARK_CONNECT", {"spark.planted": "PLANTED"})
        texts = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()} | {Path("log"): server.log.encode()}
        assert [p for p, text in texts.items() if PLANTED.encode() in text] == []

        if "JOBSPHERE_SOAK" in os.environ:  # half a minute of CPU more
            changed = ("--mode", "local", "--master", "", "--param", "spark.ui.enabled=false")
            jobsphere(data, "spark", "update", "team", *changed)
            words = execute(client, write_job(tmp_path / "local", CONFIG % connector, job__py=JOB))
            assert f"LOCAL False 45 3 {digest}" in words

        in_image = CONFIG.replace("env:", "env:\n  docker: python:3.11")
        words = execute(client, write_job(tmp_path / "image", in_image % connector, job__py=JOB), code=1)
        assert "a job with a Spark connector runs in no Docker image" in words
        jobsphere(data, "spark", "delete", "team")
        assert json.loads(jobsphere(data, "spark", "list", "--json")) == []
