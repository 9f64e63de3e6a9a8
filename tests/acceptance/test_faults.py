"""A whole server among faults: what has to be told is told, nothing is lost, and it lives on."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from tests.acceptance.jobfiles import log_text, run_dir
from tests.grpc_client import Api
from tests.live import BIN, HANG_S, LiveServer, live_server, unmount, wait_for

SOAK = bool(os.environ.get("JOBSPHERE_SOAK"))
MIB = 1 << 20
LINE_BYTES = 10 << 30 if SOAK else 32 * MIB
FLOOD_BYTES = 256 * MIB if SOAK else 64 * MIB
LOGS = 10_000 if SOAK else 1_000
SERVER_MIB = 100
"""How much more memory a server may have after a flood than before."""
DISK_BYTES = 48 * MIB
OUT = [pb.FileDesc(path="out.txt")]
GOES_ON = "echo up; i=0; until [ -e go ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo end; echo 1 > out.txt"


@pytest.fixture
def api(server: LiveServer) -> Iterator[Api]:
    api = Api.of(server)
    yield api
    api.close()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", folder], check=False).returncode:
        pytest.skip("a file system of its own for this test takes root")
    try:
        yield folder
    finally:
        unmount(folder)


def running(api: Api, project: str, data: Path, cmd: str = GOES_ON) -> str:
    """A job whose program has said that it is up."""
    job_id = api.create(project, cmd, output_files=OUT)
    api.execute(job_id)
    wait_for(lambda: "up\n" in log_text(data, job_id), "the program runs")
    return job_id


def refused(call: Any) -> tuple[str, str]:
    """The code and the sentence of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code().name, raised.value.details()  # pyright: ignore[reportAttributeAccessIssue]


def memory_mib(server: LiveServer) -> int:
    assert server.process
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() // MIB


def lines_without_a_gap(text: str) -> int:
    """How many numbered lines a log has; none is missing or there twice."""
    numbers = [int(line.split()[1]) for line in text.splitlines() if line.startswith("line ")]
    assert numbers == list(range(1, len(numbers) + 1))
    return len(numbers)


