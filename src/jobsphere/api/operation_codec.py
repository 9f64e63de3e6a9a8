"""Operations: domain values to the published Operation with its metadata and its result."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from yandex.cloud.datasphere.v2.jobs import jobs_pb2
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.operation.operation_pb2 import Operation as OperationMessage

from jobsphere.api.codec import (
    encode_file_error,
    encode_output_dataset,
    encode_stored_files,
    job_message,
    job_metadata,
    job_progress,
)
from jobsphere.api.team_codec import DESCRIPTIONS, team_metadata, team_response
from jobsphere.api.wire import timestamp
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.resource import Community, Project
from jobsphere.service.jobs import Submitted
from jobsphere.service.operations import OperationStatus

_DESCRIPTIONS = {
    OperationKind.CREATE: "Create project job",
    OperationKind.CLONE: "Clone project job",
    OperationKind.EXECUTE: "Execute project job",
    OperationKind.DELETE: "Delete project job",
    OperationKind.DELETE_DATA: "Delete data of project job",
    OperationKind.DELETE_ALL_DATA: "Delete data of all project jobs",
    OperationKind.ACTIVATE_DATASET: "Activate dataset",
    OperationKind.ACTIVATE_S3: "Activate S3",
    OperationKind.DEACTIVATE_S3: "Deactivate S3",
    OperationKind.ACTIVATE_IMAGE: "Activate Docker image",
} | DESCRIPTIONS
_OF_RESOURCES = (
    OperationKind.ACTIVATE_DATASET,
    OperationKind.ACTIVATE_S3,
    OperationKind.DEACTIVATE_S3,
    OperationKind.ACTIVATE_IMAGE,
)


def encode_submitted(submitted: Submitted) -> OperationMessage:
    """The done operation of Create or Clone, with the files that the client has yet to bring."""
    message = encode_done(submitted.operation)
    uploads = encode_stored_files(submitted.uploads)
    if submitted.operation.kind is OperationKind.CLONE:
        message.response.Pack(pb.CloneProjectJobResponse(job_id=submitted.job_id, upload_files=uploads))
    else:
        message.response.Pack(pb.CreateProjectJobResponse(job_id=submitted.job_id, upload_files=uploads))
    return message


def encode_done(operation: Operation, resource: Project | Community | None = None) -> OperationMessage:
    """An operation that was done when its call was answered."""
    return encode_status(OperationStatus(operation, operation.created_at, done=True, resource=resource))


def encode_status(status: OperationStatus) -> OperationMessage:
    """An operation as it is now."""
    operation = status.operation
    message = OperationMessage(
        id=operation.id,
        description=_DESCRIPTIONS[operation.kind],
        created_at=timestamp(operation.created_at),
        created_by=operation.created_by,
        modified_at=timestamp(status.modified_at),
        done=status.done,
    )
    message.metadata.Pack(_metadata(status))
    if status.error is not None:
        message.error.code = Code.Value(status.error.code)
        message.error.message = status.error.message
    elif status.done:
        message.response.Pack(_response(status))
    return message


def _metadata(status: OperationStatus) -> Message:
    job_id, project_id = status.operation.job_id, status.operation.project_id
    match status.operation.kind:
        case OperationKind.CREATE:
            return pb.CreateProjectJobMetadata(project_id=project_id, job_id=job_id)
        case OperationKind.CLONE:
            return pb.CloneProjectJobMetadata(project_id=project_id, job_id=job_id)
        case OperationKind.EXECUTE:
            return _execute_metadata(status)
        case OperationKind.DELETE:
            return pb.DeleteProjectJobMetadata(job_id=job_id)
        case OperationKind.DELETE_DATA:
            return pb.DeleteProjectJobDataMetadata(job_id=job_id)
        case OperationKind.DELETE_ALL_DATA:
            return pb.DeleteAllProjectJobDataMetadata(project_id=project_id)
        case kind if kind in _OF_RESOURCES:
            return Empty()
        case _:
            return team_metadata(status.operation)


def _execute_metadata(status: OperationStatus) -> pb.ExecuteProjectJobMetadata:
    # `job` is deprecated, and the one that clients read.
    message = pb.ExecuteProjectJobMetadata()
    if status.job is None:
        return message
    message.job.CopyFrom(job_message(status.job))
    message.metadata.CopyFrom(job_metadata(status.job))
    if status.job.progress is not None:
        message.progress.CopyFrom(job_progress(status.job.progress))
    return message


def _response(status: OperationStatus) -> Message:
    match status.operation.kind:
        case OperationKind.CREATE:
            return pb.CreateProjectJobResponse(job_id=status.operation.job_id)
        case OperationKind.CLONE:
            return pb.CloneProjectJobResponse(job_id=status.operation.job_id)
        case OperationKind.EXECUTE:
            return _execute_response(status)
        case kind if kind is OperationKind.DELETE or kind in _OF_RESOURCES:
            return Empty()
        case OperationKind.DELETE_DATA:
            return pb.DeleteProjectJobDataResponse()
        case OperationKind.DELETE_ALL_DATA:
            return pb.DeleteAllProjectJobDataResponse()
        case _:
            return team_response(status.resource)


def _execute_response(status: OperationStatus) -> pb.ExecuteProjectJobResponse:
    message = pb.ExecuteProjectJobResponse(output_files=encode_stored_files(status.outputs))
    job = status.job
    if job is None:
        return message
    message.output_files_errors.extend(encode_file_error(e) for e in job.artifacts.errors)
    message.output_datasets.extend(encode_output_dataset(d) for d in job.output_datasets)
    message.result.CopyFrom(jobs_pb2.JobResult(return_code=job.return_code or 0))
    return message
