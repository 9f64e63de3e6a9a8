"""Secrets through a whole server: set by the operator, given to jobs, and found nowhere in clear."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path

import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from tests.acceptance.jobfiles import run_dir
from tests.commands import jobsphere
from tests.grpc_client import Api
from tests.live import BIN, LiveServer, live_server, wait_for

PLANTED = ("planted-by-stdin-4711", "planted-by-file-4712", "planted-by-prompt-4713")
DIGESTS = "printenv TOKEN | sha256sum; env | sed -n 's/^FROM-FILE=//p' | sha256sum; printenv PROMPTED | sha256sum"


def in_clear(server: LiveServer, more: Iterable[bytes] = ()) -> list[tuple[str, str]]:
    """Where a planted value can be read: files of the data directory, the server's log, command lines."""
    texts = {str(p): p.read_bytes() for p in server.data_dir.rglob("*") if p.is_file()}
    texts |= {f"/proc/{p.parent.name}": read(p) for p in Path("/proc").glob("[0-9]*/cmdline")}
    texts |= {"the server's log": server.log.encode()} | {f"answer {i}": text for i, text in enumerate(more)}
    return [(value, place) for value in PLANTED for place, text in texts.items() if value.encode() in text]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def prompted(data: Path, name: str, value: str) -> str:
    """Set a secret at the hidden prompt of a terminal: all that the terminal showed."""
    ours, theirs = pty.openpty()
    argv = [BIN / "jobsphere", "secret", "set", name, "--data-dir", data]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        shown = b""
        while b"not shown" not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, f"{value}\n".encode())
        while b"is set" not in shown:
            shown += os.read(ours, 4096)
        assert process.wait(60) == 0
    os.close(ours)
    return shown.decode()


def set_all(data: Path, folder: Path) -> None:
    (folder / "value").write_text(PLANTED[1])
    jobsphere(data, "secret", "set", "TOKEN", value=PLANTED[0].encode() + b"\n")
    jobsphere(data, "secret", "set", "FROM-FILE", "--from-file", str(folder / "value"))
    assert PLANTED[2] not in prompted(data, "PROMPTED", PLANTED[2])


def digests() -> bytes:
    lines = (hashlib.sha256(value.encode() + b"\n").hexdigest() for value in PLANTED)
    return "".join(f"{line}  -\n" for line in lines).encode()


def test_jobs_get_them_and_they_are_nowhere_in_clear(tmp_path: Path) -> None:
    with live_server(tmp_path / "data") as server:
        api, project = Api.of(server), server.client().project
        set_all(server.data_dir, tmp_path)
        listed = json.loads(jobsphere(server.data_dir, "secret", "list", "--json"))
        assert [s["name"] for s in listed] == ["TOKEN", "FROM-FILE", "PROMPTED"]

        job_id = api.create(project, f"{DIGESTS}; touch ready; until [ -e go ]; do sleep 0.05; done; exit 3")
        api.execute(job_id)
        work = run_dir(server.data_dir, job_id) / "work"
        wait_for(lambda: (work / "ready").exists(), "the program runs")
        assert in_clear(server) == []
        (work / "go").touch()
        job = api.wait(job_id)

        assert (job.status, api.stdout(job_id)) == (pb.ERROR, digests())
        jobs = api.call(api.jobs.List, service_pb.ListProjectJobRequest(project_id=project))
        answers = [job.SerializeToString(), jobs.SerializeToString(), json.dumps(listed).encode()]
        answers.append(jobsphere(server.data_dir, "secret", "list").encode())
        assert in_clear(server, answers) == []

        jobsphere(server.data_dir, "secret", "set", "TOKEN", value=b"short")
        own = api.create(project, "echo $TOKEN $PROMPTED", env=pb.Environment(vars={"PROMPTED": "own"}))
        api.execute(own)
        assert api.wait(own).status == pb.SUCCESS
        assert api.stdout(own) == b"short own\n"
        api.close()


