"""Traces of real jobs, as a collector gets them: from the call to the program, over a restart of the server."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsphere.client import Client
from tests.acceptance.jobfiles import run_dir, write_job
from tests.live import HANG_S, LiveServer, live_server, wait_for
from tests.otlp import Collector, Received, collector

SCRIPT = """\
import pathlib, time
if __name__ == "__main__":
    pathlib.Path("up").touch()
    while not pathlib.Path("go").exists():
        time.sleep(0.05)
    pathlib.Path("out.txt").write_text("secret-of-the-user")
"""
CONFIG = """\
cmd: python job.py
name: name-of-the-user
env:
  vars: [{WORD: word-of-the-user}]
  python: {type: manual, version: "3.11"}
outputs: [out.txt]
"""
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def collected() -> Iterator[Collector]:
    with collector() as received:
        yield received


@pytest.fixture(scope="module")
def traced(collected: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    environ = {
        "JOBSPHERE_TRACE_ENDPOINT": collected.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_SERVICE_NAME": "jobs-of-a-test",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-tenant=ours",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "NO_PROXY": "127.0.0.1",
    }
    with live_server(tmp_path_factory.mktemp("traces") / "data", environ=environ) as running:
        yield running


def spans_of(collected: Collector, job_id: str, *names: str) -> list[Received]:
    """The spans of these names in the job's trace, when all of them have come."""

    def found() -> list[Received] | None:
        spans = [span for name in names if (span := collected.of(job_id, name))]
        return spans if len(spans) == len(names) else None

    return wait_for(found, f"spans {names} of {job_id} have come")


def test_one_trace_from_the_call_to_the_end_over_a_restart(
    traced: LiveServer, collected: Collector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_job(tmp_path / "job", CONFIG, job__py=SCRIPT))
    with Client(data_dir=traced.data_dir, token="", project="") as client:
        job = client.run()
        work = run_dir(traced.data_dir, job.id) / "work"
        wait_for((work / "up").exists, "the program runs")
        ports = traced.ports
        traced.stop()
        traced.start(ports)
        (work / "go").touch()
        assert job.wait().ok

    names = (
        "/Create",
        "/Execute",
        "job",
        "dispatch",
        "attempt",
        "stage",
        "environment",
        "program",
        "collect",
        "commit",
    )
    create, execute, whole, dispatch, attempt, *phases, commit = spans_of(collected, job.id, *names)

    assert {s.service for s in collected.spans} == {"jobs-of-a-test"}
    assert (create.parent_id, execute.parent_id, whole.parent_id) == ("", create.span_id, execute.span_id)
    assert {s.parent_id for s in (dispatch, attempt, commit)} == {whole.span_id}
    assert {s.parent_id for s in phases} == {attempt.span_id}
    in_order = [dispatch, *phases, commit]
    assert [s.begin for s in in_order] == sorted(s.begin for s in in_order)
    assert all(whole.begin <= s.begin <= s.end <= whole.end for s in (*in_order, attempt))
    assert not any(s.failed for s in collected.spans if s.trace_id == whole.trace_id)
    assert whole.attributes["jobsphere.job.status"] == "SUCCESS"
    assert attempt.attributes["jobsphere.attempt.id"] == f"{job.id}-1"
    assert create.attributes["rpc.response.status_code"] == "OK"
    assert create.attributes["jobsphere.request_id"]
    everything = b"".join(collected.raw)
    assert b"of-the-user" not in everything
    assert b"job.py" not in everything
    assert all(h["x-tenant"] == "ours" for h in collected.headers)


def test_a_job_belongs_to_the_trace_of_whoever_executed_it(traced: LiveServer, collected: Collector) -> None:
    info = json.loads((traced.data_dir / "run" / "server.json").read_text())
    api = f"http://127.0.0.1:{info['http_port']}/datasphere/v2"

    def ask(path: str, body: object) -> dict[str, dict[str, str]]:
        headers = {"Content-Type": "application/json", "traceparent": CALLER}
        request = urllib.request.Request(f"{api}/{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=HANG_S) as answer:
            return json.load(answer)

    parameters = {"cmd": "exit 3", "cloudInstanceTypes": [{"name": "c1.4"}]}
    job_id = ask(f"projects/{info['project_id']}/jobs", {"jobParameters": parameters})["response"]["jobId"]
    ask(f"jobs/{job_id}:execute", {})

    names = ("/Create", "/Execute", "job", "attempt", "program")
    create, execute, job, attempt, program = spans_of(collected, job_id, *names)

    _, trace_id, caller, _ = CALLER.split("-")
    assert {s.trace_id for s in (create, execute, job, attempt, program)} == {trace_id}
    assert (create.parent_id, execute.parent_id, job.parent_id) == (caller, caller, execute.span_id)
    assert (job.failed, attempt.failed, program.failed) == (True, True, True)
    assert job.attributes["jobsphere.job.failed_in"] == "run"
    assert program.attributes["jobsphere.program.return_code"] == 3
    assert execute.attributes["rpc.system.name"] == "jobsphere.rest"
