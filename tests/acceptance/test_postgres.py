"""A server whose database is PostgreSQL: the vendor's client, a database that is killed, the operator's commands."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import job_id_in, log_text, run_dir, wait_status, write_script
from tests.live import BIN, HANG_S, LiveServer, live_server, wait_for
from tests.postgres import PASSWORD, Postgres

SCRIPT = """
echo before
touch up
until [ -e go ]; do sleep 0.05; done
echo after
echo whole > out.txt
"""


@pytest.fixture
def server(postgres: Postgres, tmp_path: Path) -> Iterator[LiveServer]:
    environ = {
        "JOBSPHERE_DATABASE_URL": postgres.url(postgres.new_database()),
        "JOBSPHERE_DATABASE_PASSWORD": PASSWORD,
    }
    with live_server(tmp_path / "data", environ=environ) as server:
        yield server


def command(server: LiveServer, *words: str, told: bool = True) -> tuple[int, str]:
    """An operator's command, told of the database or not: its exit code and words."""
    environ = {name: v for name, v in server.environ.items() if told or not name.startswith("JOBSPHERE_DATABASE")}
    argv = [BIN / "jobsphere", *words, "--data-dir", server.data_dir]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False, timeout=HANG_S)
    return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


def test_a_job_outlives_the_death_of_its_database(postgres: Postgres, server: LiveServer, tmp_path: Path) -> None:
    client = server.client(environ={k: v for k, v in server.environ.items() if k.startswith("JOBSPHERE_DATABASE")})
    folder = write_script(tmp_path / "job", SCRIPT, "outputs:\n- out.txt\n")
    words = folder / "words.txt"
    with words.open("w") as out:
        process = client.start("project", "job", "execute", "-p", client.project, "-c", "config.yaml", cwd=folder,
                               stdout=out)  # fmt: skip
    wait_for(lambda: "before" in words.read_text(), "the client shows the log")
    job_id = job_id_in(words.read_text())
    work = run_dir(server.data_dir, job_id) / "work"

    postgres.kill()
    (work / "go").touch()
    wait_for(lambda: "after" in log_text(server.data_dir, job_id), "the program went on by itself")
    wait_for(lambda: "cannot be reached" in server.log, "the server has missed its database")
    postgres.start()

    assert process.wait(HANG_S) == 0, words.read_text()
    assert words.read_text().count("after\n") == 1
    assert (folder / "out.txt").read_text() == "whole\n"
    wait_status(client, job_id, folder, "SUCCESS")
    assert not (server.data_dir / "jobsphere.db").exists()
    assert PASSWORD not in server.log + words.read_text()


def test_the_operators_commands_work_on_the_same_database_or_not_at_all(server: LiveServer, tmp_path: Path) -> None:
    assert command(server, "project", "create", "second")[0] == 0
    assert "second" in command(server, "project", "list")[1]
    code, words = command(server, "project", "list", told=False)
    assert code != 0
    assert "set database_url" in words
    code, words = command(server, "backup", str(tmp_path / "backup"))
    assert code != 0
    assert "pg_dump" in words
    assert not (tmp_path / "backup").exists()
    assert "pg_amcheck" in command(server, "doctor", "--quick")[1]
