"""Calls and jobs as OpenTelemetry gets them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from tests.unit.test_spans import JOB, SEEN
from tests.unit.world import PROJECT, WHO, World, a_spec, attempt

from jobsphere import traces
from jobsphere.config import Settings
from jobsphere.domain.attempt import Started
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.trace import TraceContext
from jobsphere.service import traced
from jobsphere.traces import OtelTracer, TraceSettings
from jobsphere.wiring.parts import tracer_of

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CALLER_UNSAMPLED = CALLER.removesuffix("1") + "0"
TRACE = TraceContext("ab" * 16, "cd" * 8, sampled=True)
METHOD = "/yandex.cloud.datasphere.v2.jobs.ProjectJobService/Execute"


@pytest.fixture(autouse=True)
def no_variables_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def make(exporter: InMemorySpanExporter) -> Iterator[Callable[..., OtelTracer]]:
    """Makes tracers that are closed in the end."""
    made: list[OtelTracer] = []

    def tracer(**settings: float) -> OtelTracer:
        made.append(OtelTracer(TraceSettings(**settings), exporter))
        return made[-1]

    yield tracer
    for one in made:
        one.close()


def call(tracer: OtelTracer, traceparent: object = None, peer: str = "ipv4:127.0.0.1:1") -> traces.OtelCall:
    metadata = (("authorization", "Bearer secret"), *([("traceparent", traceparent)] if traceparent else []))
    return tracer.called(METHOD, lambda: metadata, lambda: peer)


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Its trace, itself and what it is below."""
    parent = format_span_id(span.parent.span_id) if span.parent else ""
    return format_trace_id(span.context.trace_id), format_span_id(span.context.span_id), parent


def test_a_call_is_a_span_with_ids_and_codes_only(make, exporter) -> None:
    tracer = make()
    call(tracer).end("NOT_FOUND", "r1")
    tracer.close()

    (span,) = exporter.get_finished_spans()
    assert span.name == METHOD.lstrip("/")
    assert dict(span.attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": METHOD.lstrip("/"),
        "rpc.response.status_code": "NOT_FOUND",
        "jobsphere.request_id": "r1",
    }
    assert span.status.is_unset
    assert span.end_time > span.start_time
    assert span.resource.attributes["service.name"] == "jobsphere"


@pytest.mark.parametrize(("code", "ok"), [("OK", True), ("INTERNAL", False), ("INVALID_ARGUMENT", True)])
def test_only_what_is_the_servers_fault_is_an_error(make, exporter, code: str, ok: bool) -> None:
    tracer = make()
    call(tracer, peer="http:127.0.0.1:1").end(code, "", "j1")
    tracer.close()

    (span,) = exporter.get_finished_spans()
    assert span.status.is_unset is ok
    assert (span.attributes["rpc.system.name"], span.attributes["jobsphere.job.id"]) == ("jobsphere.rest", "j1")


def test_a_call_is_below_its_callers_span_and_a_job_does_not_take_it_away(make, exporter) -> None:
    tracer = make()
    span = call(tracer, CALLER)
    span.about("j1", TRACE)
    known = span.context()
    span.end("OK", "")
    tracer.close()

    _, trace_id, parent, _ = CALLER.split("-")
    (sent,) = exporter.get_finished_spans()
    assert ids(sent) == (trace_id, known.span_id, parent)
    assert (known.trace_id, known.sampled) == (trace_id, True)


def test_a_call_without_a_trace_becomes_a_part_of_the_jobs(make, exporter) -> None:
    tracer = make()
    span = call(tracer)
    span.about("j1", TRACE)
    span.end("OK", "")
    tracer.close()

    (sent,) = exporter.get_finished_spans()
    assert (ids(sent)[0], ids(sent)[2]) == (TRACE.trace_id, TRACE.span_id)
    assert sent.attributes["jobsphere.job.id"] == "j1"


@pytest.mark.parametrize(
    "wrong",
    ["", "no", CALLER + "-more", "00-" + "0" * 32 + "-b7ad6b7169203331-01", CALLER.upper(), b"bytes", "0" * 600],
)
def test_a_header_that_is_none_is_as_none(make, exporter, wrong: object) -> None:
    tracer = make()
    call(tracer, wrong).end("OK", "")
    tracer.close()

    assert exporter.get_finished_spans()[0].parent is None


