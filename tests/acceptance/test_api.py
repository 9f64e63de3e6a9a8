"""The published API against a real server: what the vendor's CLI does not show, and bad input."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.operation.operation_service_pb2 import CancelOperationRequest

from tests.grpc_client import Api, file_of
from tests.live import BIN, Client, LiveServer, processes_of, wait_for

UNKNOWN = "z" * 20


@pytest.fixture(scope="module")
def api(server: LiveServer) -> Iterator[Api]:
    api = Api.of(server)
    yield api
    api.close()


@pytest.fixture(scope="module")
def project(client: Client) -> str:
    return client.project


def refused(code: grpc.StatusCode, call: Callable[[], Any]) -> str:
    """The words of a call that must end with ``code``."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    error: Any = caught.value
    assert error.code() is code, error
    return error.details()


def run(api: Api, project: str, cmd: str, files: dict[str, bytes] | None = None, **more: Any) -> pb.Job:
    job_id = api.create(project, cmd, files, **more)
    api.execute(job_id)
    return api.wait(job_id)


def test_every_field_of_a_finished_job_is_filled(api: Api, project: str) -> None:
    graceful = pb.GracefulShutdownParameters(signal=2, timeout=Duration(seconds=5))
    job_id = api.create(
        project, "cat ${IN} > ${OUT}; cat extra.txt; echo ${WORD}; echo note >&2", {"extra.txt": b"extra\n"},
        output_files=[pb.FileDesc(path="out.txt", var="OUT"), pb.FileDesc(path="missing.txt")],
        arguments=[pb.Argument(name="WORD", value="a word"), pb.Argument(name="IN", value="extra.txt")],
        env=pb.Environment(vars={"A": "1"}), graceful_shutdown_parameters=graceful,
    )  # fmt: skip
    api.execute(job_id)
    job = api.wait(job_id)

    assert (job.id, job.name, job.project_id, job.status) == (job_id, "job", project, pb.SUCCESS)
    assert job.created_by_id
    assert job.created_at.ToNanoseconds() <= job.started_at.ToNanoseconds() <= job.finished_at.ToNanoseconds()
    assert job.data_expires_at.seconds - job.finished_at.seconds in {86399, 86400}
    assert job.actual_cloud_instance_type.name == "c1.4"
    assert job.job_parameters.graceful_shutdown_parameters == graceful
    assert job.job_parameters.env.vars == {"A": "1"}
    assert [f.desc.path for f in job.output_files] == ["out.txt"]
    assert [f.desc.path for f in job.log_files] == ["stdout.txt", "stderr.txt", "system.log"]
    assert [f.desc.path for f in job.diagnostic_files] == ["docker_stats.tsv"]
    assert [(e.output_file_desc.path, e.type) for e in job.file_errors] == [
        ("missing.txt", pb.FileUploadError.NOT_FOUND)
    ]
    files = [*job.job_parameters.input_files, *job.output_files, *job.log_files, *job.diagnostic_files]
    assert job.data_size_bytes == sum(f.size_bytes for f in files)
    assert "completed" in job.status_details
    contents = api.download(job_id, files)
    assert contents["stdout.txt"] == b"extra\na word\n"
    assert contents["stderr.txt"] == b"note\n"
    assert contents["out.txt"] == b"extra\n"


def test_the_operation_tells_what_the_job_tells(api: Api, project: str) -> None:
    job_id = api.create(project, "exit 5")
    first = api.execute(job_id)
    assert not first.done
    api.wait(job_id)
    done = wait_for(lambda: o if (o := api.operation(first.id)).done else None, "the operation is done")

    metadata, response = service_pb.ExecuteProjectJobMetadata(), service_pb.ExecuteProjectJobResponse()
    done.metadata.Unpack(metadata)
    done.response.Unpack(response)
    assert response.result.return_code == 5
    assert metadata.job == api.get(job_id)
    assert metadata.metadata.status == pb.ERROR
    assert metadata.progress.progress == 100
    assert api.execute(job_id).id == first.id


def test_unknown_ids_are_not_found(api: Api) -> None:
    for call in (
        lambda: api.get(UNKNOWN),
        lambda: api.execute(UNKNOWN),
        lambda: api.cancel(UNKNOWN),
        lambda: api.logs(UNKNOWN),
        lambda: api.operation(UNKNOWN),
        lambda: api.create(UNKNOWN, "true"),
        lambda: api.download(UNKNOWN, [file_of("a", b"")]),
        lambda: api.call(api.jobs.Clone, service_pb.CloneProjectJobRequest(source_job_id=UNKNOWN)),
        lambda: api.call(api.jobs.Delete, service_pb.DeleteProjectJobRequest(job_id=UNKNOWN)),
        lambda: api.call(api.jobs.DeleteData, service_pb.DeleteProjectJobDataRequest(job_id=UNKNOWN)),
        lambda: api.call(api.jobs.DeleteAllData, service_pb.DeleteAllProjectJobDataRequest(project_id=UNKNOWN)),
        lambda: api.call(api.jobs.SetDataTtl, service_pb.SetProjectJobDataTtlRequest(job_id=UNKNOWN)),
        lambda: api.call(api.jobs.List, service_pb.ListProjectJobRequest(project_id=UNKNOWN)),
        lambda: list(api.jobs.ReadStdLogs(service_pb.ReadProjectJobStdLogsRequest(job_id=UNKNOWN))),
    ):
        assert UNKNOWN in refused(grpc.StatusCode.NOT_FOUND, call)


