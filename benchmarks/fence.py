"""What a sandbox and a control group add to the start of a program."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import nullcontext

from benchmarks.figures import Figure
from benchmarks.peers.spawn import fenced_attempt
from jobsphere.domain.capacity import GIB, Limits
from jobsphere.runner import cgroups
from jobsphere.runner.cgroups import Group
from jobsphere.runner.confinement import Confinement, Unconfined

ROUNDS = 200
_SAY = ("/bin/sh", "-c", "echo up")
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "WORD": "value"}


def run() -> list[Figure]:
    """All three in turns."""
    with fenced_attempt() as (attempt, fence):
        plain = Unconfined(attempt)
        ways: dict[str, tuple[list[float], Callable[[], float]]] = {
            "plain": ([], lambda: _first_word(plain, None)),
            "sandbox": ([], lambda: _first_word(fence, None)),
            "limits": ([], lambda: _first_word(plain, Limits(1, GIB))),
        }
        for number in range(ROUNDS + 10):
            for times, measure in ways.values():
                took = measure()
                if number >= 10:
                    times.append(took)
    plainly, sandboxed, limited = (statistics.median(times) for times, _ in ways.values())
    return [
        Figure("first word in the sandbox", sandboxed, "ms", plainly, "plain"),
        Figure("the sandbox adds", sandboxed - plainly, "ms", target=10, at_most=True),
        Figure("limits add, made and removed", limited - plainly, "ms"),
    ]


def _first_word(confinement: Confinement, limits: Limits | None) -> float:
    """Milliseconds until it is read; with limits until the group is gone again, as for each attempt."""
    reader, writer = os.pipe()
    group = Group(cgroups.find(), f"jobsphere-bench-{os.getpid()}") if limits else None
    begin = time.perf_counter()
    if group and limits:
        group.make(limits)
    command = confinement.command(_SAY, _ENVIRONMENT, f"{confinement.root}/work")
    with group.joined() if group else nullcontext():
        process = subprocess.Popen(
            command.argv, env=command.environment, cwd=command.cwd, stdout=writer, pass_fds=command.descriptors
        )
    os.close(writer)
    for fd in command.descriptors:
        os.close(fd)
    os.read(reader, 16)
    took = time.perf_counter() - begin
    os.close(reader)
    process.wait()
    if group:
        begin = time.perf_counter()
        cgroups.end(group.paths)
        cgroups.remove(group.paths)
        took += time.perf_counter() - begin
    return took * 1000
