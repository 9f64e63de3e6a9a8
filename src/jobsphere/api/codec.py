"""Job and what belongs to it: domain values to published messages.

Optional parts are set only when there is something to tell: a job that was not started has no ``started_at``, one whose
data never expires no ``data_expires_at``.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from google.protobuf.message import Message
from yandex.cloud.datasphere.v2.jobs import jobs_pb2

from jobsphere.api.spec_codec import (
    decode_files,
    decode_spec,
    encode_dataset_desc,
    encode_desc,
    encode_file,
    encode_files,
    encode_spec,
)
from jobsphere.api.wire import enum_numbers, timestamp
from jobsphere.domain.artifact import FileError
from jobsphere.domain.job import Job, OutputDataset, Progress
from jobsphere.service.artifacts import StoredFile

__all__ = [
    "decode_files",
    "decode_spec",
    "encode_file_error",
    "encode_job",
    "encode_output_dataset",
    "encode_spec",
    "encode_stored_files",
    "job_message",
    "job_metadata",
    "job_progress",
]

_STATUSES = enum_numbers(jobs_pb2.DESCRIPTOR.enum_types_by_name["JobStatus"])
_ERROR_TYPES = enum_numbers(jobs_pb2.FileUploadError.DESCRIPTOR.enum_types_by_name["ErrorType"])


def encode_job(job: Job) -> bytes:
    """The bytes of the published Job: made once when a job is stored, and sent as they are. Equal jobs, equal bytes."""
    return job_message(job).SerializeToString(deterministic=True)


def job_message(job: Job) -> jobs_pb2.Job:
    """The published Job."""
    message = jobs_pb2.Job(
        id=job.id,
        name=job.name,
        desc=job.desc,
        config=job.config,
        created_by_id=job.created_by_id,
        project_id=job.project_id,
        job_parameters=encode_spec(job.spec),
        data_cleared=job.data_cleared,
        output_files=encode_files(job.artifacts.outputs),
        log_files=encode_files(job.artifacts.logs),
        diagnostic_files=encode_files(job.artifacts.diagnostics),
        data_size_bytes=job.data_size_bytes,
        status_details=job.status_details,
        parent_job_id=job.parent_job_id,
        file_errors=[encode_file_error(e) for e in job.artifacts.errors],
        output_datasets=[encode_output_dataset(d) for d in job.output_datasets],
    )
    message.status = _STATUSES[job.status]  # pyright: ignore[reportAttributeAccessIssue]
    if job.actual_instance_type:
        message.actual_cloud_instance_type.name = job.actual_instance_type
    _set_times(message, job)
    return message


def job_metadata(job: Job) -> jobs_pb2.JobMetadata:
    """The short form of a job that stands in the metadata of its operation."""
    message = jobs_pb2.JobMetadata(
        id=job.id,
        name=job.name,
        description=job.desc,
        status_details=job.status_details,
        created_by_id=job.created_by_id,
        project_id=job.project_id,
        parent_job_id=job.parent_job_id,
    )
    message.status = _STATUSES[job.status]  # pyright: ignore[reportAttributeAccessIssue]
    _set_times(message, job)
    return message


def job_progress(progress: Progress) -> jobs_pb2.JobProgress:
    """How far the job is."""
    return jobs_pb2.JobProgress(message=progress.message, progress=progress.percent, create_time=timestamp(progress.at))


def encode_file_error(error: FileError) -> jobs_pb2.FileUploadError:
    """The published form of a file that could not be collected."""
    message = jobs_pb2.FileUploadError(description=error.description)
    message.type = _ERROR_TYPES[error.type]  # pyright: ignore[reportAttributeAccessIssue]
    if error.desc is not None:
        message.output_file_desc.CopyFrom(encode_desc(error.desc))
    elif error.log_file_name:
        message.log_file_name = error.log_file_name
    return message


def encode_output_dataset(dataset: OutputDataset) -> jobs_pb2.OutputDataset:
    """The published form of a dataset that a job made."""
    return jobs_pb2.OutputDataset(desc=encode_dataset_desc(dataset.desc), id=dataset.id)


def encode_stored_files(files: Iterable[StoredFile]) -> list[jobs_pb2.StorageFile]:
    """Files with the URLs to bring or fetch them."""
    return [jobs_pb2.StorageFile(file=encode_file(f.file), url=f.url) for f in files]


def _set_times(message: Message, job: Job) -> None:
    """Set the four times that Job and JobMetadata have in common."""
    times: dict[str, datetime | None] = {
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "data_expires_at": job.data_expires_at,
    }
    for name, moment in times.items():
        if moment is not None:
            getattr(message, name).CopyFrom(timestamp(moment))
