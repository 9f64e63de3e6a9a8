"""What a client knows of a job, its files, its log and its end: plain values, read from the API's messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.rpc import code_pb2
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.client.failure import JobFailedError
from jobsphere.domain.job import JobStatus

STDOUT, STDERR = "stdout", "stderr"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file of a job.

    ``kind`` is ``input``, ``output``, ``log`` or ``diagnostic``; ``path`` as the config names it; ``size`` in bytes, of
    the archive for a folder.
    """

    kind: str
    path: str
    var: str
    size: int
    sha256: str
    is_folder: bool


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job as it was when it was asked for."""

    id: str
    name: str
    description: str
    status: JobStatus
    details: str
    instance_type: str
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    created_by: str
    parent_id: str
    cmd: str
    files: tuple[FileFacts, ...]

    @property
    def duration(self) -> timedelta | None:
        """How long it has run; None before it started."""
        if self.started_at is None:
            return None
        return (self.finished_at or datetime.now(UTC)) - self.started_at

    @property
    def took(self) -> str:
        """The duration for people, in whole seconds; empty before it started."""
        return str(timedelta(seconds=int(self.duration.total_seconds()))) if self.duration else ""


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A piece of a job's log, whole lines where the program writes lines.

    ``source`` is ``stdout``, ``stderr``, or the path of a file such as ``.system.log``.
    """

    source: str
    content: bytes
    time: datetime

    @property
    def text(self) -> str:
        """The content without the last line's end."""
        return self.content.decode(errors="replace").rstrip("\n")


@dataclass(frozen=True, slots=True)
class Result:
    """The end of a job. ``return_code`` is None if the program did not come to its own end."""

    job_id: str
    status: JobStatus
    return_code: int | None
    details: str
    missing_outputs: tuple[str, ...]
    datasets: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether it ended with success."""
        return self.status is JobStatus.SUCCESS

    def check(self) -> Result:
        """Itself, if the job ended with success.

        Raises:
            JobFailedError: it did not; why.
        """
        if not self.ok:
            raise JobFailedError(self.details or f"job {self.job_id} ended as {self.status}", self.return_code)
        return self


def job_facts(job: Any) -> JobFacts:
    """Of the API's ``Job``."""
    files = (
        *_files("input", job.job_parameters.input_files),
        *_files("output", job.output_files),
        *_files("log", job.log_files),
        *_files("diagnostic", job.diagnostic_files),
    )
    return JobFacts(
        id=job.id,
        name=job.name,
        description=job.desc,
        status=status_of(job.status),
        details=job.status_details,
        instance_type=job.actual_cloud_instance_type.name,
        created_at=_time(job, "created_at"),
        started_at=_time(job, "started_at"),
        finished_at=_time(job, "finished_at"),
        created_by=job.created_by_id,
        parent_id=job.parent_job_id,
        cmd=job.job_parameters.cmd,
        files=files,
    )


def status_of(number: int) -> JobStatus:
    """The status of this number in the API."""
    return JobStatus(pb.JobStatus.Name(number))  # pyright: ignore[reportArgumentType]


def log_message(message: Any) -> LogMessage:
    """Of the API's ``LogMessage``."""
    source = message.file_path
    if message.HasField("standard_stream"):
        source = STDERR if message.standard_stream == service_pb.StandardStream.ERR else STDOUT
    return LogMessage(source, message.content, message.created_at.ToDatetime(UTC))


def result_of(job: JobFacts, operation: Operation) -> Result:
    """Of a job that has ended and its operation."""
    response = service_pb.ExecuteProjectJobResponse()
    if operation.HasField("error"):
        code = code_pb2.Code.Name(operation.error.code)
        return Result(job.id, job.status, None, operation.error.message or job.details or code, (), ())
    operation.response.Unpack(response)
    code = response.result.return_code
    details = job.details or (f"the program returned code {code}" if code else "")
    return Result(
        job.id,
        job.status,
        code,
        details,
        tuple(f"{one.output_file_desc.path}: {one.description}" for one in response.output_files_errors),
        tuple(one.id for one in response.output_datasets),
    )


def _files(kind: str, files: Sequence[Any]) -> Iterator[FileFacts]:
    for file in files:
        yield FileFacts(
            kind, file.desc.path, file.desc.var, file.size_bytes, file.sha256, file.compression_type == pb.ZIP
        )


def _time(job: Any, name: str) -> datetime | None:
    return getattr(job, name).ToDatetime(UTC) if job.HasField(name) else None
