"""A whole server whose files are in a bucket, and the vendor's CLI that brings and fetches them there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import execute, write_job
from tests.commands import jobsphere
from tests.integration.s3_server import BUCKET, Service, s3_service
from tests.live import LiveServer, live_server

CONFIG = """cmd: cat ${FIRST} folder/b.txt empty.txt ${DATA}/f.txt > ${OUT}; mkdir ${DIR}; cp ${OUT} ${DIR}/copy; cp ${DIR}/copy ${SET}
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


def settings(folder: Path, service: Service, prefix: str) -> dict[str, str]:
    """The server's variables; the keys are in a file."""
    keys = folder / "keys.toml"
    keys.write_text(f'access_key_id = "{service.access_key}"\nsecret_access_key = "{service.secret_key}"\n')
    keys.chmod(0o600)
    where = {"BLOBS": f"s3://{BUCKET}/{prefix}", "BLOBS_ENDPOINT": service.url, "BLOBS_REGION": "us-east-1"}
    return {f"JOBSPHERE_{name}": value for name, value in {**where, "BLOBS_KEY_FILE": str(keys)}.items()}


def write_example(folder: Path, dataset_id: str) -> Path:
    write_job(folder, CONFIG % dataset_id, a__txt="one\n", empty__txt="")
    (folder / "folder").mkdir()
    (folder / "folder" / "b.txt").write_text("two\n")
    return folder


def secrets_in(server: LiveServer, service: Service) -> list[Path]:
    """Files of the server, its log among them, that hold the secret key or a signature."""
    files = [*server.data_dir.rglob("*"), server.data_dir.parent / f"{server.data_dir.name}.log"]
    held = (service.secret_key.encode(), b"X-Amz-Signature")
    return [f for f in files if f.is_file() and any(secret in f.read_bytes() for secret in held)]


def test_files_go_to_the_bucket_and_come_from_it(tmp_path: Path, service: Service) -> None:
    with live_server(tmp_path / "data", environ=settings(tmp_path, service, "one")) as server:
        data, client = server.data_dir, server.client()
        (tmp_path / "f.txt").write_text("of the dataset\n")
        dataset_id = jobsphere(data, "dataset", "create", "first", str(tmp_path / "f.txt")).strip()
        folder = write_example(tmp_path / "job", dataset_id)

        words = execute(client, folder)

        assert "uploading 2 files" in words  # an empty one is there already
        assert (folder / "out.txt").read_text() == "one\ntwo\nof the dataset\n"
        assert (folder / "outs" / "copy").read_text() == "one\ntwo\nof the dataset\n"
        assert "(made)" in words
        objects = [key for key in service.objects() if key.startswith("one/")]
        assert not [key for key in objects if "/incoming/" in key]
        assert not list((data / "blobs").rglob("*"))
        assert len([key for key in objects if key.startswith(f"one/blobs/{client.project}/")]) >= 6

        again = execute(client, folder)
        assert "no files to upload" in again
        assert secrets_in(server, service) == []
        assert {c["name"] for c in json.loads(jobsphere(data, "dataset", "list", "--json"))} >= {"first", "made"}
