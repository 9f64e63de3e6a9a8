"""How long until a user sees the first line: Create, Execute, ReadLogs, and the job's own start."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from tests.grpc_client import Api
from tests.live import live_server
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from benchmarks.figures import Figure, percentile

WARM_UP = 5
JOBS = 100


def run() -> list[Figure]:
    """Measure ``echo first`` from Create to its line."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder, live_server(Path(folder) / "data") as server:
        api, project = Api.of(server), server.client().project
        for _ in range(WARM_UP):
            _once(api, project)
        times = [_once(api, project) for _ in range(JOBS)]
        limit = [_spawn() for _ in range(JOBS)]
        api.close()
    return [
        Figure("p50", percentile(times, 50), "ms", target=60, at_most=True),
        Figure("p99", percentile(times, 99), "ms"),
        Figure("p50 of the limit", percentile(limit, 50), "ms"),
    ]


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


def _spawn() -> float:
    begin = time.perf_counter()
    out, into = os.pipe()
    action = [(os.POSIX_SPAWN_DUP2, into, 1)]
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "echo first"], {}, file_actions=action)
    os.read(out, 16)
    took = (time.perf_counter() - begin) * 1000
    os.waitpid(pid, 0)
    os.close(out)
    os.close(into)
    return took
