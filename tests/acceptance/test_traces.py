"""Traces of real jobs, as a collector gets them: from the call to the program, over a restart of the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.jobfiles import ask, run_dir, submit
from tests.live import LiveServer, live_server, wait_for
from tests.otlp import Collector, Received, collector

CMD = "touch up; until [ -e go ]; do sleep 0.05; done; echo secret-of-the-user > out.txt"
PARAMETERS = {
    "cmd": CMD,
    "env": {"vars": {"WORD": "word-of-the-user"}, "pythonEnv": {"pythonVersion": "3.11"}},
    "outputFiles": [{"path": "out.txt"}],
    "cloudInstanceTypes": [{"name": "c1.4"}],
}
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


def test_one_trace_from_the_call_to_the_end_over_a_restart(traced: LiveServer, collected: Collector) -> None:
    job_id = submit(traced, PARAMETERS)
    work = run_dir(traced.data_dir, job_id) / "work"
    wait_for((work / "up").exists, "the program runs")
    ports = traced.ports
    traced.stop()
    traced.start(ports)
    (work / "go").touch()
    wait_for(lambda: ask(traced, f"jobs/{job_id}")["status"] == "SUCCESS", "the job succeeded")

    phases = ("stage", "environment", "program", "collect")
    names = ("/Create", "/Execute", "job", "dispatch", "attempt", *phases, "commit")
    create, execute, whole, dispatch, attempt, *inside, commit = spans_of(collected, job_id, *names)

    assert {s.service for s in collected.spans} == {"jobs-of-a-test"}
    assert (create.parent_id, execute.parent_id, whole.parent_id) == ("", create.span_id, execute.span_id)
    assert {s.parent_id for s in (dispatch, attempt, commit)} == {whole.span_id}
    assert {s.parent_id for s in inside} == {attempt.span_id}
    in_order = [dispatch, *inside, commit]
    assert [s.begin for s in in_order] == sorted(s.begin for s in in_order)
    assert all(whole.begin <= s.begin <= s.end <= whole.end for s in (*in_order, attempt))
    assert not any(s.failed for s in collected.spans if s.trace_id == whole.trace_id)
    assert whole.attributes["jobsphere.job.status"] == "SUCCESS"
    assert attempt.attributes["jobsphere.attempt.id"] == f"{job_id}-1"
    assert create.attributes["rpc.response.status_code"] == "OK"
    assert create.attributes["jobsphere.request_id"]
    everything = b"".join(collected.raw)
    assert b"of-the-user" not in everything
    assert b"out.txt" not in everything
    assert all(h["x-tenant"] == "ours" for h in collected.headers)


def test_a_job_belongs_to_the_trace_of_whoever_executed_it(traced: LiveServer, collected: Collector) -> None:
    job_id = submit(traced, {"cmd": "exit 3", "cloudInstanceTypes": [{"name": "c1.4"}]}, traceparent=CALLER)

    names = ("/Create", "/Execute", "job", "attempt", "program")
    create, execute, job, attempt, program = spans_of(collected, job_id, *names)

    _, trace_id, caller, _ = CALLER.split("-")
    assert {s.trace_id for s in (create, execute, job, attempt, program)} == {trace_id}
    assert (create.parent_id, execute.parent_id, job.parent_id) == (caller, caller, execute.span_id)
    assert (job.failed, attempt.failed, program.failed) == (True, True, True)
    assert job.attributes["jobsphere.job.failed_in"] == "run"
    assert program.attributes["jobsphere.program.return_code"] == 3
    assert execute.attributes["rpc.system.name"] == "jobsphere.rest"
