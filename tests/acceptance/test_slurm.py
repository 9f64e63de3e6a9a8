"""A server whose jobs are jobs of Slurm: a real one, of one node. Crashes, cancels and lost nodes on both sides."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from tests.acceptance.jobfiles import run_dir
from tests.grpc_client import Api
from tests.live import LiveServer, live_server, wait_for
from tests.slurm import NAME, NODE, PARTITION, Slurm

WAITING = "echo begun; until [ -e go ]; do sleep 0.05; done; cat in.txt > out.txt; echo ended"
_SBATCH = """#!/bin/sh
touch {folder}/called
while [ -e {folder}/hold-before ]; do sleep 0.05; done
{sbatch} "$@"
code=$?
touch {folder}/done
while [ -e {folder}/hold-after ]; do sleep 0.05; done
exit $code
"""


@pytest.fixture
def held(slurm: Slurm, tmp_path: Path) -> Path:
    """A folder with an sbatch that waits while ``hold-before`` or ``hold-after`` is there, and leaves word."""
    folder, real = tmp_path / "bin", shutil.which("sbatch")
    folder.mkdir()
    (folder / "sbatch").write_text(_SBATCH.format(folder=folder, sbatch=real))
    (folder / "sbatch").chmod(0o755)
    return folder


@pytest.fixture
def server(slurm: Slurm, held: Path, tmp_path: Path) -> Iterator[LiveServer]:
    environ = {
        **slurm.environ,
        "PATH": f"{held}:{os.environ['PATH']}",
        "JOBSPHERE_SLURM_PARTITION": PARTITION,
        "JOBSPHERE_SLURM_POLL_S": "0.3",
        "JOBSPHERE_SLURM_GRACE_S": "1",
        "JOBSPHERE_SECRET_KEY": "",
        "PLANTED": "a-value-that-no-queue-may-keep",
    }
    with live_server(tmp_path / "data", environ=environ) as server:
        yield server


@pytest.fixture
def api(server: LiveServer) -> Iterator[Api]:
    client = Api.of(server)
    yield client
    client.close()


def begin(server: LiveServer, api: Api) -> str:
    """A job that waits for :func:`go`."""
    project = json.loads((server.data_dir / "run" / "server.json").read_text())["project_id"]
    files = [pb.FileDesc(path="out.txt")]
    job_id = api.create(project, WAITING, {"in.txt": b"what was brought\n"}, output_files=files)
    api.execute(job_id)
    return job_id


def go(server: LiveServer, job_id: str) -> None:
    (run_dir(server.data_dir, job_id) / "work" / "go").touch()


def kill(server: LiveServer) -> dict[str, int]:
    ports = server.ports
    assert server.process
    server.process.kill()
    server.process.wait()
    return ports


def named(slurm: Slurm, job_id: str) -> list[str]:
    """All jobs that Slurm has or had for a job."""
    return slurm.told("squeue", "--noheader", "--states=all", "--format=%i", f"--name={job_id}-1").split()


def test_a_job_is_carried_by_slurm_and_by_it_alone(slurm: Slurm, server: LiveServer, api: Api) -> None:
    job_id = begin(server, api)
    api.wait(job_id, pb.EXECUTING)
    (number,) = named(slurm, job_id)
    shown = slurm.told("scontrol", "show", "job", number) + slurm.told("scontrol", "write", "batch_script", number, "-")
    assert "NumCPUs=2" in shown
    assert f"Partition={PARTITION}" in shown
    assert "Requeue=0" in shown
    kept = [path for path in Path(slurm.environ["SLURM_CONF"]).parent.rglob("*") if path.is_file()]
    assert not [path for path in kept if server.environ["PLANTED"].encode() in path.read_bytes()]
    assert not (run_dir(server.data_dir, job_id) / "environ.json").exists()
    go(server, job_id)
    job = api.wait(job_id)
    assert job.status == pb.SUCCESS
    assert api.stdout(job_id) == b"begun\nended\n"
    assert api.download(job_id, list(job.output_files)) == {"out.txt": b"what was brought\n"}
    assert f"node={NAME}" in server.log


@pytest.mark.parametrize("hold", ["hold-before", "hold-after"])
def test_a_server_killed_while_it_submits_has_one_job_and_one_start(
    hold: str, slurm: Slurm, server: LiveServer, api: Api, held: Path
) -> None:
    (held / hold).touch()
    job_id = begin(server, api)
    wait_for((held / ("called" if hold == "hold-before" else "done")).exists, "sbatch was called")
    server.start(kill(server))
    if hold == "hold-before":
        wait_for(lambda: "is being handed to Slurm" in server.log, "the next server finds it under way")
    (held / hold).unlink()
    api.wait(job_id, pb.EXECUTING)
    go(server, job_id)
    assert api.wait(job_id).status == pb.SUCCESS
    assert api.stdout(job_id) == b"begun\nended\n"
    assert len(named(slurm, job_id)) == 1


def test_what_others_do_to_a_job_in_slurm_is_told(slurm: Slurm, server: LiveServer, api: Api) -> None:
    job_id = begin(server, api)
    api.wait(job_id, pb.EXECUTING)
    slurm.told("scancel", *named(slurm, job_id))
    job = api.wait(job_id)
    assert job.status == pb.ERROR
    assert "scancel" in job.status_details


def test_a_job_that_waits_in_slurms_queue_says_why_and_is_cancelled_there(
    slurm: Slurm, server: LiveServer, api: Api
) -> None:
    slurm.told("scontrol", "update", f"nodename={NODE}", "state=drain", "reason=test")
    try:
        job_id = begin(server, api)
        wait_for(lambda: "queue of Slurm (" in api.get(job_id).status_details, "it says why it waits")
        api.cancel(job_id)
        assert api.wait(job_id).status == pb.CANCELLED
        assert slurm.jobs()[named(slurm, job_id)[0]] == "CANCELLED"
    finally:
        slurm.told("scontrol", "update", f"nodename={NODE}", "state=resume")


def test_a_job_whose_compute_node_fails_is_lost_and_says_so(slurm: Slurm, server: LiveServer, api: Api) -> None:
    job_id = begin(server, api)
    api.wait(job_id, pb.EXECUTING)
    slurm.kill_node()
    try:
        slurm.told("scontrol", "update", f"nodename={NODE}", "state=down", "reason=test")
        job = api.wait(job_id)
        assert job.status == pb.ERROR
        assert "lost with its compute node" in job.status_details
        assert NODE in job.status_details
    finally:
        slurm.start_node()
