"""Start and idle: what a server takes before anybody uses it, and what each running job adds."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from tests.acceptance.jobfiles import run_dir
from tests.grpc_client import Api
from tests.live import live_server
from yandex.cloud.datasphere.v2.jobs import jobs_pb2

from benchmarks.figures import Figure
from benchmarks.memory import resident_mib, unique_mib

STARTS, JOBS = 5, 8


def run() -> list[Figure]:
    """The second start and later ones: the first makes keys and certificates."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        data, took = Path(folder) / "data", []
        for _ in range(STARTS + 1):
            begin = time.perf_counter()
            with live_server(data) as server:
                took.append(time.perf_counter() - begin)
                assert server.process
                memory = resident_mib(server.process.pid)
        with live_server(data) as server:
            supervisors = _supervisors(Api.of(server), server.client().project, data)
    return [
        Figure("start to ready", statistics.median(took[1:]), "s", target=1, at_most=True),
        Figure("first start, which makes keys and certificates", took[0], "s"),
        Figure("idle server", memory, "MiB", target=120, at_most=True),
        Figure("a supervisor's own memory", supervisors, "MiB", target=8, at_most=True),
    ]


def _supervisors(api: Api, project: str, data: Path) -> float:
    jobs = [api.create(project, "sleep 600") for _ in range(JOBS)]
    for job_id in jobs:
        api.execute(job_id)
    sizes = []
    for job_id in jobs[:2]:  # as many as run at a time on any host
        api.wait(job_id, jobs_pb2.EXECUTING)
        sizes.append(unique_mib(json.loads((run_dir(data, job_id) / "claim").read_text())["pid"]))
    for job_id in jobs:
        api.cancel(job_id)
    for job_id in jobs:
        api.wait(job_id)
    api.close()
    return statistics.median(sizes)
