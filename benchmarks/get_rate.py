"""Get per second against an empty handler: what is left of gRPC's own speed, with few jobs stored and with many."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
from tests.live import live_server

from benchmarks.figures import Figure
from benchmarks.stored_jobs import FEW, MANY, Stored, stored

IN_FLIGHT = 32
SECONDS = 3.0
ROUNDS = 3
GET = "/yandex.cloud.datasphere.v2.jobs.ProjectJobService/Get"


def run() -> list[Figure]:
    """Measure all in turns, so that a change of the host's pace hits all."""
    with ExitStack() as stack:
        places = [stored(count) for count in (FEW, MANY)]
        ports = [stack.enter_context(live_server(place.data)).ports["grpc"] for place in places]
        tls = places[0].data / "tls"
        ways = [(port, p.data / "tls", _requests(p)) for port, p in zip(ports, places, strict=True)]
        size = asyncio.run(_size(*ways[0]))
        ways += [(stack.enter_context(_empty(tls, answered)), tls, ways[0][2]) for answered in (0, size)]
        rates: list[list[float]] = [[] for _ in ways]
        for _ in range(ROUNDS):
            for found, (port, certificates, asked) in zip(rates, ways, strict=True):
                found.append(asyncio.run(_rate(port, (certificates / "ca.pem").read_bytes(), asked)))
    few, many, limit, same = map(statistics.median, rates)
    return [
        Figure(f"Get, {IN_FLIGHT} in flight, {MANY:,} jobs", many, "/s", limit, "empty handler", target=0.9),
        Figure(f"Get, {IN_FLIGHT} in flight, {MANY:,} jobs", many, "/s", same, "one that answers as many bytes"),
        Figure(f"Get, {IN_FLIGHT} in flight, {MANY:,} jobs", many, "/s", few, f"{FEW:,} jobs", target=0.9),
    ]


@contextmanager
def _empty(tls: Path, size: int) -> Generator[int]:
    """The port of a server that answers ``size`` bytes, whatever it is asked."""
    command = [sys.executable, "-m", "benchmarks.empty_server", str(tls), str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout
            yield int(server.stdout.readline())
        finally:
            server.kill()


async def _size(port: int, tls: Path, requests: list[bytes]) -> int:
    """The bytes of an answer, on the average."""
    credentials = grpc.ssl_channel_credentials((tls / "ca.pem").read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        get = channel.unary_unary(GET)
        return round(statistics.mean([len(await get(request)) for request in requests[:100]]))


def _requests(place: Stored) -> list[bytes]:
    """For random ones of its jobs."""
    sample = random.Random(1).sample(place.names, min(len(place.names), 10_000))
    return [b"\x0a\x14" + name.encode() for name in sample]


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