def test_logs_are_masked_if_the_operator_says_so(tmp_path: Path) -> None:
    with live_server(tmp_path / "data", environ={"JOBSPHERE_MASK_SECRETS": "true"}) as server:
        api, project = Api.of(server), server.client().project
        set_all(server.data_dir, tmp_path)
        script = "printf %s \"${TOKEN%11}\"; sleep 0.5; echo 11 and on; env | grep '^FROM-FILE' >&2; exit 4"
        job_id = api.create(project, script)
        api.execute(job_id)
        job = api.wait(job_id)

        assert api.stdout(job_id) == b"***** and on\n"
        assert job.status_details.endswith("\nFROM-FILE=*****")
        files = api.download(job_id, job.log_files)
        assert files["stderr.txt"] == b"FROM-FILE=*****\n"
        assert in_clear(server, [job.SerializeToString(), *files.values()]) == []
        api.close()


def test_keys_are_rotated_beside_a_running_server(tmp_path: Path) -> None:
    with live_server(tmp_path / "data") as server:
        data, api, project = server.data_dir, Api.of(server), server.client().project
        set_all(data, tmp_path)

        def works() -> bool:
            job_id = api.create(project, DIGESTS)
            api.execute(job_id)
            return api.wait(job_id).status == pb.SUCCESS and api.stdout(job_id) == digests()

        assert works()
        assert "Sealed anew: 3 of 3" in jobsphere(data, "secret", "rotate-keys", "--new-key")
        assert works()
        assert "Sealed anew: 0 of 3" in jobsphere(data, "secret", "rotate-keys")
        assert "Sealed anew: 3 of 3" in jobsphere(data, "secret", "rotate-keys", "--new-key", "--drop-old")
        assert works()
        (data / "secret.keys").rename(tmp_path / "aside")
        job_id = api.create(project, "true")
        api.execute(job_id)
        assert "Secret 'TOKEN': a stored secret cannot be opened" in api.wait(job_id).status_details
        api.close()


def test_a_key_by_variable_is_replaced_while_a_job_runs(tmp_path: Path) -> None:
    old, new = (b64encode(os.urandom(32)).decode() for _ in range(2))
    first, second = ({**os.environ, "JOBSPHERE_SECRET_KEY": key} for key in (old, f"{new} {old}"))
    with live_server(tmp_path / "data", environ=first) as server:
        data, api, project = server.data_dir, Api.of(server), server.client().project
        jobsphere(data, "secret", "set", "TOKEN", value=b"v1", environ=first)
        words = jobsphere(data, "secret", "rotate-keys", "--new-key", environ=first, code=1)
        assert "put a new one before the others in it" in words
        job_id = api.create(project, "touch ready; until [ -e go ]; do sleep 0.05; done; echo $TOKEN")
        api.execute(job_id)
        work = run_dir(data, job_id) / "work"
        wait_for(lambda: (work / "ready").exists(), "the program runs")
        ports = server.ports
        server.stop()
        server.environ.update(second)
        server.start(ports)
        assert "Sealed anew: 1 of 1" in jobsphere(data, "secret", "rotate-keys", environ=second)

        after = api.create(project, "echo $TOKEN")
        api.execute(after)
        assert api.wait(after).status == pb.SUCCESS, api.get(after).status_details
        assert api.stdout(after) == b"v1\n"
        (work / "go").touch()
        assert api.wait(job_id).status == pb.SUCCESS
        assert api.stdout(job_id) == b"v1\n"
        api.close()


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for args, value, words in (
        (("set", "A B"), b"v", "must have 1 to 63 of the characters"),
        (("set", "A"), b"", "its value is empty"),
        (("set", "A"), b"\xff", "is no UTF-8 text"),
        (("set", "A", "--from-file", str(tmp_path / "gone")), b"", "the value cannot be read"),
        (("set", "A", "--project", "nope"), b"v", "no project 'nope'"),
        (("delete", "A"), b"", "has no secret 'A'"),
    ):
        assert words in jobsphere(data, "secret", *args, value=value, code=1)
    with pytest.raises(AssertionError, match="key number 1 is none"):
        jobsphere(data, "secret", "set", "A", value=b"v", environ={**os.environ, "JOBSPHERE_SECRET_KEY": "x"})
