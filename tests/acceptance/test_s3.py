"""An S3 connector through a whole server and the vendor's CLI, against an S3 service on loopback."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty
from yandex.cloud.datasphere.v2 import s3_service_pb2
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.s3_service_pb2_grpc import S3ServiceStub

from jobsphere.runner import fuse
from tests.acceptance.jobfiles import execute, run_dir, write_job
from tests.commands import jobsphere
from tests.grpc_client import Api
from tests.integration.s3_server import BUCKET, Service, s3_service
from tests.live import LiveServer, live_server, wait_for

CONFIG = """cmd: cat ${TEAM}/in.txt && tr a-z A-Z < ${TEAM}/in.txt > ${TEAM}/out.txt
s3-mounts:
- %s:
    var: TEAM
"""
FUSE = {"JOBSPHERE_S3_MOUNTS": "fuse"}
WHY_NOT = fuse.why_not(read_only=False)


def add_connector(server: LiveServer, service: Service) -> str:
    """A connector to what is below ``team/``: its id."""
    for name, value in (("S3_ID", service.access_key), ("S3_SECRET", service.secret_key)):
        jobsphere(server.data_dir, "secret", "set", name, value=value.encode())
    keys = ("--access-key-secret", "S3_ID", "--secret-key-secret", "S3_SECRET")
    where = ("--endpoint", service.url, "--prefix", "team", "--read-write")
    return jobsphere(server.data_dir, "s3", "add", "team", BUCKET, *where, *keys).strip()


def mounts_below(folder: Path) -> list[str]:
    points = (line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [point for point in points if point.startswith(str(folder))]


def test_a_job_reads_and_writes_a_bucket(tmp_path: Path) -> None:
    with s3_service() as service, live_server(tmp_path / "data") as server:
        data, client = server.data_dir, server.client()
        service.put("team/in.txt", b"from the bucket\n")
        connector = add_connector(server, service)

        words = execute(client, write_job(tmp_path / "job", CONFIG % connector))

        assert "from the bucket" in words
        assert service.objects()["team/out.txt"] == b"FROM THE BUCKET\n"
        (listed,) = json.loads(jobsphere(data, "s3", "list", "--json"))
        assert (listed["id"], listed["bucket"], listed["read_only"]) == (connector, BUCKET, False)
        files = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
        assert [p for p, content in files.items() if service.secret_key.encode() in content] == []

        jobsphere(data, "secret", "set", "S3_SECRET", value=b"wrong")
        words = execute(client, write_job(tmp_path / "wrong", CONFIG % connector), code=1)
        assert "S3 connector 'team': " in words
        assert "SignatureDoesNotMatch" in words
        jobsphere(data, "s3", "delete", "team")
        words = execute(client, write_job(tmp_path / "gone", CONFIG % connector), code=1)
        assert f"no S3 connector '{connector}'; `jobsphere s3 list` shows those it has" in words


@pytest.mark.skipif(bool(WHY_NOT), reason=f"no bucket is mounted: {WHY_NOT}")
def test_a_mounted_bucket_outlives_the_server_and_goes_with_its_job(tmp_path: Path) -> None:
    with s3_service() as service, live_server(tmp_path / "data", environ=FUSE) as server:
        service.put("team/in.txt", b"from the bucket\n")
        project, connector = server.client().project, add_connector(server, service)
        api, ports = Api.of(server), server.ports
        place = f"${{{connector}}}"
        script = f"cat {place}/in.txt; touch up; until [ -e go ]; do sleep 0.05; done; echo x > {place}/out.txt"
        job_id = api.create(project, script, s3_mount_ids=[connector])
        api.execute(job_id)
        api.wait(job_id, pb.EXECUTING)
        work = run_dir(server.data_dir, job_id) / "work"
        wait_for((work / "up").exists, "the program runs")
        (mounted,) = mounts_below(server.data_dir)
        assert mounted.startswith(str(server.data_dir / "mounts"))
        stub = S3ServiceStub(api.channel)
        with pytest.raises(Exception, match=f"in use by: job .{job_id}"):
            api.call(stub.Deactivate, s3_service_pb2.DeactivateS3Request(project_id=project, s3_id=connector))

        server.stop(signal.SIGKILL)
        (work / "go").touch()
        wait_for(lambda: not mounts_below(server.data_dir), "the bucket is unmounted")
        server.start(ports)
        job = api.wait(job_id)
        assert job.status == pb.SUCCESS, job.status_details
        assert api.stdout(job_id) == b"from the bucket\n"
        assert service.objects()["team/out.txt"] == b"x\n"
        assert list((server.data_dir / "mounts").iterdir()) == []

        done = api.call(stub.Deactivate, s3_service_pb2.DeactivateS3Request(project_id=project, s3_id=connector))
        assert done.response.Is(Empty.DESCRIPTOR)
        with pytest.raises(Exception, match="'team' is not active"):
            api.create(project, script, s3_mount_ids=[connector])
        assert [c["active"] for c in json.loads(jobsphere(server.data_dir, "s3", "list", "--json"))] == [False]
        jobsphere(server.data_dir, "s3", "activate", "team")
        again = api.create(project, "true", s3_mount_ids=[connector])
        api.execute(again)
        assert api.wait(again).status == pb.SUCCESS
        wait_for(lambda: not mounts_below(server.data_dir), "its bucket is unmounted")
        api.close()


def test_fuse_is_refused_where_there_is_none(tmp_path: Path) -> None:
    nothing = tmp_path / "bin"
    nothing.mkdir()
    (nothing / "bwrap").symlink_to(shutil.which("bwrap") or "bwrap")
    server = LiveServer(tmp_path / "data", environ={**FUSE, "PATH": str(nothing)})
    with pytest.raises(AssertionError, match="no bucket can be mounted"):
        server.start()
    server.end_all()
