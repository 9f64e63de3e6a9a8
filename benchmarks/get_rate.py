"""Get per second against an empty handler: what is left of gRPC's own speed, with few jobs stored and with many."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack

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
        empty = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.empty_server", str(tls)], stdout=subprocess.PIPE, text=True
        )
        stack.callback(empty.wait)
        stack.callback(empty.kill)
        assert empty.stdout
        empty_port = int(empty.stdout.readline())
        ways = [(port, p.data / "tls", _requests(p)) for port, p in zip(ports, places, strict=True)]
        ways.append((empty_port, tls, ways[0][2]))
        rates: list[list[float]] = [[] for _ in ways]
        for _ in range(ROUNDS):
            for found, (port, certificates, asked) in zip(rates, ways, strict=True):
                found.append(asyncio.run(_rate(port, (certificates / "ca.pem").read_bytes(), asked)))
    few, many, limit = map(statistics.median, rates)
    return [
        Figure(f"Get, {IN_FLIGHT} in flight, {MANY:,} jobs", many, "/s", limit, "empty handler", target=0.9),
        Figure(f"Get, {IN_FLIGHT} in flight, {MANY:,} jobs", many, "/s", few, f"{FEW:,} jobs", target=0.9),
    ]


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
