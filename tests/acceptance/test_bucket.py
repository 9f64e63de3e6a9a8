"""A whole server whose files are in a bucket, and the vendor's CLI that brings and fetches them there."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from tests.acceptance.jobfiles import execute, job_id_in, run_dir, write_job
from tests.commands import jobsphere
from tests.grpc_client import Api, file_of
from tests.integration.s3_server import BUCKET, Service, s3_service
from tests.live import LiveServer, live_server

CONFIG = """cmd: >
  cat ${FIRST} folder/b.txt empty.txt ${DATA}/f.txt > ${OUT};
  mkdir ${DIR}; cp ${OUT} ${DIR}/copy; cp ${DIR}/copy ${SET}
inputs:
- a.txt: FIRST
- folder
- empty.txt
outputs:
- out.txt: OUT
- outs: DIR
datasets:
- %s:
    var: DATA
output-datasets:
- name: made
  var: SET
  size: 1Gb
"""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with s3_service() as running:
        yield running


def settings(folder: Path, service: Service) -> dict[str, str]:
    """The server's variables; the keys are in a file."""
    keys = folder / "keys.toml"
    keys.write_text(f'access_key_id = "{service.access_key}"\nsecret_access_key = "{service.secret_key}"\n')
    keys.chmod(0o600)
    where = {"BLOBS": f"s3://{BUCKET}/one", "BLOBS_ENDPOINT": service.url, "BLOBS_REGION": "us-east-1"}
    return {f"JOBSPHERE_{name}": value for name, value in {**where, "BLOBS_KEY_FILE": str(keys)}.items()}


def write_example(folder: Path, dataset_id: str) -> Path:
    write_job(folder, CONFIG % dataset_id, a__txt="one\n", empty__txt="")
    (folder / "folder").mkdir()
    (folder / "folder" / "b.txt").write_text("two\n")
    return folder


