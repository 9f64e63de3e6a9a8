"""The limits: a bare process, and one behind bubblewrap with the options that this project gives it."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from jobsphere.domain.attempt import SandboxPlan
from jobsphere.runner import sandbox
from jobsphere.runner.rundir import ROOT_DIRECTORIES

AT_ONCE = 4


def plain_rate(jobs: int) -> float:
    """`true` processes per second, one after another."""
    begin = time.perf_counter()
    for _ in range(jobs):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return jobs / (time.perf_counter() - begin)


def plain_first_line() -> float:
    """Milliseconds until a shell has said its first word."""
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


def fenced_rate(jobs: int) -> float:
    """`bash -c true` in the sandbox per second, some at a time: nothing is stored, and nobody looks at them."""
    with fenced_attempt() as (_, fence):
        once: Callable[[int], None] = lambda _: _fenced(fence)  # noqa: E731
        begin = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(once, range(jobs)))
        return jobs / (time.perf_counter() - begin)


@contextmanager
def fenced_attempt() -> Iterator[tuple[str, sandbox.Sandbox]]:
    """The run directory of an attempt that does not run, and the sandbox as this project makes it for one."""
    with tempfile.TemporaryDirectory(prefix="jobsphere-bench-") as folder:
        data = Path(folder, "data")
        attempt = data / "attempts" / "a1"
        for name in (*ROOT_DIRECTORIES, "../../run"):
            (attempt / name).mkdir(parents=True)
        sandbox.warm()
        yield str(attempt), sandbox.Sandbox(str(attempt), SandboxPlan(), str(data), None)


def _fenced(fence: sandbox.Sandbox) -> None:
    command = fence.command(["/bin/bash", "-c", "true"], {"PATH": "/usr/bin:/bin"}, f"{fence.root}/work")
    subprocess.run(
        command.argv, env=command.environment, cwd=command.cwd, pass_fds=command.descriptors, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    for fd in command.descriptors:
        os.close(fd)
