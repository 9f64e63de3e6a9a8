"""The server's own log, for machines: each line about a job says which one, each about a call too."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.jobfiles import ask, run_dir, submit
from tests.live import LiveServer, live_server, wait_for

WAITS = "touch up; until [ -e go ]; do sleep 0.05; done"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    data = tmp_path_factory.mktemp("log") / "data"
    with live_server(data, "--log-format", "json", environ={"JOBSPHERE_SANDBOX": "none"}) as running:
        yield running


def lines(server: LiveServer) -> list[dict[str, Any]]:
    """What was logged. A line that is just being written is not there yet."""
    return [json.loads(line) for line in server.log.splitlines(keepends=True) if line.endswith("\n")]


def run(server: LiveServer, cmd: str) -> str:
    return submit(server, {"cmd": cmd, "cloudInstanceTypes": [{"name": "c1.4"}]})


def up(server: LiveServer, job_id: str) -> str:
    """The job, when its program runs and the server has said so."""
    wait_for((run_dir(server.data_dir, job_id) / "work" / "up").exists, "the program runs")
    wait_for(lambda: [x for x in lines(server) if x.get("status") == "EXECUTING" and x["job"] == job_id], "it is told")
    return job_id


def about(server: LiveServer, job_id: str) -> list[tuple[str, str | None]]:
    """The events of a job that has ended, with their statuses; each has the ids."""

    def ended() -> list[dict[str, Any]]:
        found = [line for line in lines(server) if job_id in json.dumps(line)]
        return found if any(line["event"] == "job ended" for line in found) else []

    found = wait_for(ended, "the end is told")
    assert {line["job"] for line in found} == {job_id}
    assert {line["attempt"] for line in found if "request_id" not in line} == {f"{job_id}-1"}
    assert all({"event", "level", "timestamp"} <= line.keys() for line in found)
    return [(line["event"], line.get("status")) for line in found]


def test_a_success_and_a_failure_are_told(server: LiveServer) -> None:
    good, bad = run(server, "true"), run(server, "echo words-of-the-user >&2; exit 3")

    assert about(server, good)[0] == ("attempt placed", None)
    assert about(server, good)[-1] == ("job ended", "SUCCESS")
    assert about(server, bad)[-1] == ("job ended", "ERROR")
    (end,) = (x for x in lines(server) if x["event"] == "job ended" and x["job"] == bad)
    assert (end["return_code"], end["failed_in"]) == (3, "run")
    assert "words-of-the-user" not in server.log


def test_a_lost_job_is_told(server: LiveServer) -> None:
    job_id = up(server, run(server, WAITS))
    os.kill(json.loads((run_dir(server.data_dir, job_id) / "claim").read_text())["pid"], signal.SIGKILL)

    assert about(server, job_id)[-1] == ("job ended", "ERROR")
    assert [x["failed_in"] for x in lines(server) if x["event"] == "job ended" and x["job"] == job_id] == ["machine"]


def test_a_cancelled_job_is_told_and_a_call_that_fails_has_its_id(server: LiveServer) -> None:
    job_id = up(server, run(server, WAITS))
    ask(server, f"jobs/{job_id}:cancel", {"reason": "reason-of-the-user"})

    assert about(server, job_id)[-1] == ("job ended", "CANCELLED")
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, f"jobs/{job_id}:setDataTtl", {"ttl": "-1s"})
    assert "reason-of-the-user" not in server.log
    request_id = refused.value.headers["x-request-id"]
    (line,) = (x for x in lines(server) if x.get("request_id") == request_id)
    assert (line["event"], line["job"], line["code"]) == ("call failed", job_id, "INVALID_ARGUMENT")


def test_every_line_is_an_object_with_a_level(server: LiveServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(server, "jobs/no!such%0Ajob")
    told = [x for x in lines(server) if x.get("request_id") == refused.value.headers["x-request-id"]]

    assert [(x["event"], x.get("job")) for x in told] == [("call failed", None)]
    assert {x["level"] for x in lines(server)} <= {"info", "warning", "error"}
    assert lines(server)[0]["event"].startswith("no tokens are asked for")