def test_execute_before_the_inputs_names_what_is_missing(api: Api, project: str) -> None:
    job_id = api.create(project, "true", {"here.txt": b"never uploaded"}, upload=False)

    words = refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: api.execute(job_id))

    assert "here.txt" in words
    assert api.get(job_id).status == pb.CREATING


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ({"input_files": [file_of("../up.txt", b"")]}, "../up.txt"),
        ({"input_files": [file_of("a", b"1", "V"), file_of("b", b"2", "V")]}, "V"),
        ({"input_files": [file_of(f"f{i}", b"") for i in range(101)]}, "101"),
        ({"input_files": [pb.File(desc=pb.FileDesc(path="big"), sha256="a" * 64, size_bytes=6 << 30)]}, "big"),
        ({"input_files": [pb.File(desc=pb.FileDesc(path="odd"), sha256="nothex")]}, "odd"),
        ({"output_files": [pb.FileDesc(path="o"), pb.FileDesc(path="o/inner")]}, "o/inner"),
        ({"output_files": [pb.FileDesc(path="x", var="no spaces")]}, "no spaces"),
        ({"arguments": [pb.Argument(name="DS_PROJECT_HOME", value="")]}, "DS_PROJECT_HOME"),
        ({"cloud_instance_types": [pb.CloudInstanceType(name="c9.9")]}, "c1.4"),
        ({"graceful_shutdown_parameters": pb.GracefulShutdownParameters(signal=9)}, "signal"),
        ({"dataset_ids": ["not an id"]}, "dataset_ids"),
        ({"env": pb.Environment(python_env=pb.PythonEnv(requirements=["-r /etc/passwd"]))}, "requirements"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_breaks_a_limit_is_refused_by_name(api: Api, project: str, more: dict[str, Any], word: str) -> None:
    fields: dict[str, Any] = {"cmd": "true", "cloud_instance_types": [pb.CloudInstanceType(name="c1.4")]}
    parameters = pb.JobParameters(**fields | more)
    request = service_pb.CreateProjectJobRequest(project_id=project, job_parameters=parameters)

    assert word in refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: api.call(api.jobs.Create, request))


def test_a_filter_and_pages(api: Api, server: LiveServer) -> None:
    other = json.loads(_jobsphere(server, "project", "create", "pages", "--json"))["id"]
    ended = {run(api, other, "true").id for _ in range(3)}
    waiting = {api.create(other, "true") for _ in range(2)}

    def listed(**more: Any) -> set[str]:
        found: set[str] = set()
        token = ""
        while True:
            request = service_pb.ListProjectJobRequest(project_id=other, page_size=2, page_token=token, **more)
            page = api.call(api.jobs.List, request)
            found |= {j.id for j in page.jobs}
            token = page.next_page_token
            if not token:
                return found

    assert listed() == ended | waiting
    assert listed(filter="status IN (SUCCESS)") == ended
    assert listed(filter="status IN (CREATING, ERROR)") == waiting
    for bad in ("status = SUCCESS", "name IN (a)", "status IN (NOPE)", "x" * 1001):
        refused(grpc.StatusCode.INVALID_ARGUMENT, lambda bad=bad: listed(filter=bad))


def test_logs_are_read_on_from_an_offset(api: Api, project: str) -> None:
    job = run(api, project, "for i in 1 2 3; do echo line $i; sleep 0.25; done")
    request = service_pb.ReadProjectJobLogsRequest(job_id=job.id)
    pages = list(api.jobs.ReadLogs(request))
    whole = [m for p in pages for m in p.logs]

    assert api.logs(job.id) == whole
    assert api.logs(job.id, pages[-1].offset) == []
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: api.logs(job.id, 1 << 40))
    refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: api.logs(job.id, -2))
    assert api.stdout(job.id) == b"line 1\nline 2\nline 3\n"


def test_a_million_lines_and_an_immediate_exit_lose_nothing(api: Api, project: str) -> None:
    job_id = api.create(project, "seq 1000000")
    api.execute(job_id)

    text = api.stdout(job_id)

    assert text == b"".join(b"%d\n" % i for i in range(1, 1_000_001))
    assert api.wait(job_id).status == pb.SUCCESS


