"""How long until a user sees the first line: Create, Execute, ReadLogs over gRPC and TLS, and the job's own start."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from tests.grpc_client import Api
from tests.live import live_server
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from benchmarks.figures import Figure, percentile
from benchmarks.peers import dask_calls, hyperqueue, ray_jobs, slurm, spawn

WARM_UP = 5
JOBS = 100


def run() -> list[Figure]:
    """Measure ``echo first`` from Create to its line, with the sandbox and without, and the peers that are here."""
    inside, plain = _times(), _times("--sandbox", "none")
    limit = [spawn.plain_first_line() for _ in range(JOBS)]
    p50 = percentile(inside, 50)
    figures = [
        Figure("p50, sandbox", p50, "ms", target=15, at_most=True),
        Figure("p99, sandbox", percentile(inside, 99), "ms", target=40, at_most=True),
        Figure("p50, no sandbox", percentile(plain, 50), "ms", percentile(limit, 50), "posix_spawn of a shell"),
    ]
    if queue := hyperqueue.measured():
        figures.append(
            Figure("p50, no sandbox", percentile(plain, 50), "ms", queue["first_line"], "HyperQueue", 1, at_most=True)
        )
    if ray := ray_jobs.measured():
        figures.append(Figure("p50, sandbox", p50, "ms", ray["first_line"], "Ray Jobs", 1 / 200, at_most=True))
    if batch := slurm.measured():
        figures.append(Figure("p50, sandbox", p50, "ms", batch["first_line"], "Slurm", 1 / 30, at_most=True))
    if calls := dask_calls.measured():
        figures.append(
            Figure(
                "p50, no sandbox", percentile(plain, 50), "ms", calls["first_line"], "dask, a call that keeps nothing"
            )
        )
    return figures


def _times(*options: str) -> list[float]:
    with (
        tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder,
        live_server(Path(folder) / "data", *options) as server,
    ):
        api, project = Api.of(server), server.client().project
        times = [_once(api, project) for _ in range(WARM_UP + JOBS)][WARM_UP:]
        api.close()
    return times


def _once(api: Api, project: str) -> float:
    begin = time.perf_counter()
    job_id = api.create(project, "echo first")
    api.execute(job_id)
    stream = api.jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id=job_id), metadata=api.metadata)
    for response in stream:
        if any(m.HasField("standard_stream") for m in response.logs):
            break
    took = (time.perf_counter() - begin) * 1000
    stream.cancel()
    api.wait(job_id)
    return took
