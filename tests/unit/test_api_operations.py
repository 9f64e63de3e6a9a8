"""Operations in their published form."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.operation.operation_pb2 import Operation as OperationMessage

from jobsphere.api.operation_codec import encode_done, encode_status, encode_submitted
from jobsphere.domain.artifact import Artifacts, File, FileDesc, FileError, FileErrorType
from jobsphere.domain.job import Job, JobSpec, JobStatus, OutputDataset, OutputDatasetDesc, Progress
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.service.artifacts import StoredFile
from jobsphere.service.jobs import Submitted
from jobsphere.service.operations import OperationError, OperationStatus

M = TypeVar("M", bound=Message)
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
FILE = File(FileDesc("./out.bin", "OUT"), "b" * 64, 9)


def operation(kind: OperationKind) -> Operation:
    return Operation("o" * 20, kind, "p" * 20, "j" * 20, NOON, "me")


def job(status: JobStatus, return_code: int | None = None, progress: bool = True) -> Job:
    errors = (FileError("it is not there", FileErrorType.NOT_FOUND, FileDesc("gone")),)
    return Job(
        "j" * 20,
        "p" * 20,
        "me",
        NOON,
        JobSpec(cmd="run"),
        status=status,
        return_code=return_code,
        progress=Progress("Running", 20, NOON) if progress else None,
        artifacts=Artifacts(errors=errors),
        output_datasets=(OutputDataset(OutputDatasetDesc("ds", "DS"), "d" * 20),),
    )


def metadata(message: OperationMessage) -> pb.ExecuteProjectJobMetadata:
    return unpacked(message.metadata, pb.ExecuteProjectJobMetadata())


def unpacked(packed: Any, into: M) -> M:
    assert packed.Unpack(into)
    return into


@pytest.mark.parametrize(
    ("kind", "meta", "response"),
    [
        (OperationKind.CREATE, pb.CreateProjectJobMetadata(), pb.CreateProjectJobResponse()),
        (OperationKind.CLONE, pb.CloneProjectJobMetadata(), pb.CloneProjectJobResponse()),
        (OperationKind.DELETE, pb.DeleteProjectJobMetadata(), Empty()),
        (OperationKind.DELETE_DATA, pb.DeleteProjectJobDataMetadata(), pb.DeleteProjectJobDataResponse()),
        (OperationKind.DELETE_ALL_DATA, pb.DeleteAllProjectJobDataMetadata(), pb.DeleteAllProjectJobDataResponse()),
    ],
)
def test_an_immediate_operation_is_done_with_its_own_messages(
    kind: OperationKind, meta: Message, response: Message
) -> None:
    message = encode_done(operation(kind))
    assert message.done
    assert message.WhichOneof("result") == "response"
    assert message.created_at == message.modified_at
    assert message.created_by == "me"
    told = unpacked(message.metadata, meta)
    assert {f.name: v for f, v in told.ListFields()}.items() <= {"job_id": "j" * 20, "project_id": "p" * 20}.items()
    assert told.ListFields()
    unpacked(message.response, response)


@pytest.mark.parametrize(
    ("kind", "response"),
    [
        (OperationKind.CREATE, pb.CreateProjectJobResponse()),
        (OperationKind.CLONE, pb.CloneProjectJobResponse()),
    ],
)
def test_a_submitted_job_names_what_is_to_be_uploaded(
    kind: OperationKind, response: pb.CreateProjectJobResponse | pb.CloneProjectJobResponse
) -> None:
    message = encode_submitted(Submitted(operation(kind), "j" * 20, (StoredFile(FILE, "http://x/put"),)))
    told = unpacked(message.response, response)
    assert told.job_id == "j" * 20
    assert [(u.url, u.file.desc.path) for u in told.upload_files] == [("http://x/put", "./out.bin")]


def test_a_running_operation_tells_job_and_progress_and_no_result() -> None:
    later = NOON + timedelta(seconds=5)
    status = OperationStatus(operation(OperationKind.EXECUTE), later, done=False, job=job(JobStatus.EXECUTING))
    message = encode_status(status)
    assert not message.done
    assert message.WhichOneof("result") is None
    assert message.modified_at.ToDatetime(tzinfo=UTC) == later
    told = metadata(message)
    assert told.job.id == told.metadata.id == "j" * 20
    assert (told.progress.message, told.progress.progress) == ("Running", 20)


def test_no_progress_is_told_where_there_is_none() -> None:
    status = OperationStatus(
        operation(OperationKind.EXECUTE), NOON, done=False, job=job(JobStatus.PREPARING, progress=False)
    )
    assert not metadata(encode_status(status)).HasField("progress")


def test_a_program_that_failed_still_has_a_response_with_its_outputs() -> None:
    done = OperationStatus(
        operation(OperationKind.EXECUTE),
        NOON,
        done=True,
        job=job(JobStatus.ERROR, return_code=3),
        outputs=(StoredFile(FILE, "http://x/get"),),
    )
    told = unpacked(encode_status(done).response, pb.ExecuteProjectJobResponse())
    assert told.result.return_code == 3
    assert [f.url for f in told.output_files] == ["http://x/get"]
    assert [e.output_file_desc.path for e in told.output_files_errors] == ["gone"]
    assert [d.id for d in told.output_datasets] == ["d" * 20]


@pytest.mark.parametrize("code", ["CANCELLED", "FAILED_PRECONDITION", "ABORTED", "INTERNAL", "DATA_LOSS"])
def test_an_error_takes_the_place_of_the_response(code: str) -> None:
    error = OperationError(code, "why")
    status = OperationStatus(
        operation(OperationKind.EXECUTE), NOON, done=True, job=job(JobStatus.CANCELLED), error=error
    )
    message = encode_status(status)
    assert message.WhichOneof("result") == "error"
    assert (Code.Name(message.error.code), message.error.message) == (code, "why")
    assert metadata(message).job.id == "j" * 20
