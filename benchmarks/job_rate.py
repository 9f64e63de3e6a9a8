"""`true` jobs per second, from Create to SUCCESS, many at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.grpc_client import Api
from tests.live import live_server, wait_for
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from benchmarks.figures import Figure

JOBS = 300
AT_ONCE = 32
CLIENTS = 8


def run() -> list[Figure]:
    """Measure this server, HyperQueue if it is here, and bare spawns."""
    figures = []
    limit = _spawns()
    peer = _hyperqueue()
    ours = _jobsphere()
    figures.append(Figure("true jobs", ours, "/s", limit, "posix_spawn one by one"))
    if peer is not None:
        figures.append(Figure("true jobs", ours, "/s", peer, "HyperQueue"))
    return figures


def _jobsphere() -> float:
    at_once = ("--jobs-at-once", str(AT_ONCE))
    with (
        tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder,
        live_server(Path(folder) / "data", *at_once) as server,
    ):
        api, project = Api.of(server), server.client().project
        _submit(api, project)
        begin = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            jobs = list(pool.map(lambda _: _submit(api, project), range(JOBS)))
        request = pb.ListProjectJobRequest(
            project_id=project, page_size=1, filter="status IN (CREATING, PREPARING, EXECUTING, UPLOADING_OUTPUT)"
        )
        wait_for(lambda: not api.call(api.jobs.List, request).jobs, "all jobs have ended", 600)
        took = time.perf_counter() - begin
        assert len(jobs) == JOBS
        api.close()
    return JOBS / took


def _submit(api: Api, project: str) -> str:
    job_id = api.create(project, "true")
    api.execute(job_id)
    return job_id


def _spawns() -> float:
    begin = time.perf_counter()
    for _ in range(JOBS):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return JOBS / (time.perf_counter() - begin)


_HYPERQUEUE = """
import sys, time
from hyperqueue import LocalCluster, Job
from hyperqueue.cluster import WorkerConfig

with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=2))
    client = cluster.client()
    def submit():
        job = Job()
        job.program(["true"])
        return client.submit(job)
    client.wait_for_jobs([submit()])
    begin = time.perf_counter()
    client.wait_for_jobs([submit() for _ in range(int(sys.argv[1]))])
    print(int(sys.argv[1]) / (time.perf_counter() - begin))
"""


def _hyperqueue() -> float | None:
    """Its rate of separate jobs; None where it is not installed."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        done = subprocess.run(
            [sys.executable, "-c", _HYPERQUEUE, str(JOBS)], cwd=folder, capture_output=True, text=True, check=False
        )
    if "No module named" in done.stderr:
        return None
    if done.returncode != 0:
        raise RuntimeError(f"HyperQueue failed: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])
