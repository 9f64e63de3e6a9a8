"""Get per second against an empty handler: what is left of gRPC's own speed with 100,000 jobs stored."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import grpc
from tests.live import live_server

from benchmarks.figures import Figure
from jobsphere.api.codec import encode_job
from jobsphere.api.tls import ensure_certificates
from jobsphere.domain.artifact import File, FileDesc
from jobsphere.domain.job import Argument, EnvironmentSpec, Job, JobSpec
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.system import RandomIds

STORED = 100_000
IN_FLIGHT = 32
SECONDS = 3.0
ROUNDS = 3
GET = "/yandex.cloud.datasphere.v2.jobs.ProjectJobService/Get"


def run() -> list[Figure]:
    """Measure both in turns, so that a change of the host's pace hits both."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        data = Path(folder) / "data"
        with live_server(data) as server:
            project = server.client().project
        requests = asyncio.run(_fill(data, project))
        tls = ensure_certificates(data / "tls", ("127.0.0.1",))
        empty = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.empty_server", str(data / "tls")], stdout=subprocess.PIPE, text=True
        )
        try:
            assert empty.stdout
            empty_port = int(empty.stdout.readline())
            with live_server(data) as server:
                rates: dict[int, list[float]] = {server.ports["grpc"]: [], empty_port: []}
                for _ in range(ROUNDS):
                    for port, found in rates.items():
                        found.append(asyncio.run(_rate(port, tls.ca_pem.read_bytes(), requests)))
                ours, theirs = map(statistics.median, rates.values())
        finally:
            empty.kill()
            empty.wait()
    return [Figure("Get, 32 in flight", ours, "/s", theirs, "empty handler", target=0.8)]


async def _fill(data: Path, project: str) -> list[bytes]:
    """Store the jobs, and give requests for random ones of them."""
    store, ids, now = SqliteJobStore.open(data / "jobsphere.db", encode_job), RandomIds(), datetime.now(UTC)
    names: list[str] = []
    for _ in range(STORED // 1000):
        jobs = [_job(ids.new(), project, now) for _ in range(1000)]
        await asyncio.gather(
            *(store.add_job(j, Operation(ids.new(), OperationKind.CREATE, project, j.id, now, "bench")) for j in jobs)
        )
        names += [j.id for j in jobs]
    await store.close()
    return [b"\x0a\x14" + n.encode() for n in random.Random(1).sample(names, 10_000)]


def _job(job_id: str, project: str, now: datetime) -> Job:
    """A job whose record is about 1.5 KiB."""
    files = tuple(File(FileDesc(f"data/part-{i}.csv", f"PART_{i}"), "ab" * 32, 1000 + i) for i in range(6))
    spec = JobSpec(
        "python train.py ${PART_0}", files, env=EnvironmentSpec((("KEY", "value" * 10),)), instance_types=("c1.4",),
        arguments=tuple(Argument(f"ARG_{i}", "x" * 20) for i in range(6)),
    )  # fmt: skip
    return Job(job_id, project, "bench", now, spec, name="a job", config="cmd: python train.py\n" * 10)


async def _rate(port: int, ca: bytes, requests: list[bytes]) -> float:
    credentials = grpc.ssl_channel_credentials(ca)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        get = channel.unary_unary(GET)
        await get(requests[0])
        until = time.perf_counter() + SECONDS

        async def caller(offset: int) -> int:
            done = offset
            while time.perf_counter() < until:
                await get(requests[done % len(requests)])
                done += 1
            return done - offset

        counts = await asyncio.gather(*(caller(i * 311) for i in range(IN_FLIGHT)))
        return sum(counts) / SECONDS
