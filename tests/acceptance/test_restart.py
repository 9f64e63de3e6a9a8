"""A job goes on while the server is stopped, killed and started again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import job_id_in, log_text, run_dir, start_async, wait_status, write_script
from tests.live import live_server, wait_for

SCRIPT = """
echo start >> starts.txt
echo before the stop
touch up
until [ -e go ]; do sleep 0.05; done
echo after the start
wc -l < starts.txt > count.txt
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_job_outlives_its_server(tmp_path: Path, how: signal.Signals) -> None:
    with live_server(tmp_path / "data") as server:
        ports = server.ports
        client = server.client()
        folder = write_script(tmp_path / "job", SCRIPT, "outputs:\n- count.txt\n")
        job_id = start_async(client, folder)["job_id"]
        work = run_dir(server.data_dir, job_id) / "work"
        wait_for((work / "up").exists, "the program runs")

        server.stop(how)
        if how is signal.SIGTERM:
            assert "1 job goes on without it" in server.log
        (work / "go").touch()
        wait_for(lambda: "after the start" in log_text(server.data_dir, job_id), "the program went on by itself")
        server.start(ports)

        wait_status(client, job_id, folder, "SUCCESS")
        client.run("project", "job", "download-files", "--id", job_id, "--with-logs", cwd=folder)
        assert (folder / "count.txt").read_text().strip() == "1"
        assert (folder / "stdout.txt").read_text() == "before the stop\nafter the start\n"


def test_a_foreground_client_survives_a_restart(tmp_path: Path) -> None:
    """The stream breaks and the poll fails; the client comes back on both, where it was."""
    with live_server(tmp_path / "data") as server:
        ports = server.ports
        client = server.client()
        folder = write_script(tmp_path / "job", SCRIPT, "outputs:\n- count.txt\n")
        words = folder / "words.txt"
        with words.open("w") as out:
            process = client.start("project", "job", "execute", "-p", client.project, "-c", "config.yaml", cwd=folder,
                                   stdout=out)  # fmt: skip
        wait_for(lambda: "before the stop" in words.read_text(), "the client shows the log")
        work = run_dir(server.data_dir, job_id_in(words.read_text())) / "work"

        server.stop(signal.SIGKILL)
        server.start(ports)
        (work / "go").touch()

        assert process.wait(120) == 0, words.read_text()
        assert words.read_text().count("before the stop") == 1
        assert "after the start" in words.read_text()
        assert (folder / "count.txt").read_text().strip() == "1"


def test_a_lost_job_that_asked_for_it_is_started_anew_before_the_eyes_of_its_client(tmp_path: Path) -> None:
    with live_server(tmp_path / "data") as server:
        client = server.client()
        more = "outputs:\n- count.txt\nx-jobsphere:\n  retries: 1\n"
        folder = write_script(tmp_path / "job", SCRIPT, more)
        words = folder / "words.txt"
        with words.open("w") as out:
            process = client.start("project", "job", "execute", "-p", client.project, "-c", "config.yaml", cwd=folder,
                                   stdout=out)  # fmt: skip
        wait_for(lambda: "before the stop" in words.read_text(), "the client shows the log")
        first = run_dir(server.data_dir, job_id_in(words.read_text()))
        os.kill(json.loads((first / "claim").read_text())["pid"], signal.SIGKILL)

        wait_for(lambda: words.read_text().count("before the stop") == 2, "the log goes on with the next attempt's")
        second = first.with_name(first.name.replace("-1", "-2"))
        (second / "work" / "go").touch()

        assert process.wait(120) == 0, words.read_text()
        assert (words.read_text().count("before the stop"), words.read_text().count("after the start")) == (2, 1)
        assert (folder / "count.txt").read_text().strip() == "1"
        ended = sorted(path.name for path in (server.data_dir / "ended").iterdir())
        assert ended == [first.name, second.name]
