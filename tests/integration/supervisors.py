"""A node of a test's own: a real spawner, real supervisors, and ways to wait for them and to hurt them."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.local import LocalBlobStore
from jobsphere.domain.artifact import Compression, File, FileDesc
from jobsphere.domain.attempt import AttemptPlan, LogFrame, LogStream, Observation, StopOrder
from jobsphere.domain.command import OutputPlace, Placement
from jobsphere.runner.directories import Takers
from jobsphere.runner.local import LocalRunner
from jobsphere.runner.processes import parent_of

HANG_S = 30
PROJECT = "p1"
KEY = b"k" * 32
"""What the nodes of :func:`open_keyed_node` seal and open with."""


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition; far longer than it can take means that it never comes."""
    async with asyncio.timeout(HANG_S):
        while not condition():  # noqa: ASYNC110  what is waited for happens in other processes
            await asyncio.sleep(0.005)
    assert condition(), what


class Node:
    def __init__(self, data: Path, *options: str) -> None:
        self.data = data
        self.volume = data / "storage"
        self.volume.mkdir(parents=True, exist_ok=True)
        self.options = options
        self.runner = self.new_runner()

    def takers(self) -> Takers:
        return Takers(LocalBlobStore(self.data / "blobs"), LocalDatasets(self.data / "datasets"))

    def new_runner(self) -> LocalRunner:
        argv = [sys.executable, "-m", "jobsphere.node", "--data-dir", str(self.data), "--idle", "0.2", *self.options]
        argv += ["--working-storage", str(self.volume)]
        return LocalRunner(self.data, "here", argv, self.takers())

    def plan(self, cmd: str, name: str = "a1", **more: object) -> AttemptPlan:
        return AttemptPlan(name, "job1", PROJECT, cmd, **more)  # type: ignore[arg-type]

    def blob(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.data / "blobs" / PROJECT / sha256[:2] / sha256
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return sha256

    def input(self, data: bytes, target: str, **more: object) -> Placement:
        packing = Compression.ZIP if more.get("unpack") else Compression.NONE
        return Placement(File(FileDesc(target), self.blob(data), len(data), packing), target, **more)  # type: ignore[arg-type]

    async def run(self, cmd: str, name: str = "a1", **more: object) -> Observation:
        await self.runner.launch(self.plan(cmd, name, **more))
        return await self.end(name)

    async def observed(self, name: str, condition: Callable[[Observation], object]) -> Observation:
        changed = asyncio.Event()
        self.runner.subscribe(lambda _: changed.set())
        async with asyncio.timeout(HANG_S):
            while True:
                changed.clear()
                seen = await self.runner.observe(name)
                if condition(seen):
                    return seen
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), 0.5)

    async def end(self, name: str = "a1") -> Observation:
        return await self.observed(name, lambda seen: seen.collected is not None)

    async def frames(self, name: str = "a1") -> list[LogFrame]:
        found, offset, complete = [], 0, False
        while not complete:
            chunk = await self.runner.read_logs(name, offset, 1 << 20)
            found += chunk.frames
            offset, complete = chunk.offset, chunk.complete
        return found

    async def text(self, stream: LogStream = LogStream.OUT, name: str = "a1", path: str = "") -> str:
        frames = await self.frames(name)
        return b"".join(f.content for f in frames if f.stream is stream and f.path == path).decode()

    async def printed(self, mark: str, name: str = "a1") -> None:
        """Until the program has printed it."""
        logs = self.at("logs", name=name)
        await until(lambda: logs.exists() and mark.encode() in logs.read_bytes(), f"{mark} in the log")

    def at(self, *names: str, name: str = "a1") -> Path:
        return self.data.joinpath("attempts", name, *names)

    def supervisor(self, name: str = "a1") -> int:
        return json.loads(self.at("claim", name=name).read_text())["pid"]

    def spawner(self, name: str = "a1") -> int:
        parent = parent_of(self.supervisor(name))
        assert parent
        return parent

    async def kill_supervisor(self, name: str = "a1") -> None:
        os.kill(self.supervisor(name), signal.SIGKILL)
        await self.observed(name, lambda seen: not seen.alive)

    async def close(self) -> None:
        for name in await self.runner.attempts():
            await self.runner.stop(name, StopOrder())
            if (await self.runner.observe(name)).alive:
                await self.end(name)
        await self.runner.close()
        await until(self._spawner_is_gone, "the end of the spawner")

    def _spawner_is_gone(self) -> bool:
        for lock in (self.data / "run").glob("spawner*.lock"):
            with lock.open("r+") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
        return True


def output(path: str) -> OutputPlace:
    return OutputPlace(FileDesc(path), "work/" + path.rstrip("/"))


def gone(pid: int) -> bool:
    """Whether no such process runs; one that nobody has collected yet does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


@contextlib.asynccontextmanager
async def open_node(data: Path, *options: str) -> AsyncIterator[Node]:
    node = Node(data, *options)
    try:
        yield node
    finally:
        await node.close()


@contextlib.asynccontextmanager
async def open_keyed_node(folder: Path) -> AsyncIterator[Node]:
    """A node that opens secrets, with its data in ``folder``, which is made."""
    folder.mkdir()
    (folder / "key").write_bytes(KEY)
    async with open_node(folder) as node:
        yield node
