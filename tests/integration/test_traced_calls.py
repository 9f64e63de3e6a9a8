"""Real calls over gRPC and the spans that they leave."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from api_calls import AUTH, failed
from api_fakes import JOB, Fakes
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id
from structlog.testing import capture_logs
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2_grpc import ProjectJobServiceStub

from jobsphere.api.server import GrpcServer
from jobsphere.domain.errors import NotFoundError
from jobsphere.service import call_facts
from jobsphere.traces import OtelTracer, TraceSettings

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Iterator[OtelTracer]:
    made = OtelTracer(TraceSettings(sampling=1.0), exporter)
    yield made
    made.close()


async def test_each_call_is_a_span_below_its_callers(
    fakes: Fakes, tracer: OtelTracer, exporter: InMemorySpanExporter
) -> None:
    server = GrpcServer(fakes.services(), tracer=tracer)
    port = await server.start("127.0.0.1", 0, None)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        jobs = ProjectJobServiceStub(channel)
        await jobs.Get(pb.GetProjectJobRequest(job_id=JOB.id), metadata=(*AUTH, ("traceparent", CALLER)))
        async for _ in jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id=JOB.id), metadata=AUTH):
            break
        fakes.recorder.error = NotFoundError("there is no such job")
        error = await failed(jobs.Cancel(pb.CancelProjectJobRequest(job_id="words of a user"), metadata=AUTH))
    await server.stop(1)
    tracer.close()

    spans = {span.name.rpartition("/")[2]: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"Get", "ReadLogs", "Cancel"}
    _, trace_id, caller, _ = CALLER.split("-")
    assert (format_trace_id(spans["Get"].context.trace_id), format_span_id(spans["Get"].parent.span_id)) == (
        trace_id,
        caller,
    )
    assert spans["Get"].attributes["jobsphere.job.id"] == JOB.id
    told = dict(error.initial_metadata())
    assert dict(spans["Cancel"].attributes) == {
        "rpc.system.name": "grpc",
        "rpc.method": "yandex.cloud.datasphere.v2.jobs.ProjectJobService/Cancel",
        "rpc.response.status_code": "NOT_FOUND",
        "jobsphere.request_id": told["x-request-id"],
    }


async def test_a_quick_call_that_fails_tells_one_id_to_its_caller_and_the_log(
    fakes: Fakes, channel: grpc.aio.Channel
) -> None:
    seen: list[dict[str, str]] = []

    async def get_view(*_: object) -> bytes:
        seen.append(dict(call_facts.current()))
        raise NotFoundError("there is no such job")

    fakes.jobs.get_view = get_view  # type: ignore[method-assign]
    with capture_logs() as lines:
        error = await failed(ProjectJobServiceStub(channel).Get(pb.GetProjectJobRequest(job_id=JOB.id), metadata=AUTH))

    request_id = dict(error.initial_metadata())["x-request-id"]
    assert seen == [{"request_id": request_id, "job": JOB.id}]
    assert [line["request_id"] for line in lines] == [request_id]
    assert call_facts.current() == {}