@pytest.mark.fault("a file system that has become read-only")
def test_a_start_on_a_read_only_disk_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        with live_server(disk / "data") as server:
            api, project = Api.of(server), server.client().project
            job_id = api_done(api, project)
            api.wait(job_id)
            api.close()
            wait_for(lambda: (disk / "data" / "ended" / f"{job_id}-1").exists(), "it is tidied")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        command = [BIN / "jobsphere", "up", "--data-dir", disk / "data", "--grpc-port", "0", "--proxy-port", "0"]
        command += ["--http-port", "0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False)
        told = done.stderr.splitlines()[-1]
        assert done.returncode == 1
        assert "Read-only file system; see that its disk can be written" in told
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        with live_server(disk / "data") as server:
            api = Api.of(server)
            assert api.get(job_id).status == pb.SUCCESS
            assert api.wait(api_done(api, project)).status == pb.SUCCESS
            api.close()


def api_done(api: Api, project: str) -> str:
    job_id = api.create(project, "true")
    api.execute(job_id)
    return job_id


@pytest.mark.fault("a file system that is full for all")
def test_a_disk_that_is_full_for_all_and_then_has_room_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk, live_server(disk / "data", "--sandbox", "none") as server:
        api, project = Api.of(server), server.client().project
        api.retried.clear()
        job_id = running(api, project, server.data_dir, GOES_ON.replace("-e go", f"-e {tmp_path}/go"))
        with (disk / "foreign").open("wb", buffering=0) as file:
            for size in (MIB, 4096, 1):
                fill(file.fileno(), size)
            told = {refused(lambda: api.create(project, "x" * 100_000)) for _ in range(3)}
            assert {code for code, _ in told} == {"RESOURCE_EXHAUSTED"}, told
            assert all("full" in sentence for _, sentence in told)
            assert api.get(job_id).status == pb.EXECUTING
            (tmp_path / "go").touch()
            # The room that it kept for its last words may be enough for the server to move it on, too.
            places = [run_dir(server.data_dir, job_id), server.data_dir / "ended" / f"{job_id}-1"]
            wait_for(lambda: any((place / "collected").exists() for place in places), "its end is written down")
        (disk / "foreign").unlink()
        job = api.wait(job_id)
        assert job.status in {pb.SUCCESS, pb.ERROR}
        assert job.status == pb.SUCCESS or "No space left on device" in job.status_details
        lines_without_a_gap(api.stdout(job_id).decode())
        assert api.wait(api_done(api, project)).status == pb.SUCCESS
        api.close()


def fill(fd: int, size: int) -> None:
    try:
        while os.write(fd, bytes(size)):
            pass
    except OSError:
        return


@pytest.mark.fault("corrupted blob")
def test_a_corrupted_blob_is_told_and_brought_anew(server: LiveServer, api: Api) -> None:
    project, content = server.client().project, os.urandom(1000)
    sha = hashlib.sha256(content).hexdigest()
    api.create(project, "cat in", {"in": content})
    (blob,) = server.data_dir.glob(f"blobs/{project}/*/{sha}")
    blob.chmod(0o644)
    blob.write_bytes(b"?" + content[1:])
    damaged = api.create(project, "cat in", {"in": content})
    api.execute(damaged)
    job = api.wait(damaged)
    assert job.status == pb.ERROR
    assert "'in' is corrupted; create the job again to upload it" in job.status_details
    assert api.stdout(damaged) == b""

    again = api.create(project, "cat in > out.txt", {"in": content}, output_files=OUT)
    api.execute(again)
    assert api.download(again, api.wait(again).output_files) == {"out.txt": content}


@pytest.mark.fault("SIGSTOP on the supervisor")
def test_a_stopped_supervisor_holds_up_nobody_and_goes_on(server: LiveServer, api: Api) -> None:
    project, data = server.client().project, server.data_dir
    job_id = running(api, project, data)
    supervisor = json.loads((run_dir(data, job_id) / "claim").read_text())["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    assert api.wait(api_done(api, project)).status == pb.SUCCESS
    assert api.get(job_id).status == pb.EXECUTING
    os.kill(supervisor, signal.SIGCONT)
    (run_dir(data, job_id) / "work" / "go").touch()
    assert api.wait(job_id).status == pb.SUCCESS
    assert lines_without_a_gap(api.stdout(job_id).decode())


@pytest.mark.fault("SIGSTOP on the supervisor")
def test_a_cancel_wakes_a_stopped_supervisor(server: LiveServer, api: Api) -> None:
    job_id = running(api, server.client().project, server.data_dir)
    supervisor = json.loads((run_dir(server.data_dir, job_id) / "claim").read_text())["pid"]
    os.kill(supervisor, signal.SIGSTOP)
    api.cancel(job_id)
    assert api.wait(job_id).status == pb.CANCELLED
    assert lines_without_a_gap(api.stdout(job_id).decode())


@pytest.mark.fault("log line of 10 GiB without an end")
@pytest.mark.timeout(3600)
def test_a_line_without_an_end_is_shown_in_pieces(server: LiveServer, api: Api) -> None:
    before = memory_mib(server)
    job_id = api.create(server.client().project, f"head -c {LINE_BYTES} /dev/zero | tr '\\0' x")
    api.execute(job_id)
    size, rest = 0, b""
    for answer in api.jobs.ReadLogs(service_pb.ReadProjectJobLogsRequest(job_id=job_id), timeout=3600):
        for log in answer.logs:
            if log.HasField("standard_stream"):
                size += len(log.content)
                rest = rest or log.content.strip(b"x")
    assert (size, rest) == (LINE_BYTES, b"")
    job = api.wait(job_id)
    assert [f.size_bytes for f in job.log_files if f.desc.path == "stdout.txt"] == [LINE_BYTES]
    assert memory_mib(server) < before + SERVER_MIB
    api.call(api.jobs.Delete, service_pb.DeleteProjectJobRequest(job_id=job_id))


@pytest.mark.fault("client that stops reading a stream")
def test_a_client_that_stops_reading_costs_little_and_misses_nothing(server: LiveServer, api: Api) -> None:
    project, before = server.client().project, memory_mib(server)
    job_id = api.create(project, f"yes 0123456789abcde | head -c {FLOOD_BYTES}")
    api.execute(job_id)
    stream = api.jobs.ReadLogs(service_pb.ReadProjectJobLogsRequest(job_id=job_id), timeout=600)
    content = [out_of(next(stream))]
    assert api.wait(job_id).status == pb.SUCCESS
    assert api.wait(api_done(api, project)).status == pb.SUCCESS
    assert memory_mib(server) < before + SERVER_MIB
    content += [out_of(answer) for answer in stream]
    assert b"".join(content) == b"0123456789abcde\n" * (FLOOD_BYTES // 16)


def out_of(answer: service_pb.ReadProjectJobLogsResponse) -> bytes:
    return b"".join(log.content for log in answer.logs if log.HasField("standard_stream"))


@pytest.mark.fault("10,000 log files")
def test_many_ended_jobs_make_no_start_slow(tmp_path: Path) -> None:
    """Their run directories are there; their jobs are not, so that the sweep after the start removes them."""
    with live_server(tmp_path / "data") as server:
        api, project = Api.of(server), server.client().project
        kept = api_done(api, project)
        api.wait(kept)
        wait_for(lambda: (server.data_dir / "ended" / f"{kept}-1").exists(), "it is tidied")
        api.close()
        server.stop()
        for number in range(LOGS):
            folder = server.data_dir / "ended" / f"{number:020d}-1"
            folder.mkdir()
            (folder / "logs").write_bytes(b"")
        server.start()
        api = Api.of(server)
        assert len(list((server.data_dir / "ended").iterdir())) > LOGS // 2, "the start does not wait for them"
        assert api.get(kept).status == pb.SUCCESS
        api.logs(kept)
        wait_for(lambda: os.listdir(server.data_dir / "ended") == [f"{kept}-1"], "what is nobody's is removed")
        api.close()
