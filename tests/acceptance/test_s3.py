"""An S3 connector through a whole server and the vendor's CLI, against an S3 service on loopback."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.jobfiles import execute, write_job
from tests.commands import jobsphere
from tests.integration.s3_server import BUCKET, s3_service
from tests.live import live_server

CONFIG = """cmd: cat ${TEAM}/in.txt && tr a-z A-Z < ${TEAM}/in.txt > ${TEAM}/out.txt
s3-mounts:
- %s:
    var: TEAM
"""


def test_a_job_reads_and_writes_a_bucket(tmp_path: Path) -> None:
    with s3_service() as service, live_server(tmp_path / "data") as server:
        data, client = server.data_dir, server.client()
        service.put("team/in.txt", b"from the bucket\n")
        for name, value in (("S3_ID", service.access_key), ("S3_SECRET", service.secret_key)):
            jobsphere(data, "secret", "set", name, value=value.encode())
        keys = ("--access-key-secret", "S3_ID", "--secret-key-secret", "S3_SECRET")
        where = ("--endpoint", service.url, "--prefix", "team", "--read-write")
        connector = jobsphere(data, "s3", "add", "team", BUCKET, *where, *keys).strip()

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