def test_a_zip_entry_that_leaves_its_folder_ends_the_job(api: Api, project: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as z:
        z.writestr("folder/../../../escaped.txt", "out")
    content = packed.getvalue()
    entry = file_of("folder", content, compression=pb.ZIP)
    parameters = pb.JobParameters(
        cmd="true", input_files=[entry], cloud_instance_types=[pb.CloudInstanceType(name="c1.4")]
    )
    response = service_pb.CreateProjectJobResponse()
    request = service_pb.CreateProjectJobRequest(project_id=project, job_parameters=parameters)
    api.call(api.jobs.Create, request).response.Unpack(response)
    api.put(response.upload_files[0].url, content)
    operation = api.execute(response.job_id)
    job = api.wait(response.job_id)

    assert job.status == pb.ERROR
    assert "escaped.txt" in job.status_details
    done = wait_for(lambda: o if (o := api.operation(operation.id)).done else None, "the operation is done")
    assert done.error.message.startswith("stage: ")


def test_a_python_that_cannot_be_had_is_told_in_the_installers_words(api: Api, project: str) -> None:
    job = run(api, project, "python -V", env=pb.Environment(python_env=pb.PythonEnv(python_version="3.99")))

    assert job.status == pb.ERROR
    assert "3.99" in job.status_details
    assert "system.log" in {f.desc.path for f in job.log_files}


def test_a_program_killed_by_a_signal_returns_128_and_its_number(api: Api, project: str) -> None:
    job = run(api, project, "kill -9 $$")

    assert job.status == pb.ERROR
    assert "137" in job.status_details
    assert "signal 9" in job.status_details


def test_cancel_works_in_every_state(api: Api, project: str) -> None:
    creating = api.create(project, "true")
    api.cancel(creating)
    assert api.get(creating).status == pb.CANCELLED
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: api.execute(creating))

    running = api.create(project, "sleep 32345.1")
    operation = api.execute(running)
    api.cancel(running, reason="no longer needed")
    job = api.wait(running)
    assert job.status == pb.CANCELLED
    assert "no longer needed" in job.status_details
    done = wait_for(lambda: o if (o := api.operation(operation.id)).done else None, "the operation is done")
    assert done.error.code == grpc.StatusCode.CANCELLED.value[0]
    api.cancel(running)

    by_operation = api.create(project, "sleep 32345.1")
    operation = api.execute(by_operation)
    api.call(api.operations.Cancel, CancelOperationRequest(operation_id=operation.id))
    assert api.wait(by_operation).status == pb.CANCELLED
    wait_for(lambda: not processes_of("sleep\0" + "32345.1"), "no program is left")

    ended = run(api, project, "true")
    refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: api.cancel(ended.id))


def test_one_projects_blobs_are_not_anothers(api: Api, project: str, server: LiveServer) -> None:
    content = b"a secret of the first project"
    run(api, project, "true", {"secret.txt": content})
    other = json.loads(_jobsphere(server, "project", "create", "other-project", "--json"))["id"]

    job_id = api.create(other, "cat secret.txt", {"secret.txt": content}, upload=False)

    assert "secret.txt" in refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: api.execute(job_id))
    refused(grpc.StatusCode.NOT_FOUND, lambda: api.download(job_id, [file_of("x", b"not this job's")]))


def test_deleted_data_is_gone_from_the_disk_and_what_others_use_stays(
    api: Api, project: str, server: LiveServer
) -> None:
    shared, own = b"shared by two jobs", b"of one job only"
    first = run(api, project, "cat own.txt shared.txt", {"own.txt": own, "shared.txt": shared})
    second = run(api, project, "cat shared.txt", {"shared.txt": shared})

    api.call(api.jobs.DeleteData, service_pb.DeleteProjectJobDataRequest(job_id=first.id))

    held = server.blob_names(project)
    assert file_of("", own).sha256 not in held
    assert file_of("", shared).sha256 in held
    assert api.get(first.id).data_cleared
    assert api.get(first.id).data_size_bytes == 0
    assert not list(server.node_dir.glob(f"*/{first.id}-1"))
    assert api.stdout(second.id) == shared
    for call in (
        lambda: api.logs(first.id),
        lambda: api.download(first.id, list(first.output_files) or list(first.log_files)),
        lambda: api.call(api.jobs.Clone, service_pb.CloneProjectJobRequest(source_job_id=first.id)),
    ):
        assert "cleared" in refused(grpc.StatusCode.FAILED_PRECONDITION, call)


def test_what_runs_cannot_be_deleted(api: Api, project: str) -> None:
    job_id = api.create(project, "sleep 32345.2")
    api.execute(job_id)

    words = refused(
        grpc.StatusCode.FAILED_PRECONDITION,
        lambda: api.call(api.jobs.Delete, service_pb.DeleteProjectJobRequest(job_id=job_id)),
    )

    assert "cancel" in words
    api.cancel(job_id)
    api.wait(job_id)


def _jobsphere(server: LiveServer, *args: str) -> str:
    return subprocess.run(
        [BIN / "jobsphere", *args, "--data-dir", server.data_dir],
        env=server.environ,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
