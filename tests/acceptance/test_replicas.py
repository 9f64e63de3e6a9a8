"""Several servers on one database: who leads, and when another does."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import execute, write_job
from tests.live import BIN, HANG_S, LiveServer, live_server, wait_for
from tests.postgres import PASSWORD, Postgres


@pytest.fixture
def environ(postgres: Postgres) -> dict[str, str]:
    return {
        "JOBSPHERE_DATABASE_URL": postgres.url(postgres.new_database()),
        "JOBSPHERE_DATABASE_PASSWORD": PASSWORD,
    }


@pytest.fixture
def one(tmp_path: Path, environ: dict[str, str]) -> Iterator[LiveServer]:
    with live_server(tmp_path / "one", environ=environ) as server:
        yield server


def test_a_server_whose_only_node_is_itself_has_its_database_for_itself(one: LiveServer, tmp_path: Path) -> None:
    wait_for(lambda: "this server leads" in one.log, "it leads")
    two = LiveServer(tmp_path / "two", environ=one.environ)
    command = [BIN / "jobsphere", "up", "--data-dir", two.data_dir, "--grpc-port", "0", "--proxy-port", "0",
               "--http-port", "0"]  # fmt: skip
    refused = subprocess.run(command, env=two.environ, capture_output=True, text=True, check=False, timeout=HANG_S)
    assert refused.returncode != 0
    assert "works on this database" in " ".join(refused.stderr.split())
    one.stop()
    try:
        two.start()  # at once: the lease was given back
        wait_for(two.leads, "the other leads")
        execute(two.client(environ={k: v for k, v in two.environ.items() if k.startswith("JOBSPHERE_DATABASE")}),
                write_job(tmp_path / "job", "cmd: echo done\n"))  # fmt: skip
    finally:
        two.end_all()


def test_one_that_was_stopped_for_longer_than_its_lease_leads_again(
    one: LiveServer, postgres: Postgres, tmp_path: Path
) -> None:
    wait_for(lambda: "this server leads" in one.log, "it leads")
    database = one.environ["JOBSPHERE_DATABASE_URL"].rpartition("/")[2]
    alive = "SELECT count(*) FROM leases WHERE expires_at > extract(epoch FROM clock_timestamp()) * 1000000"
    assert one.process
    one.process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: postgres.run(database, alive) == "0", "its lease has ended")
    finally:
        one.process.send_signal(signal.SIGCONT)
    wait_for(lambda: "this server leads no more" in one.log, "it stopped by itself")
    wait_for(one.leads, "it leads again")
    known = {k: v for k, v in one.environ.items() if k.startswith("JOBSPHERE_DATABASE")}
    execute(one.client(environ=known), write_job(tmp_path / "job", "cmd: echo done\n"))
