"""The API over a real TLS port, with use cases that answer from memory."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from api_calls import AUTH, HANG_S, execute, failed, get
from api_fakes import JOB, NOON, PROJECT, TOKEN, UPLOAD, Fakes
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs
from yandex.cloud.datasphere.v2 import project_service_pb2 as projects_pb
from yandex.cloud.datasphere.v2 import project_service_pb2_grpc as projects_grpc
from yandex.cloud.datasphere.v2.jobs import jobs_pb2
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2_grpc import ProjectJobServiceStub
from yandex.cloud.endpoint import api_endpoint_service_pb2 as endpoints_pb
from yandex.cloud.endpoint import api_endpoint_service_pb2_grpc as endpoints_grpc
from yandex.cloud.iam.v1 import iam_token_service_pb2 as iam_pb
from yandex.cloud.iam.v1 import iam_token_service_pb2_grpc as iam_grpc
from yandex.cloud.operation import operation_service_pb2 as operations_pb
from yandex.cloud.operation import operation_service_pb2_grpc as operations_grpc

from jobsphere.api.codec import encode_job
from jobsphere.api.server import GrpcServer
from jobsphere.api.tls import TlsFiles
from jobsphere.domain import errors
from jobsphere.domain.artifact import File, FileDesc
from jobsphere.domain.job import GracefulShutdown, JobSpec
from jobsphere.domain.ports import JobView

FILE = jobs_pb2.File(desc=jobs_pb2.FileDesc(path="stdout.txt"), sha256="f" * 64, compression_type=jobs_pb2.NONE)


SPEC = jobs_pb2.JobParameters(
    cmd="run", graceful_shutdown_parameters=jobs_pb2.GracefulShutdownParameters(timeout=Duration(seconds=3))
)
DOMAIN_SPEC = JobSpec(cmd="run", graceful_shutdown=GracefulShutdown(timeout_s=3.0))
DAY = Duration(seconds=86400)


@pytest.mark.parametrize(
    ("method", "request_", "expected"),
    [
        (
            "Create",
            pb.CreateProjectJobRequest(
                project_id="p", job_parameters=SPEC, config="yaml", name="n", desc="d", data_ttl=DAY
            ),
            ("create", "alice", "p", DOMAIN_SPEC, "n", "d", "yaml", timedelta(days=1)),
        ),
        (
            "Create",
            pb.CreateProjectJobRequest(project_id="p"),
            ("create", "alice", "p", JobSpec(cmd=""), "", "", "", None),
        ),
        (
            "Clone",
            pb.CloneProjectJobRequest(source_job_id="j", job_parameters_overrides=SPEC, name="n", desc="d"),
            ("clone", "alice", "j", DOMAIN_SPEC, "n", "d", None),
        ),
        ("Execute", pb.ExecuteProjectJobRequest(job_id="j"), ("execute", "alice", "j")),
        (
            "Cancel",
            pb.CancelProjectJobRequest(job_id="j", reason="why", graceful=True),
            ("cancel", "alice", "j", "why", True),
        ),
        (
            "DownloadJobFiles",
            pb.DownloadProjectJobFilesRequest(job_id="j", files=[FILE]),
            ("downloads", "alice", "j", (File(FileDesc("stdout.txt"), "f" * 64),)),
        ),
        (
            "DownloadJobFiles",
            pb.DownloadProjectJobFilesRequest(job_id="j"),
            ("downloads", "alice", "j", ()),
        ),
        (
            "List",
            pb.ListProjectJobRequest(project_id="p", filter="status IN (ERROR)", page_size=7, page_token="0"),
            ("page", "alice", "p", "status IN (ERROR)", 7, "0"),
        ),
        ("Get", pb.GetProjectJobRequest(job_id="j"), ("get_view", "alice", "j")),
        ("Delete", pb.DeleteProjectJobRequest(job_id="j"), ("delete", "alice", "j")),
        ("DeleteData", pb.DeleteProjectJobDataRequest(job_id="j"), ("delete_data", "alice", "j")),
        ("DeleteAllData", pb.DeleteAllProjectJobDataRequest(project_id="p"), ("delete_all_data", "alice", "p")),
        ("SetDataTtl", pb.SetProjectJobDataTtlRequest(job_id="j", ttl=DAY), ("set_ttl", "alice", "j", DAY)),
        ("SetDataTtl", pb.SetProjectJobDataTtlRequest(job_id="j"), ("set_ttl", "alice", "j", None)),
    ],
)
async def test_each_method_makes_its_one_call(
    jobs: Any, fakes: Fakes, method: str, request_: Message, expected: tuple[Any, ...]
) -> None:
    await getattr(jobs, method)(request_, metadata=AUTH)
    plain = tuple(a.ToTimedelta() if isinstance(a, Duration) else a for a in expected)
    assert fakes.recorder.calls == [plain]


async def test_every_published_method_of_jobs_is_served(jobs: Any, channel: grpc.aio.Channel) -> None:
    for method in pb.DESCRIPTOR.services_by_name["ProjectJobService"].methods:
        call = channel.unary_stream(f"/{method.containing_service.full_name}/{method.name}")(b"")
        assert await call.code() is grpc.StatusCode.UNAUTHENTICATED, method.name


async def test_what_nobody_known_sends_is_not_even_decoded(channel: grpc.aio.Channel) -> None:
    damaged = channel.unary_unary("/yandex.cloud.datasphere.v2.jobs.ProjectJobService/Get")
    assert (await failed(damaged(b"\xff"))).code() is grpc.StatusCode.UNAUTHENTICATED
    error = await failed(damaged(b"\xff", metadata=AUTH))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "GetProjectJobRequest" in (error.details() or "")


async def test_create_answers_a_done_operation_with_uploads(jobs: Any) -> None:
    operation = await jobs.Create(pb.CreateProjectJobRequest(), metadata=AUTH)
    told = pb.CreateProjectJobResponse()
    assert operation.done
    assert operation.response.Unpack(told)
    assert (told.job_id, told.upload_files[0].url) == (JOB.id, UPLOAD.url)


async def test_get_sends_the_stored_bytes_as_they_are(channel: grpc.aio.Channel, fakes: Fakes) -> None:
    raw = channel.unary_unary(f"/{pb.DESCRIPTOR.package}.ProjectJobService/Get")
    assert await raw(b"", metadata=AUTH) == fakes.jobs.views[0].body


async def test_list_joins_the_stored_bytes(jobs: Any, fakes: Fakes) -> None:
    fakes.jobs.views = [view(f"job-{i}", "x" * 300 * i) for i in range(5)]
    page = await jobs.List(pb.ListProjectJobRequest(page_size=3), metadata=AUTH)
    assert [j.id for j in page.jobs] == ["job-0", "job-1", "job-2"]
    assert [len(j.config) for j in page.jobs] == [0, 300, 600]
    assert page.next_page_token == "3"


async def test_pages_of_big_jobs_stay_below_the_clients_limit(jobs: Any, fakes: Fakes) -> None:
    fakes.jobs.views = [view(f"job-{i}", "x" * (1 << 20)) for i in range(7)]
    ids, token = [], ""
    while True:
        page = await jobs.List(pb.ListProjectJobRequest(page_size=50, page_token=token), metadata=AUTH)
        ids += [j.id for j in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert ids == [f"job-{i}" for i in range(7)]


def view(job_id: str, config: str) -> JobView:
    return JobView(PROJECT.id, encode_job(replace(JOB, id=job_id, config=config)))


async def test_operations_are_read_and_cancelled(channel: grpc.aio.Channel, fakes: Fakes) -> None:
    stub: Any = operations_grpc.OperationServiceStub(channel)
    told = await stub.Get(operations_pb.GetOperationRequest(operation_id="o"), metadata=AUTH)
    assert (told.id, told.done) == ("o-execute", False)
    await stub.Cancel(operations_pb.CancelOperationRequest(operation_id="o"), metadata=AUTH)
    assert fakes.recorder.calls == [("operation", "alice", "o"), ("cancel operation", "alice", "o")]


async def test_projects_are_read(channel: grpc.aio.Channel, fakes: Fakes) -> None:
    stub: Any = projects_grpc.ProjectServiceStub(channel)
    project = await stub.Get(projects_pb.GetProjectRequest(project_id=PROJECT.id), metadata=AUTH)
    assert (project.id, project.name, project.community_id) == (PROJECT.id, PROJECT.name, PROJECT.community_id)
    asked = projects_pb.ListProjectsRequest(
        community_id="c", page_size=5, page_token="t", project_name_pattern="x*", owned_by_id="bob"
    )
    page = await stub.List(asked, metadata=AUTH)
    assert [p.id for p in page.projects] == [PROJECT.id]
    assert fakes.recorder.calls[-1] == ("projects", "alice", "c", 5, "t", "x*", "bob")


async def test_tokens_are_given_without_one(channel: grpc.aio.Channel) -> None:
    stub: Any = iam_grpc.IamTokenServiceStub(channel)
    told = await stub.Create(iam_pb.CreateIamTokenRequest(yandex_passport_oauth_token="long"))
    assert (told.iam_token, told.expires_at.ToDatetime(tzinfo=NOON.tzinfo)) == ("oauth:long", NOON)
    assert (await stub.Create(iam_pb.CreateIamTokenRequest(jwt="x"))).iam_token == "jwt:x"
    assert (await failed(stub.Create(iam_pb.CreateIamTokenRequest()))).code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_endpoints_lead_back_here_without_a_token(channel: grpc.aio.Channel, port: int) -> None:
    stub: Any = endpoints_grpc.ApiEndpointServiceStub(channel)
    told = await stub.List(endpoints_pb.ListApiEndpointsRequest())
    here = f"127.0.0.1:{port}"
    assert {e.id: e.address for e in told.endpoints} == {"datasphere": here, "iam": here, "operation": here}
    assert (await stub.Get(endpoints_pb.GetApiEndpointRequest(api_endpoint_id="iam"))).address == here
    missing = await failed(stub.Get(endpoints_pb.GetApiEndpointRequest(api_endpoint_id="compute")))
    assert missing.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),)])
async def test_a_call_without_a_good_token_is_refused(jobs: Any, fakes: Fakes, metadata: Any) -> None:
    error = await failed(jobs.Get(pb.GetProjectJobRequest(), metadata=metadata))
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAUTHENTICATED, "no valid token")
    assert fakes.recorder.calls == []


async def test_a_stream_without_a_good_token_is_refused(jobs: Any) -> None:
    call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest())
    assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFoundError, "NOT_FOUND"),
        (errors.InvalidArgumentError, "INVALID_ARGUMENT"),
        (errors.FailedPreconditionError, "FAILED_PRECONDITION"),
        (errors.UnsupportedError, "UNIMPLEMENTED"),
        (errors.PermissionDeniedError, "PERMISSION_DENIED"),
        (errors.AlreadyExistsError, "ALREADY_EXISTS"),
        (errors.ResourceExhaustedError, "RESOURCE_EXHAUSTED"),
        (errors.CorruptedError, "DATA_LOSS"),
    ],
)
async def test_an_error_becomes_its_status_and_one_line_of_log(
    jobs: Any, fakes: Fakes, error: type[errors.JobsphereError], code: str
) -> None:
    fakes.recorder.error = error("the public sentence", disk="/dev/sda")
    with capture_logs() as lines:
        told = await failed(get(jobs))
    assert (told.code().name, told.details()) == (code, "the public sentence")
    (line,) = [x for x in lines if x["event"] == "call failed"]
    assert line["code"] == code
    assert line["method"].endswith("ProjectJobService/Get")
    assert line["subject"] == "alice"
    assert line["context"] == {"disk": "/dev/sda"}
    assert line["request_id"] == dict(told.initial_metadata())["x-request-id"]
    assert TOKEN not in str(lines)


async def test_an_unexpected_error_tells_a_reference_and_keeps_the_traceback(jobs: Any, fakes: Fakes) -> None:
    fakes.recorder.error = ZeroDivisionError("inner detail")
    with capture_logs() as lines:
        told = await failed(get(jobs))
    reference = dict(told.initial_metadata())["x-request-id"]
    assert (told.code(), told.details()) == (grpc.StatusCode.INTERNAL, f"internal error, reference {reference}")
    (line,) = lines
    assert (line["log_level"], line["request_id"]) == ("error", reference)
    assert line["exc_info"] is fakes.recorder.error


@pytest.mark.parametrize("text", ["x" * 100_000, "ü" * 50_000])
async def test_a_very_long_sentence_still_arrives(jobs: Any, fakes: Fakes, text: str) -> None:
    fakes.recorder.error = errors.InvalidArgumentError(text)
    told = await failed(get(jobs))
    assert told.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(told.details()).startswith(text[:900])


async def test_calls_that_change_things_tell_their_ids(jobs: Any) -> None:
    call = jobs.Execute(pb.ExecuteProjectJobRequest(), metadata=AUTH)
    await call
    told = dict(await call.initial_metadata())
    assert told["x-request-id"] == told["x-server-trace-id"]
    assert len(told["x-request-id"]) == 36


@pytest.fixture
async def retrying(port: int, tls: TlsFiles) -> AsyncIterator[Any]:
    """Calls as the vendor's client makes them, which tries again what is UNAVAILABLE or CANCELLED; only sooner."""
    policy = {"maxAttempts": 3, "initialBackoff": "0.05s", "maxBackoff": "0.05s", "backoffMultiplier": 1.0}
    policy |= {"retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"]}
    service = {"service": pb.DESCRIPTOR.services_by_name["ProjectJobService"].full_name}
    config = json.dumps({"methodConfig": [{"name": [service], "retryPolicy": policy}]})
    options = (("grpc.enable_http_proxy", 0), ("grpc.service_config", config))
    credentials = grpc.ssl_channel_credentials(tls.ca_pem.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield ProjectJobServiceStub(channel)


@pytest.mark.parametrize("call", [get, execute])
async def test_what_is_unavailable_is_tried_again_and_tells_its_ids_all_the_same(
    retrying: Any, fakes: Fakes, call: Callable[[Any], Any]
) -> None:
    fakes.recorder.error = errors.UnavailableError("the bucket is away")
    with capture_logs() as lines:
        told = await failed(call(retrying))
    assert (told.code(), told.details()) == (grpc.StatusCode.UNAVAILABLE, "the bucket is away")
    logged = [line["request_id"] for line in lines if line["event"] == "call failed"]
    assert len(fakes.recorder.calls) == len(logged) == 3
    assert logged[-1] == dict(told.trailing_metadata())["x-request-id"]


async def test_a_call_in_a_server_that_goes_away_is_answered_by_the_next_one(
    retrying: Any, fakes: Fakes, server: GrpcServer, port: int, tls: TlsFiles
) -> None:
    fakes.jobs.executed = asyncio.Event()
    call = asyncio.ensure_future(execute(retrying))
    async with asyncio.timeout(HANG_S):
        while not fakes.recorder.calls:  # noqa: ASYNC110 - a call tells nobody
            await asyncio.sleep(0.005)
        await server.stop(0)
        fakes.jobs.executed = None
        next_one = GrpcServer(fakes.services())
        await next_one.start("127.0.0.1", port, tls)
        try:
            assert (await call).id
        finally:
            await next_one.stop(0)
    assert fakes.recorder.calls == [("execute", "alice", JOB.id)] * 2


async def test_a_method_that_is_missing_is_named(channel: grpc.aio.Channel) -> None:
    stub: Any = projects_grpc.ProjectServiceStub(channel)
    told = await failed(stub.Open(projects_pb.OpenProjectRequest(), metadata=AUTH))
    assert told.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "yandex.cloud.datasphere.v2.ProjectService.Open" in str(told.details())
    assert "no IDE" in str(told.details())
    assert "x-request-id" in dict(told.initial_metadata())


async def test_a_service_that_is_missing_is_named(channel: grpc.aio.Channel) -> None:
    call = channel.unary_unary("/yandex.cloud.datasphere.v2.NotebookService/Get")
    told = await failed(call(b"", metadata=AUTH))
    assert told.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "NotebookService.Get" in str(told.details())


async def test_health_and_reflection_need_no_token(channel: grpc.aio.Channel, server: GrpcServer) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    states = health_pb2.HealthCheckResponse
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == states.SERVING
    await server.set_serving(False)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == states.NOT_SERVING

    reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = [a async for a in reflection.ServerReflectionInfo(iter([asked]))]
    names = {s.name.rpartition(".")[2] for s in answers[0].list_services_response.service}
    assert names >= {"ProjectJobService", "OperationService", "ProjectService", "IamTokenService", "Health"}
    assert "ApiEndpointService" in names


async def test_a_taken_port_is_an_error_that_says_so(port: int, tls: TlsFiles) -> None:
    with pytest.raises(errors.UnavailableError, match=f"127.0.0.1:{port}"):
        await GrpcServer(Fakes().services()).start("127.0.0.1", port, tls)


async def test_plain_and_ipv6_ports_are_served() -> None:
    server = GrpcServer(Fakes().services())
    port = await server.start("::1", 0, None)
    async with grpc.aio.insecure_channel(f"[::1]:{port}", (("grpc.enable_http_proxy", 0),)) as channel:
        assert (await get(ProjectJobServiceStub(channel))).id == JOB.id
    await server.stop(0)


async def test_stop_lets_a_call_end_and_tells_that_it_is_about_to(
    jobs: Any, channel: grpc.aio.Channel, server: GrpcServer, fakes: Fakes
) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id="j"), metadata=AUTH)
    await call.read()
    stopping = asyncio.create_task(server.stop(HANG_S))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    fakes.logs.end.set()
    assert (await call.read()).offset == 60
    assert await call.code() is grpc.StatusCode.OK
    await stopping


