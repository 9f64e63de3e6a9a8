"""A server stops, and the next one, newer, takes up what runs."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest
from alembic import command
from grpc_health.v1 import health_pb2, health_pb2_grpc
from sqlalchemy import create_engine
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from jobsphere.store import schema
from jobsphere.store.migrations import run
from jobsphere.wiring import desk
from tests.grpc_client import Api
from tests.live import BIN, HANG_S, LiveServer, live_server, wait_for

UNIT = Path(__file__).parents[2] / "deploy" / "jobsphere.service"


def answers(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=HANG_S) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def running_job(api: Api, project: str, go: Path) -> str:
    job_id = api.create(project, f"echo one; until [ -e {go} ]; do sleep 0.05; done; echo two")
    api.execute(job_id)
    api.wait(job_id, pb.EXECUTING)
    return job_id


def test_a_server_that_stops_takes_no_new_jobs_and_says_so_to_whoever_asks(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with live_server(tmp_path / "data", "--sandbox", "none", environ={"JOBSPHERE_DRAIN_S": "600"}) as server:
        project = asyncio.run(desk.default_project_id(server.data_dir))
        api, ports = Api.of(server), server.ports
        api._retry = False
        http = f"http://127.0.0.1:{ports['http']}"
        health = health_pb2_grpc.HealthStub(api.channel)
        ask = health_pb2.HealthCheckRequest(service="yandex.cloud.datasphere.v2.jobs.ProjectJobService")
        job_id = running_job(api, project, go)
        created = api.create(project, "true")
        assert (answers(f"{http}/healthz"), answers(f"{http}/readyz")) == (200, 200)
        assert health.Check(ask).status == health_pb2.HealthCheckResponse.SERVING

        assert server.process
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: answers(f"{http}/readyz") == 503, "it says that it is not ready")
        assert answers(f"{http}/healthz") == 200
        assert health.Check(ask).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for call in (lambda: api.create(project, "true"), lambda: api.execute(created)):
            with pytest.raises(grpc.RpcError, match="takes no new jobs") as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE  # pyright: ignore[reportAttributeAccessIssue]
        assert api.get(job_id).status == pb.EXECUTING
        api.close()
        server.stop(signal.SIGKILL)  # the drain is longer than this test
        server.environ["JOBSPHERE_DRAIN_S"] = "0"
        server.start(ports)
        go.touch()
        api = Api.of(server)
        assert api.wait(job_id).status == pb.SUCCESS
        assert api.stdout(job_id) == b"one\ntwo\n"
        api.close()


@contextmanager
def writing(database: Path) -> Iterator[list[int]]:
    """An older version's command, that writes all the time meanwhile: the numbers of its rows."""
    done, written = threading.Event(), list[int]()

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            while not done.is_set():
                with connection:
                    cursor = connection.execute(
                        "INSERT INTO audit (at, subject_id, subject_name, action, project_id, target, origin, result, "
                        "request_id) VALUES (1, '', '', 'old', '', '', '', 'OK', '')"
                    )
                written.append(cursor.lastrowid or 0)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        yield written
    finally:
        done.set()
        thread.join(HANG_S)


def downgrade(database: Path, revision: str) -> None:
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        config = run.configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()


def test_a_newer_server_takes_up_the_jobs_and_the_schema_of_an_older_one(tmp_path: Path) -> None:
    go = tmp_path / "go"
    with live_server(tmp_path / "data", "--sandbox", "none") as server:
        project = asyncio.run(desk.default_project_id(server.data_dir))
        api, ports = Api.of(server), server.ports
        job_id = running_job(api, project, go)
        api.close()
        server.stop()
        database = server.data_dir / "jobsphere.db"
        downgrade(database, "0003")
        with writing(database) as written:
            wait_for(lambda: len(written) > 10, "the older version writes")
            server.start(ports)
            at_ready = len(written)
            wait_for(lambda: len(written) > at_ready, "it still can, where the change lets it")
        with closing(sqlite3.connect(database)) as connection:
            assert schema.current_revision(connection) == schema.HEAD
            assert connection.execute("SELECT count(*) FROM audit WHERE action = 'old'").fetchone()[0] == len(written)
        go.touch()
        api = Api.of(server)
        assert api.wait(job_id).status == pb.SUCCESS
        assert api.stdout(job_id) == b"one\ntwo\n"
        api.close()


def test_an_older_server_refuses_newer_data_in_one_sentence_and_leaves_it(tmp_path: Path) -> None:
    asyncio.run(desk.default_project_id(tmp_path / "data"))
    database = tmp_path / "data" / "jobsphere.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    server = LiveServer(tmp_path / "data")
    done = subprocess.run(
        [BIN / "jobsphere", "up", "--data-dir", server.data_dir, "--grpc-port", "0", "--proxy-port", "0",
         "--http-port", "0"], capture_output=True, text=True, timeout=HANG_S, check=False
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "was made by a newer jobsphere (its schema is 9999" in done.stderr
    assert "start the newer version again" in done.stderr
    with closing(sqlite3.connect(database)) as connection:
        assert schema.current_revision(connection) == "9999"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this host has no systemd")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "jobsphere.service"
    text = UNIT.read_text()
    assert "KillMode=process\n" in text
    unit.write_text(text.replace("/usr/local/bin/jobsphere", str(BIN / "jobsphere")).replace("User=jobsphere\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, timeout=HANG_S, check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if "jobsphere" in line]
    assert (done.returncode, said) == (0, []), done.stderr
