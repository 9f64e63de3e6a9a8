"""The vendor's SDKs, unchanged: ``datasphere.SDK`` and ``yandexcloud.SDK``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.jobfiles import execute, job_id_in, start_async, wait_status, write_script
from tests.live import HANG_S, Client, LiveServer

FORK = """
import sys
from datasphere import SDK

sdk = SDK()
job = sdk.fork_job(sys.argv[1], args={"LIMIT": "1"}, env_vars={"GREETING": "from the SDK"}, name="sdk-fork")
job.wait()
assert sdk.get_job(job.id).done
sdk.download_job_files(job.id, with_logs=True, output_dir="downloaded")
print("operation", job.operation_id)
"""
CLOUD = """
import sys
import grpc
import yandexcloud
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2 import (
    DeleteAllProjectJobDataRequest, DeleteProjectJobDataRequest, DeleteProjectJobRequest, GetProjectJobRequest,
    ReadProjectJobStdLogsRequest,
)
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2_grpc import ProjectJobServiceStub

endpoint, ca, token, project, job_id, other = sys.argv[1:]
roots = open(ca, "rb").read()
sdk = yandexcloud.SDK(endpoint=endpoint, root_certificates=roots, iam_token=token)
jobs = sdk.client(ProjectJobServiceStub)
text = b"".join(log.content for r in jobs.ReadStdLogs(ReadProjectJobStdLogsRequest(job_id=job_id)) for log in r.logs)
assert b"hello" in text, text
assert jobs.DeleteData(DeleteProjectJobDataRequest(job_id=job_id)).done
assert jobs.Get(GetProjectJobRequest(job_id=job_id)).data_cleared
assert jobs.DeleteAllData(DeleteAllProjectJobDataRequest(project_id=project)).done
assert jobs.Get(GetProjectJobRequest(job_id=other)).data_cleared
assert jobs.Delete(DeleteProjectJobRequest(job_id=job_id)).done
try:
    jobs.Get(GetProjectJobRequest(job_id=job_id))
except grpc.RpcError as e:
    assert e.code() is grpc.StatusCode.NOT_FOUND
else:
    raise AssertionError("the job is still there")
print("all done")
"""
DEFAULT_ENDPOINT = """
import os
import yandexcloud
from yandex.cloud.datasphere.v2.project_service_pb2 import GetProjectRequest
from yandex.cloud.datasphere.v2.project_service_pb2_grpc import ProjectServiceStub

roots = open(os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"], "rb").read()
sdk = yandexcloud.SDK(token="an-oauth-token", root_certificates=roots)
project = sdk.client(ProjectServiceStub).Get(GetProjectRequest(project_id=os.environ["JOBSPHERE_PROJECT"]))
print("project", project.name)
"""


def python(client: Client, script: str, *args: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, *args], cwd=cwd, env=client.environ, capture_output=True, text=True,
        timeout=HANG_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_datasphere_sdk(client: Client, example: Callable[[str], Path]) -> None:
    folder = example("bash")
    source = job_id_in(execute(client, folder))

    words = python(client, FORK, source, cwd=folder)

    assert "from the SDK data/names.txt" in words
    assert (folder / "downloaded/sorted.txt").read_text() == "adam\n"
    assert (folder / "downloaded/stdout.txt").exists()


def test_yandexcloud_sdk_reads_and_deletes(server: LiveServer, tmp_path: Path) -> None:
    client = server.client()
    folder = write_script(tmp_path / "job", "echo hello")
    first, second = (start_async(client, folder)["job_id"] for _ in range(2))
    for job_id in (first, second):
        wait_status(client, job_id, folder, "SUCCESS")
    endpoint = f"127.0.0.1:{server.ports['grpc']}"
    ca, token = client.exports["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"], client.exports["YC_IAM_TOKEN"]

    assert "all done" in python(client, CLOUD, endpoint, ca, token, client.project, first, second, cwd=folder)


def test_yandexcloud_sdk_finds_the_server_by_its_default_endpoint(client: Client, tmp_path: Path) -> None:
    assert "project default" in python(client, DEFAULT_ENDPOINT, cwd=tmp_path)


def test_the_cli_logs_in_with_a_token_of_its_own(client: Client, tmp_path: Path) -> None:
    without = Client({k: v for k, v in client.exports.items() if k != "YC_IAM_TOKEN"}, client.base)

    assert client.project in without.run("-t", "an-oauth-token", "project", "get", "--id", client.project, cwd=tmp_path)
