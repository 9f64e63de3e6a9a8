"""ProjectJobService: each method decodes, makes one service call, and encodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from google.protobuf.empty_pb2 import Empty
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.api.codec import decode_files, decode_spec, encode_stored_files
from jobsphere.api.logs import log_responses, std_log_responses
from jobsphere.api.operation_codec import encode_done, encode_status, encode_submitted
from jobsphere.api.registrar import Implementation
from jobsphere.api.wire import read_duration
from jobsphere.domain.ports import JobPage
from jobsphere.domain.resource import Subject
from jobsphere.service.jobs import Jobs
from jobsphere.service.logs import Logs

MAX_PAGE_BYTES = 3 << 20
"""A page stays below the 4 MiB that clients accept by default, however long the jobs' configs are."""


class ProjectJobService:
    """The published service of jobs."""

    def __init__(self, jobs: Jobs, logs: Logs) -> None:
        self._jobs = jobs
        self._logs = logs

    def implementation(self) -> Implementation:
        """All of its methods."""
        return Implementation(
            pb.DESCRIPTOR.services_by_name["ProjectJobService"],
            {
                "Create": self.create,
                "Clone": self.clone,
                "Execute": self.execute,
                "Cancel": self.cancel,
                "ReadStdLogs": self.read_std_logs,
                "ReadLogs": self.read_logs,
                "DownloadJobFiles": self.download_job_files,
                "List": self.list,
                "Get": self.get,
                "Delete": self.delete,
                "DeleteData": self.delete_data,
                "DeleteAllData": self.delete_all_data,
                "SetDataTtl": self.set_data_ttl,
            },
            quick=frozenset({"Get", "List"}),
        )

    async def create(self, who: Subject, request: pb.CreateProjectJobRequest) -> Operation:
        """Store a job; the operation is done."""
        spec = decode_spec(request.job_parameters)
        ttl = _ttl(request, "data_ttl")
        submitted = await self._jobs.create(
            who, request.project_id, spec, request.name, request.desc, request.config, ttl
        )
        return encode_submitted(submitted)

    async def clone(self, who: Subject, request: pb.CloneProjectJobRequest) -> Operation:
        """Store a fork of a job; the operation is done."""
        overrides = decode_spec(request.job_parameters_overrides)
        ttl = _ttl(request, "data_ttl")
        submitted = await self._jobs.clone(who, request.source_job_id, overrides, request.name, request.desc, ttl)
        return encode_submitted(submitted)

    async def execute(self, who: Subject, request: pb.ExecuteProjectJobRequest) -> Operation:
        """Start a job, or find its operation again."""
        return encode_status(await self._jobs.execute(who, request.job_id))

    async def cancel(self, who: Subject, request: pb.CancelProjectJobRequest) -> Empty:
        """Ask for the end of a job."""
        await self._jobs.cancel(who, request.job_id, request.reason, request.graceful)
        return Empty()

    def read_std_logs(
        self, who: Subject, request: pb.ReadProjectJobStdLogsRequest
    ) -> AsyncIterator[pb.ReadProjectJobStdLogsResponse]:
        """Follow the program's own output."""
        return std_log_responses(self._logs.stream(who, request.job_id, request.offset), request.offset)

    def read_logs(
        self, who: Subject, request: pb.ReadProjectJobLogsRequest
    ) -> AsyncIterator[pb.ReadProjectJobLogsResponse]:
        """Follow everything that is written about the job."""
        return log_responses(self._logs.stream(who, request.job_id, request.offset), request.offset)

    async def download_job_files(
        self, who: Subject, request: pb.DownloadProjectJobFilesRequest
    ) -> pb.DownloadProjectJobFilesResponse:
        """URLs for files of a job. No files asked for, none answered: clients do ask so."""
        files = await self._jobs.downloads(who, request.job_id, decode_files(request.files))
        return pb.DownloadProjectJobFilesResponse(download_files=encode_stored_files(files))

    async def list(self, who: Subject, request: pb.ListProjectJobRequest) -> bytes:
        """A page of jobs, put together from their stored bytes."""
        size = request.page_size
        while True:
            page = await self._jobs.page(who, request.project_id, request.filter, size, request.page_token)
            if len(page.views) <= 1 or sum(len(v.body) for v in page.views) <= MAX_PAGE_BYTES:
                return _list_response(page)
            size = len(page.views) // 2

    async def get(self, who: Subject, request: pb.GetProjectJobRequest) -> bytes:
        """The stored bytes of a job."""
        return await self._jobs.get_view(who, request.job_id)

    async def delete(self, who: Subject, request: pb.DeleteProjectJobRequest) -> Operation:
        """Delete a job; the operation is done."""
        return encode_done(await self._jobs.delete(who, request.job_id))

    async def delete_data(self, who: Subject, request: pb.DeleteProjectJobDataRequest) -> Operation:
        """Clear a job's data; the operation is done."""
        return encode_done(await self._jobs.delete_data(who, request.job_id))

    async def delete_all_data(self, who: Subject, request: pb.DeleteAllProjectJobDataRequest) -> Operation:
        """Clear the data of a project's jobs; the operation is done."""
        return encode_done(await self._jobs.delete_all_data(who, request.project_id))

    async def set_data_ttl(
        self, who: Subject, request: pb.SetProjectJobDataTtlRequest
    ) -> pb.SetProjectJobDataTtlResponse:
        """Set how long a job's data lives."""
        await self._jobs.set_ttl(who, request.job_id, _ttl(request, "ttl"))
        return pb.SetProjectJobDataTtlResponse()


_WithTtl = pb.CreateProjectJobRequest | pb.CloneProjectJobRequest | pb.SetProjectJobDataTtlRequest


def _ttl(request: _WithTtl, field: str) -> timedelta | None:
    """The time to live that a request names; None (for ever) if it names none."""
    named = request.HasField(field)  # pyright: ignore[reportArgumentType]
    return read_duration(field, getattr(request, field)) if named else None


def _list_response(page: JobPage) -> bytes:
    """The bytes of ListProjectJobResponse: every job's own bytes behind its tag and length."""
    parts: list[bytes] = []
    for view in page.views:
        parts += (_JOBS_TAG, _varint(len(view.body)), view.body)
    parts.append(pb.ListProjectJobResponse(next_page_token=page.next_token).SerializeToString())
    return b"".join(parts)


def _varint(number: int) -> bytes:
    """The base-128 form in which lengths and tags travel."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


_LENGTH_DELIMITED = 2
_JOBS_TAG = _varint(pb.ListProjectJobResponse.JOBS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED)