async def test_stop_cuts_off_what_does_not_end_and_not_before_its_time(
    jobs: Any, server: GrpcServer, fakes: Fakes
) -> None:
    call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id="j"), metadata=AUTH)
    await call.read()
    loop = asyncio.get_running_loop()
    began = loop.time()
    await server.stop(0.3)
    assert loop.time() - began >= 0.3
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    async with asyncio.timeout(HANG_S):
        await fakes.logs.closed.wait()


async def test_the_certificate_names_the_vendors_hosts(port: int, tls: TlsFiles) -> None:
    context = ssl.create_default_context(cafile=str(tls.ca_pem))
    for host in ("datasphere.api.cloud.yandex.net", "compute.api.cloud.yandex.net", "localhost"):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
        writer.transport.abort()


def test_only_the_authoritys_public_file_is_public(tls: TlsFiles) -> None:
    modes = {p.name: p.stat().st_mode & 0o777 for p in Path(tls.ca_pem.parent).iterdir()}
    assert modes == {"ca.pem": 0o644, "ca-key.pem": 0o600, "server.pem": 0o600, ".lock": 0o600}


@pytest.mark.fault("slow-loris on every port")
@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
async def test_a_connection_that_never_comes_to_a_call_is_cut(fakes: Fakes, tls: TlsFiles, first: bytes) -> None:
    server = GrpcServer(fakes.services(), handshake_s=0.3)
    port = await server.start("127.0.0.1", 0, tls)
    context = ssl.create_default_context(cafile=str(tls.ca_pem)) if first.startswith(b"PRI") else None
    if context:
        context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None
    )
    writer.write(first)
    async with asyncio.timeout(HANG_S):
        while await reader.read(1000):
            pass
    writer.close()
    await server.stop(0)