@pytest.fixture(scope="module")
def server(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("bucket")
    with live_server(folder / "data", environ=settings(folder, service)) as running:
        yield running


@pytest.fixture
def api(server: LiveServer) -> Iterator[Api]:
    client = Api.of(server)
    client.retried = set()
    yield client
    client.close()


def copies_of(service: Service, content: bytes) -> list[str]:
    """The objects that are copies of a blob, and what says something of them."""
    sha256 = hashlib.sha256(content).hexdigest()
    return [key for key in service.objects() if "/blobs/" in key and sha256 in key]


def create(api: Api, project: str, content: bytes) -> tuple[str, str]:
    """A job that prints its input, which is not uploaded yet: its id, and where to."""
    parameters = pb.JobParameters(cmd="cat in.txt", input_files=[file_of("in.txt", content)])
    parameters.cloud_instance_types.add(name="c1.4")
    response = service_pb.CreateProjectJobResponse()
    request = service_pb.CreateProjectJobRequest(project_id=project, job_parameters=parameters, name="job")
    api.call(api.jobs.Create, request).response.Unpack(response)
    return response.job_id, response.upload_files[0].url


def secrets_in(server: LiveServer, service: Service) -> list[Path]:
    """Files of the server, its log among them, that hold the secret key or a signature."""
    files = [*server.data_dir.rglob("*"), server.data_dir.parent / f"{server.data_dir.name}.log"]
    held = (service.secret_key.encode(), b"X-Amz-Signature")
    return [f for f in files if f.is_file() and any(secret in f.read_bytes() for secret in held)]


def test_files_go_to_the_bucket_and_come_from_it(
    tmp_path: Path, service: Service, server: LiveServer, api: Api
) -> None:
    data, client = server.data_dir, server.client()
    (tmp_path / "f.txt").write_text("of the dataset\n")
    dataset_id = jobsphere(data, "dataset", "create", "first", str(tmp_path / "f.txt")).strip()
    folder = write_example(tmp_path / "job", dataset_id)

    words = execute(client, folder)

    assert "uploading 2 files" in words  # the empty one is there already
    assert (folder / "out.txt").read_text() == "one\ntwo\nof the dataset\n"
    assert (folder / "outs" / "copy").read_text() == "one\ntwo\nof the dataset\n"
    assert "(made)" in words
    objects = [key for key in service.objects() if key.startswith("one/")]
    assert not [key for key in objects if "/incoming/" in key]
    assert not [path for path in (data / "blobs").rglob("*") if path.is_file()]
    assert len([key for key in objects if key.startswith(f"one/blobs/{client.project}/")]) >= 6
    again = execute(client, folder)
    assert "no files to upload" in again
    assert secrets_in(server, service) == []

    for job_id, left in ((job_id_in(words), 1), (job_id_in(again), 0)):
        api.call(api.jobs.Delete, service_pb.DeleteProjectJobRequest(job_id=job_id))
        assert len(copies_of(service, b"one\n")) == left


def test_what_was_uploaded_is_verified_before_a_job_gets_it(server: LiveServer, service: Service, api: Api) -> None:
    project, content = server.client().project, b"as announced\n"
    job_id, url = create(api, project, content)
    again, _ = create(api, project, content)
    with pytest.raises(grpc.RpcError, match=r"have not been uploaded: in\.txt"):
        api.execute(job_id)
    short, other = "9 bytes came, while 13", "do not have the announced SHA-256"
    for wrong, told in ((b"too short", short), (b"other bytes.\n", other)):
        api.put(url, wrong)
        with pytest.raises(grpc.RpcError, match=told):
            api.execute(job_id)
    api.put(url, content)
    api.execute(job_id)
    api.put(url, b"written late\n")  # by a URL that still lives
    api.execute(again)
    for id_ in (job_id, again):
        assert api.wait(id_).status == pb.SUCCESS
        assert api.stdout(id_) == content


def test_what_was_damaged_in_the_bucket_is_told_and_brought_anew(
    tmp_path: Path, server: LiveServer, service: Service
) -> None:
    client = server.client()
    folder = write_job(tmp_path / "job", "cmd: cat in.txt\ninputs:\n- in.txt\n", in__txt="to be damaged\n")
    execute(client, folder)
    (copy,) = copies_of(service, b"to be damaged\n")
    service.put(copy, b"is damaged now")
    shutil.rmtree(server.data_dir / "blob-cache" / client.project)

    words = execute(client, folder, code=1)

    assert "no files to upload" in words
    assert "in.txt" in words
    assert "its bytes in the bucket are not what they were; create the job again to upload them" in words
    words = execute(client, folder)
    assert "uploading 1 files" in words
    assert "to be damaged" in words


def test_a_bucket_that_is_away_for_a_while_loses_nothing(server: LiveServer, service: Service, api: Api) -> None:
    project = server.client().project
    script = "until [ -e go ]; do sleep 0.05; done; echo done > out"
    job_id = api.create(project, script, output_files=[pb.FileDesc(path="out")])
    api.execute(job_id)
    api.wait(job_id, pb.EXECUTING)
    service.gate.away.set()
    try:
        (run_dir(server.data_dir, job_id) / "work" / "go").touch()
        api.wait(job_id, pb.UPLOADING_OUTPUT)
        with pytest.raises(grpc.RpcError, match="the bucket that holds the files cannot be reached") as error:
            api.create(project, "cat in.txt", {"in.txt": b"meanwhile"})
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE  # pyright: ignore[reportAttributeAccessIssue]
        assert api.get(job_id).status == pb.UPLOADING_OUTPUT
    finally:
        service.gate.away.clear()
    job = api.wait(job_id)
    assert job.status == pb.SUCCESS
    assert api.download(job_id, job.output_files) == {"out": b"done\n"}
    assert api.execute(api.create(project, "cat in.txt", {"in.txt": b"meanwhile"}))
