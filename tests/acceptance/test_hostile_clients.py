"""People who mean no good, and have an account: what they find out of others, and get, is nothing."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import grpc
import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.operation.operation_service_pb2 import CancelOperationRequest, GetOperationRequest

from tests.grpc_client import Api, file_of
from tests.live import BIN, HANG_S, LiveServer, live_server

SECRET = b"what only the first project knows\n"
UNKNOWN = "z" * 20


@dataclass
class Scene:
    """A server with tokens, two projects, and somebody in each of them."""

    server: LiveServer
    ann: Api
    eve: Api
    anns: str
    eves: str
    job: str
    operation: str

    def refused(self, call: Callable[[], Any]) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        error: Any = caught.value
        return error.code().name, error.details()


def jobsphere(data: Path, *words: str) -> str:
    command = [BIN / "jobsphere", *words, "--data-dir", data]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG_S).stdout.strip()


def status_of(url: str, data: bytes | None = None) -> int:
    method = "GET" if data is None else "PUT"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=HANG_S) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The data directory was made by hand, and a backup of it brought back, without a thought."""
    data = tmp_path_factory.mktemp("clients") / "data"
    data.mkdir()
    (data / "key").write_bytes(os.urandom(32))
    data.chmod(0o755)
    (data / "key").chmod(0o644)
    with live_server(data, "--require-tokens") as server:
        projects, apis = [], []
        for name in ("ann", "eve"):
            projects.append(jobsphere(data, "project", "create", f"of-{name}"))
            jobsphere(data, "user", "add", name)
            jobsphere(data, "project", "grant", projects[-1], name, "developer")
            token = jobsphere(data, "token", "create", name)
            apis.append(Api(server.ports["grpc"], data / "tls" / "ca.pem", token))
        job = apis[0].create(projects[0], "cat in > out", {"in": SECRET}, output_files=[pb.FileDesc(path="out")])
        operation = apis[0].execute(job).id
        assert apis[0].wait(job).status == pb.SUCCESS
        yield Scene(server, *apis, *projects, job, operation)
        for api in apis:
            api.close()


def test_a_hash_neither_proves_nor_opens_what_another_project_holds(scene: Scene) -> None:
    held, never = (file_of("x", SECRET), file_of("x", b"what nobody holds, of this length\n"))
    assert held.size_bytes == never.size_bytes
    jobs: list[str] = []
    for file in (held, never):
        spec = pb.JobParameters(
            cmd="true", input_files=[file], cloud_instance_types=[pb.CloudInstanceType(name="c1.4")]
        )
        request = service_pb.CreateProjectJobRequest(project_id=scene.eves, job_parameters=spec)
        made = service_pb.CreateProjectJobResponse()
        scene.eve.call(scene.eve.jobs.Create, request).response.Unpack(made)
        assert [stored.file.sha256 for stored in made.upload_files] == [file.sha256]
        assert status_of(made.upload_files[0].url, b"y" * len(SECRET)) == 400
        jobs.append(made.job_id)
    answers = [scene.refused(lambda job=job: scene.eve.execute(job)) for job in jobs]
    assert answers[0] == answers[1]
    assert answers[0][0] == "FAILED_PRECONDITION"
    for job, file in zip(jobs, (held, never), strict=True):
        request = service_pb.DownloadProjectJobFilesRequest(job_id=job, files=[file])
        (stored,) = scene.eve.call(scene.eve.jobs.DownloadJobFiles, request).download_files
        assert status_of(stored.url) == 404
    elsewhere = service_pb.DownloadProjectJobFilesRequest(job_id=jobs[1], files=[held])
    assert scene.refused(lambda: scene.eve.call(scene.eve.jobs.DownloadJobFiles, elsewhere))[0] == "NOT_FOUND"


def test_ids_operations_and_log_offsets_of_others_are_those_of_nothing(scene: Scene) -> None:
    """Word for word what is said of things that do not exist."""
    eve, s = scene.eve, service_pb

    def every(job: str, operation: str, project: str) -> list[tuple[str, str]]:
        calls: list[tuple[Any, Any]] = [
            (eve.jobs.Get, s.GetProjectJobRequest(job_id=job)),
            (eve.jobs.Execute, s.ExecuteProjectJobRequest(job_id=job)),
            (eve.jobs.Clone, s.CloneProjectJobRequest(source_job_id=job)),
            (eve.jobs.Cancel, s.CancelProjectJobRequest(job_id=job)),
            (eve.jobs.DownloadJobFiles, s.DownloadProjectJobFilesRequest(job_id=job, files=[file_of("in", SECRET)])),
            (eve.jobs.List, s.ListProjectJobRequest(project_id=project)),
            (eve.operations.Get, GetOperationRequest(operation_id=operation)),
            (eve.operations.Cancel, CancelOperationRequest(operation_id=operation)),
        ]
        told = [scene.refused(lambda m=method, r=request: eve.call(m, r)) for method, request in calls]
        for offset in (0, -1, 1, 10**6, -2, 2**63 - 1):
            told.append(scene.refused(lambda o=offset: eve.logs(job, o)))
        return [
            (code, words.replace(job, "JOB").replace(operation, "OP").replace(project, "P")) for code, words in told
        ]

    others = every(scene.job, scene.operation, scene.anns)
    assert others == every(UNKNOWN, "y" * 20, "x" * 20)
    assert {code for code, _ in others} == {"NOT_FOUND"}


