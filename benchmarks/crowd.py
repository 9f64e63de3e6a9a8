"""Many jobs running and each with a reader of its log: what the server needs for them."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import grpc
from tests.grpc_client import Api
from tests.live import live_server
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2_grpc import ProjectJobServiceStub

from benchmarks.figures import Figure
from benchmarks.memory import cpu_s, resident_mib

JOBS = 1_000
SECONDS = 20.0
EVERY_S = 10
_SAY = f"exec 3<> <(:); while echo tick; do read -r -t {EVERY_S} -u 3; done; exit 0"
"""A line each ten seconds, and no process is started for it."""


def run() -> list[Figure]:
    """CPU time and memory of the server's process, from when all of them run."""
    at_once = ("--jobs-at-once", str(JOBS))
    with (
        tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder,
        live_server(Path(folder) / "data", *at_once) as server,
    ):
        assert server.process
        api, project, pid = Api.of(server), server.client().project, server.process.pid
        jobs = [api.create(project, _SAY) for _ in range(JOBS)]
        for job_id in jobs:
            api.execute(job_id)
        share, lines = asyncio.run(_read_all(server.ports["grpc"], server.data_dir / "tls" / "ca.pem", jobs, pid))
        memory = resident_mib(pid)
        for job_id in jobs:
            api.cancel(job_id)
        for job_id in jobs:
            api.wait(job_id)
        api.close()
    return [
        Figure(f"server, {JOBS:,} jobs and readers", share, "cores", target=1, at_most=True),
        Figure("its memory", memory, "MiB", target=1024, at_most=True),
        Figure("lines read meanwhile", lines / SECONDS, "/s"),
    ]


async def _read_all(port: int, ca: Path, jobs: list[str], pid: int) -> tuple[float, int]:
    """Follow all logs; how many cores the server took for some time after each had its first line, and lines read."""
    lines, first = 0, asyncio.Event()
    seen: set[str] = set()

    async def follow(stub: ProjectJobServiceStub, job_id: str) -> None:
        nonlocal lines
        async for answer in stub.ReadLogs(pb.ReadProjectJobLogsRequest(job_id=job_id)):  # pyright: ignore
            lines += sum(m.content.count(b"\n") for m in answer.logs if m.HasField("standard_stream"))
            if lines and job_id not in seen:
                seen.add(job_id)
                if len(seen) == len(jobs):
                    first.set()

    credentials = grpc.ssl_channel_credentials(ca.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        stub = ProjectJobServiceStub(channel)
        readers = [asyncio.create_task(follow(stub, job_id)) for job_id in jobs]
        await asyncio.wait_for(first.wait(), 600)
        before, begin, read = cpu_s(pid), time.perf_counter(), lines
        await asyncio.sleep(SECONDS)
        share = (cpu_s(pid) - before) / (time.perf_counter() - begin)
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        return share, lines - read
