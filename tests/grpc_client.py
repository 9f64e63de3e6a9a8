"""A plain client of the published API: for what the vendor's CLI does not wire, and for looking closely."""

from __future__ import annotations

import hashlib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2_grpc import ProjectJobServiceStub
from yandex.cloud.operation.operation_pb2 import Operation
from yandex.cloud.operation.operation_service_pb2 import GetOperationRequest
from yandex.cloud.operation.operation_service_pb2_grpc import OperationServiceStub

from tests.live import HANG_S, LiveServer, wait_for

T = TypeVar("T")
TERMINAL = {pb.SUCCESS, pb.ERROR, pb.CANCELLED}
_RETRY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_SOON_AGAIN = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200))
_ITS_OWN = (("grpc.use_local_subchannel_pool", 1),)
_RETRY_HTTP = {503}


def file_of(path: str, content: bytes, var: str = "", compression: int = pb.NONE) -> pb.File:
    """The description of a file with this content."""
    return pb.File(
        desc=pb.FileDesc(path=path, var=var),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        compression_type=compression,  # pyright: ignore[reportArgumentType]
    )


class Api:
    """Calls of the API over TLS by a connection of its own, with the retries that the vendor's channel has."""

    def __init__(self, port: int, ca: Path, token: str = "", retry: bool = True, host: str = "127.0.0.1") -> None:
        credentials = grpc.ssl_channel_credentials(ca.read_bytes())
        self.channel = grpc.secure_channel(f"{host}:{port}", credentials, (*_SOON_AGAIN, *_ITS_OWN))
        self.jobs = ProjectJobServiceStub(self.channel)
        self.operations = OperationServiceStub(self.channel)
        self.metadata = [("authorization", f"Bearer {token}")] if token else []
        self._retry = retry
        self.retried = set(_RETRY)
        """The codes after which a call is repeated; ``told`` has the words of those that were."""
        self.retried_http = set(_RETRY_HTTP)
        self.told: list[str] = []

    @classmethod
    def of(cls, server: LiveServer) -> Api:
        """A client of a running server."""
        return cls(server.ports["grpc"], server.shared / "tls" / "ca.pem")

    def close(self) -> None:
        self.channel.close()

    def call(self, method: Callable[..., T], request: Any) -> T:
        """One call, repeated while the server is away."""
        until = time.monotonic() + HANG_S
        while True:
            try:
                return method(request, metadata=self.metadata, timeout=HANG_S)
            except grpc.RpcError as e:
                code = e.code()  # pyright: ignore[reportAttributeAccessIssue]
                if not self._retry or code not in self.retried or time.monotonic() > until:
                    raise
                self.told.append(f"{code.name}: {e.details()}")  # pyright: ignore[reportAttributeAccessIssue]
                time.sleep(0.05)

    def create(
        self,
        project: str,
        cmd: str,
        files: Mapping[str, bytes] | None = None,
        *,
        upload: bool = True,
        name: str = "job",
        **more: Any,
    ) -> str:
        """A new job with its inputs uploaded: its id."""
        contents = files or {}
        inputs = [file_of(path, content) for path, content in contents.items()]
        parameters = pb.JobParameters(
            cmd=cmd, input_files=inputs, cloud_instance_types=[pb.CloudInstanceType(name="c1.4")], **more
        )
        request = service_pb.CreateProjectJobRequest(
            project_id=project, job_parameters=parameters, name=name, data_ttl=Duration(seconds=86400)
        )
        response = service_pb.CreateProjectJobResponse()
        self.call(self.jobs.Create, request).response.Unpack(response)
        if upload:
            for stored in response.upload_files:
                self.put(stored.url, contents[stored.file.desc.path])
        return response.job_id

    def put(self, url: str, content: bytes) -> None:
        """One upload, repeated while the server is away."""

        def sent() -> bool:
            try:
                with urllib.request.urlopen(urllib.request.Request(url, content, method="PUT"), timeout=HANG_S):
                    return True
            except ConnectionError:
                return False
            except urllib.error.URLError as e:
                if isinstance(e, urllib.error.HTTPError):
                    if e.code not in self.retried_http:
                        raise
                    self.told.append(f"{e.code}: {e.read().decode()}")
                return False

        wait_for(sent, "the file is uploaded")

    def execute(self, job_id: str) -> Operation:
        return self.call(self.jobs.Execute, service_pb.ExecuteProjectJobRequest(job_id=job_id))

    def cancel(self, job_id: str, graceful: bool = False, reason: str = "") -> None:
        self.call(self.jobs.Cancel, service_pb.CancelProjectJobRequest(job_id=job_id, graceful=graceful, reason=reason))

    def get(self, job_id: str) -> pb.Job:
        return self.call(self.jobs.Get, service_pb.GetProjectJobRequest(job_id=job_id))

    def operation(self, operation_id: str) -> Operation:
        return self.call(self.operations.Get, GetOperationRequest(operation_id=operation_id))

    def wait(self, job_id: str, *statuses: int) -> pb.Job:
        """The job, once it is in one of ``statuses`` (by default: ended)."""
        wanted = set(statuses) or TERMINAL
        return wait_for(
            lambda: job if (job := self.get(job_id)).status in wanted else None, f"{job_id} is in one of {wanted}"
        )

    def logs(self, job_id: str, offset: int = 0) -> list[service_pb.LogMessage]:
        """All log messages to the end of the stream."""
        request = service_pb.ReadProjectJobLogsRequest(job_id=job_id, offset=offset)
        stream = self.jobs.ReadLogs(request, metadata=self.metadata, timeout=HANG_S)
        return [log for response in stream for log in response.logs]

    def stdout(self, job_id: str) -> bytes:
        """The program's stdout, as the log stream has it."""
        out = service_pb.StandardStream.OUT
        return b"".join(
            m.content for m in self.logs(job_id) if m.HasField("standard_stream") and m.standard_stream == out
        )

    def download(self, job_id: str, files: Sequence[pb.File]) -> dict[str, bytes]:
        """Contents by path."""
        request = service_pb.DownloadProjectJobFilesRequest(job_id=job_id, files=files)
        found: dict[str, bytes] = {}
        for stored in self.call(self.jobs.DownloadJobFiles, request).download_files:
            with urllib.request.urlopen(stored.url, timeout=HANG_S) as response:
                found[stored.file.desc.path] = response.read()
        return found
