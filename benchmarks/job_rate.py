"""`true` jobs per second, from Create to SUCCESS, each durable, with its log and its exit record, 32 at a time."""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.grpc_client import Api
from tests.live import live_server, wait_for
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from benchmarks.figures import Figure
from benchmarks.peers import dask_calls, hyperqueue, ray_jobs, slurm, spawn

JOBS = 300
AT_ONCE = 32
CLIENTS = 8
_LIVE = "status IN (CREATING, PREPARING, EXECUTING, UPLOADING_OUTPUT)"


def run() -> list[Figure]:
    """With the sandbox and without; the limits and the peers that are here."""
    limit, fenced = spawn.plain_rate(JOBS), spawn.fenced_rate(JOBS)
    inside, plain = _rate(), _rate("--sandbox", "none")
    figures = [
        Figure("true jobs, sandbox", inside, "/s", fenced, "bare bubblewrap, 4 at a time", target=0.6),
        Figure("true jobs, no sandbox", plain, "/s", limit, "posix_spawn one by one"),
    ]
    if queue := hyperqueue.measured():
        figures.append(Figure("true jobs, no sandbox", plain, "/s", queue["rate"], "HyperQueue", target=1))
    if ray := ray_jobs.measured():
        figures.append(Figure("true jobs, sandbox", inside, "/s", ray["rate"], "Ray Jobs", target=400))
    if batch := slurm.measured():
        figures.append(Figure("true jobs, sandbox", inside, "/s", batch["rate"], "Slurm", target=5))
    if calls := dask_calls.measured():
        figures.append(Figure("true jobs, no sandbox", plain, "/s", calls["rate"], "dask, nothing kept"))
    return figures


def _rate(*options: str) -> float:
    at_once = ("--jobs-at-once", str(AT_ONCE), *options)
    with (
        tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder,
        live_server(Path(folder) / "data", *at_once) as server,
    ):
        api, project = Api.of(server), server.client().project
        api.wait(_submit(api, project))
        begin = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            jobs = list(pool.map(lambda _: _submit(api, project), range(JOBS)))
        request = pb.ListProjectJobRequest(project_id=project, page_size=1, filter=_LIVE)
        wait_for(lambda: not api.call(api.jobs.List, request).jobs, "all jobs have ended", 600)
        took = time.perf_counter() - begin
        assert len(jobs) == JOBS
        api.close()
    return JOBS / took


def _submit(api: Api, project: str) -> str:
    job_id = api.create(project, "true")
    api.execute(job_id)
    return job_id