@pytest.mark.parametrize("offset", [1, 7, 10**6, 2**63 - 1])
def test_no_offset_reads_beyond_the_log(scene: Scene, offset: int) -> None:
    """Of one's own log: any number gives whole frames of it or is refused."""
    try:
        read = b"".join(log.content for log in scene.ann.logs(scene.job, offset))
    except grpc.RpcError as error:
        told: Any = error
        assert told.code().name in {"INVALID_ARGUMENT", "DATA_LOSS"}, told
    else:
        assert read in b"".join(log.content for log in scene.ann.logs(scene.job, 0))


def test_a_url_is_for_what_it_was_made_for_and_as_long_as_that_is_there(scene: Scene) -> None:
    files = list(scene.ann.get(scene.job).output_files)
    request = service_pb.DownloadProjectJobFilesRequest(job_id=scene.job, files=files)
    url = scene.ann.call(scene.ann.jobs.DownloadJobFiles, request).download_files[0].url
    digest = hashlib.sha256(SECRET).hexdigest()
    assert status_of(url) == 200
    assert status_of(url) == 200  # within its time it may be used again: a broken download is
    for old, new in (
        (scene.anns, scene.eves), (digest, "0" * 64), ("method=GET", "method=PUT"), ("expires=1", "expires=2"),
        ("name=out", "name=in"), ("&signature=", "&signature=&signature="), (f"size={len(SECRET)}", "size=1"),
    ):  # fmt: skip
        assert old in url
        assert status_of(url.replace(old, new)) == 403, (old, new)
    assert status_of(url.replace("method=GET", "method=PUT"), SECRET) == 403
    scene.ann.call(scene.ann.jobs.DeleteData, service_pb.DeleteProjectJobDataRequest(job_id=scene.job))
    assert status_of(url) == 404


@pytest.mark.parametrize("name", ["jsp_", "js1.iam.99999999999.cm9vdA.", "js2.99999999999.a-x."])
def test_a_forged_token_is_nobodys(scene: Scene, name: str) -> None:
    forged = Api(scene.server.ports["grpc"], scene.server.data_dir / "tls" / "ca.pem", name + "0" * 64)
    assert scene.refused(lambda: forged.get(scene.job))[0] == "UNAUTHENTICATED"
    forged.close()


def test_the_keys_are_their_owners_only(scene: Scene) -> None:
    data = scene.server.data_dir
    assert data.stat().st_mode & 0o7 == 0
    for name in ("key", "tls/ca-key.pem", "tls/server.pem"):
        assert (data / name).stat().st_mode & 0o77 == 0, name
    assert scene.server.log.count("others could read this") == 2


@pytest.mark.filterwarnings("ignore:.*is deprecated")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("port", ["grpc", "offline index"])
def test_tls_is_of_1_2_or_later(scene: Scene, version: str, port: str) -> None:
    context = ssl.create_default_context(cafile=str(scene.server.data_dir / "tls" / "ca.pem"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    number = scene.server.ports["grpc" if port == "grpc" else "proxy"]
    with socket.create_connection(("127.0.0.1", number), timeout=HANG_S) as plain:
        if port != "grpc":
            plain.sendall(b"CONNECT index.test:443 HTTP/1.1\r\nProxy-Authorization: Basic b2ZmbGluZTo=\r\n\r\n")
            assert plain.recv(4096).startswith(b"HTTP/1.1 200")
        host = "localhost" if port == "grpc" else "index.test"
        if version in {"TLSv1", "TLSv1_1"}:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain, server_hostname=host)
        else:
            with context.wrap_socket(plain, server_hostname=host) as wrapped:
                assert wrapped.version() == version.replace("_", ".")


@pytest.mark.parametrize(("door", "wrong"), [("/datasphere/v2/projects/p", 401), ("/projects", 303)])
def test_a_guesser_is_stopped_at_every_door(scene: Scene, door: str, wrong: int) -> None:
    """From another address of loopback than everybody else's."""

    def tried(number: int) -> int:
        token = f"jsp_{number:040}"
        headers = {"Cookie": f"jobsphere_session={token}", "Authorization": f"Bearer {token}"}
        address, port = f"127.0.0.{wrong % 100}", scene.server.ports["http"]
        connection = HTTPConnection("127.0.0.1", port, timeout=HANG_S, source_address=(address, 0))
        try:
            connection.request("GET", door, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    statuses = [tried(number) for number in range(50)]
    assert set(statuses[:15]) == {wrong}, statuses
    assert statuses[35:].count(429) > 10, statuses
    assert scene.ann.get(scene.job).id == scene.job