def test_the_callers_word_on_sampling_counts_else_the_setting(make, exporter) -> None:
    tracer = make(sampling=0.0)
    call(tracer).end("OK", "")
    call(tracer, CALLER_UNSAMPLED).end("OK", "")
    call(tracer, CALLER).end("OK", "")
    assert call(tracer).context().sampled is False
    tracer.close()

    assert [ids(span)[0] for span in exporter.get_finished_spans()] == [CALLER.split("-")[1]]


def test_the_standard_variables_count(make, exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=theirs,deployment=test")
    call(make(), CALLER).end("OK", "")
    seen = make(sampling=1.0)
    call(seen).end("OK", "")
    seen.close()

    (span,) = exporter.get_finished_spans()
    assert (span.resource.attributes["service.name"], span.resource.attributes["deployment"]) == ("theirs", "test")


def test_a_switched_off_library_costs_a_job_nothing(make, exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    tracer = make()
    span = call(tracer)
    assert span.context() is None
    span.end("OK", "")
    tracer.close()

    assert exporter.get_finished_spans() == ()


def test_a_job_is_a_tree_below_the_call_that_set_it_off(make, exporter) -> None:
    tracer = make()
    tracer.ended(replace(JOB, trace=TRACE), SEEN)
    tracer.ended(JOB, SEEN)
    tracer.close()

    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"job", "dispatch", "attempt", "stage", "program", "collect", "commit"}
    assert {ids(span)[0] for span in spans.values()} == {TRACE.trace_id}
    assert ids(spans["job"])[2] == TRACE.span_id
    assert ids(spans["program"])[2] == ids(spans["attempt"])[1]
    assert spans["job"].start_time == int(JOB.executed_at.timestamp()) * 10**9
    assert spans["program"].start_time == int(SEEN.started.at.timestamp() * 10) * 10**8


def test_a_job_whose_trace_is_not_recorded_sends_nothing(make, exporter) -> None:
    tracer = make()
    tracer.ended(replace(JOB, trace=replace(TRACE, sampled=False)), SEEN)
    tracer.close()

    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("endpoint", ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"])
def test_the_endpoint_is_a_base_url(endpoint: str) -> None:
    assert traces._url(endpoint) == "http://c:4318/v1/traces"
    assert traces._url("") is None


def test_a_collector_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    class Hanging(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            released.wait()
            return SpanExportResult.FAILURE

    monkeypatch.setattr(traces, "CLOSE_S", 0.05)
    tracer = OtelTracer(TraceSettings(), Hanging())
    call(tracer).end("OK", "")

    tracer.close()
    released.set()


async def test_jobs_keep_the_trace_of_the_call_that_executed_them(make, exporter, tmp_path: Path) -> None:
    tracer = make()
    world = await World(tmp_path, tracer=tracer).open()
    create = call(tracer)
    traced.begin(create)
    submitted = await world.jobs.create(WHO, PROJECT, a_spec(), "job", "", "", None)
    create.end("OK", "")
    execute = call(tracer)
    traced.begin(execute)
    await world.jobs.execute(WHO, submitted.job_id)
    execute.end("OK", "")
    job = await world.store.get_job(submitted.job_id)
    assert (job.trace, job.executed_at) == (execute.context(), world.clock.now())
    job = await world.reconcile(job)
    await world.runner.become(attempt(job), Started(world.clock.now()))
    await world.ends(job)
    await world.reconcile(job)
    tracer.close()

    spans = exporter.get_finished_spans()
    assert {ids(span)[0] for span in spans} == {create.context().trace_id}
    assert [ids(span)[2] for span in spans if span.name == "job"] == [execute.context().span_id]


def test_what_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "jobsphere.traces")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(FailedPreconditionError, match=r"opentelemetry.* install jobsphere\[otel\]"):
        tracer_of(Settings(traces=True), contextlib.AsyncExitStack())


def test_without_the_setting_the_library_is_not_imported() -> None:
    code = (
        "import sys, contextlib; from jobsphere.config import Settings; import jobsphere.wiring.server;"
        "from jobsphere.wiring import parts;"
        "t = parts.tracer_of(Settings(), contextlib.AsyncExitStack()); assert t is parts.UNTRACED;"
        "assert not [m for m in sys.modules if m.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
