"""Get per second against an empty handler: what is left of gRPC's own speed, with few jobs stored and with many."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import grpc
from tests.live import live_server

from benchmarks.figures import Figure
from benchmarks.stored_jobs import FEW, MANY, fill

IN_FLIGHT = 32
SECONDS = 3.0
ROUNDS = 3
GET = "/yandex.cloud.datasphere.v2.jobs.ProjectJobService/Get"


def run() -> list[Figure]:
    """Measure all in turns, so that a change of the host's pace hits all."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder, ExitStack() as stack:
        servers = [_Server(Path(folder) / f"data-{count}", count) for count in (FEW, MANY)]
        for server in servers:
            server.start(stack)
        tls = servers[0].data / "tls"
        empty = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.empty_server", str(tls)], stdout=subprocess.PIPE, text=True
        )
        stack.callback(empty.wait)
        stack.callback(empty.kill)
        assert empty.stdout
        empty_port, requests = int(empty.stdout.readline()), servers[0].requests
        ways = [(s.port, s.data / "tls", s.requests) for s in servers] + [(empty_port, tls, requests)]
        rates: list[list[float]] = [[] for _ in ways]
        for _ in range(ROUNDS):
            for found, (port, certificates, asked) in zip(rates, ways, strict=True):
                found.append(asyncio.run(_rate(port, (certificates / "ca.pem").read_bytes(), asked)))
    few, many, limit = map(statistics.median, rates)
    return [
        Figure(f"Get, {IN_FLIGHT} in flight, {MANY:,} jobs", many, "/s", limit, "empty handler", target=0.9),
        Figure(f"Get, {IN_FLIGHT} in flight, {MANY:,} jobs", many, "/s", few, f"{FEW:,} jobs", target=0.9),
    ]


class _Server:
    """One whose database has ``count`` jobs."""

    def __init__(self, data: Path, count: int) -> None:
        self.data = data
        with live_server(data) as server:
            project = server.client().project
        names = asyncio.run(fill(data, project, count))
        self.requests = [b"\x0a\x14" + n.encode() for n in random.Random(1).sample(names, min(count, 10_000))]

    def start(self, stack: ExitStack) -> None:
        self.port = stack.enter_context(live_server(self.data)).ports["grpc"]


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
