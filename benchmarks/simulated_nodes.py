"""Nodes that run nothing: an attempt there is an entry in a table and a timer, so that one process holds thousands.

They keep to the runner's port as real ones do: records appear in their order, hints follow, and what ended stays until
it is tidied. Beyond that they hold the server to its word: none is given more than it has, no attempt is started twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from jobsphere.domain.artifact import ArtifactKind, File, FileDesc
from jobsphere.domain.attempt import (
    AttemptPlan,
    Collected,
    CollectedFile,
    Ended,
    EndReason,
    LogChunk,
    Observation,
    Started,
    StopOrder,
)
from jobsphere.domain.capacity import GIB, Limits, NodeCapacity
from jobsphere.domain.node_ports import Node, unknown

_ROUNDING = 1e-6
CPUS, MEMORY, GPUS_EVERY = 8.0, 32 * GIB, 10
"""What each node has; one of so many has two GPUs as well."""
_UNKNOWN = Observation(known=False)
_KILLED = 137


class Watcher(Protocol):
    """Who is told of what happens on the nodes, on the event loop."""

    def launched(self, plan: AttemptPlan, node: str) -> None:
        """A program was started."""
        ...

    def ended(self, plan: AttemptPlan, node: str) -> None:
        """It has ended, and its part of the node is free."""
        ...


class OvercommittedError(Exception):
    """A node was given more than it has, or an attempt twice."""


def durations(seed: int, mean_s: float) -> Callable[[str], float]:
    """How long each job runs, in seconds, by its id: exponential, the same in each run with this seed."""

    def duration(job_id: str) -> float:
        part = (zlib.crc32(f"{seed}/{job_id}".encode()) + 1) / (1 << 32)
        return -math.log(part) * mean_s

    return duration


@dataclass(slots=True)
class _Attempt:
    plan: AttemptPlan
    started: Started
    timer: asyncio.TimerHandle | None = None
    ended: Ended | None = None
    collected: Collected | None = None


class SimulatedNodes:
    """:class:`jobsphere.domain.node_ports.Nodes`, all ready, whose programs take their time and do nothing.

    Args:
        count: How many; each has 8 CPUs and 32 GiB, every tenth two GPUs.
        duration: How long the program of a job runs, in seconds, by the job's id.
        watcher: Is told of each start and end.
        now: The time for records.
    """

    def __init__(
        self, count: int, duration: Callable[[str], float], watcher: Watcher, now: Callable[[], datetime]
    ) -> None:
        self.duration = duration
        self.watcher = watcher
        self.now = now
        self.overcommitted: list[str] = []
        """What was asked of nodes that they cannot do: nothing, if the server keeps its word."""
        self._nodes: dict[str, Node] = {}
        for number in range(count):
            gpus = () if number % GPUS_EVERY else (0, 1)
            name = f"node-{number:05}"
            self._nodes[name] = Node(name, NodeCapacity(CPUS, MEMORY, gpus))
        self._runners = {node.name: SimulatedRunner(node, self) for node in self._nodes.values()}
        self.hint: Callable[[str], None] = lambda _: None

    def all(self) -> Mapping[str, Node]:
        return self._nodes

    def runner(self, name: str) -> SimulatedRunner:
        if name not in self._runners:
            raise unknown(name)
        return self._runners[name]

    def subscribe(self, changed: Callable[[], None], hint: Callable[[str], None]) -> None:  # noqa: ARG002 they stay
        self.hint = hint

    def stop(self) -> None:
        """Nothing happens any more."""
        for runner in self._runners.values():
            runner.halt()


class SimulatedRunner:
    """:class:`jobsphere.domain.attempt_ports.KeepingRunner` of one such node."""

    def __init__(self, node: Node, nodes: SimulatedNodes) -> None:
        self.node = node.name
        self._capacity = node.capacity
        self._nodes = nodes
        self._held: dict[str, _Attempt] = {}
        self._cpus, self._memory = 0.0, 0
        self._gpus: set[int] = set()

    async def launch(self, plan: AttemptPlan) -> None:
        if plan.attempt_id in self._held:
            return  # asked again, as it may be
        self._take(plan)
        self._held[plan.attempt_id] = attempt = _Attempt(plan, Started(self._nodes.now()))
        self._nodes.watcher.launched(plan, self.node)
        loop = asyncio.get_running_loop()
        attempt.timer = loop.call_later(self._nodes.duration(plan.job_id), self._end, attempt, EndReason.EXITED, 0)
        loop.call_soon(self._nodes.hint, plan.attempt_id)

    async def observe(self, attempt_id: str) -> Observation:
        held = self._held.get(attempt_id)
        if held is None:
            return _UNKNOWN
        alive = held.collected is None
        return Observation(True, alive, started=held.started, ended=held.ended, collected=held.collected)

    async def stop(self, attempt_id: str, order: StopOrder) -> None:  # noqa: ARG002 they never take their time
        held = self._held.get(attempt_id)
        if held is not None and held.ended is None:
            self._end(held, EndReason.STOPPED, _KILLED)

    async def deliver(self, project_id: str, attempt_id: str, files: Sequence[CollectedFile]) -> None:
        """The bytes of simulated programs are nowhere: only their hashes are stored."""

    async def deliver_dataset(self, project_id: str, attempt_id: str, name: str, dataset_id: str) -> None:
        """No simulated program makes one."""
        raise NotImplementedError

    async def tidy(self, attempt_id: str) -> None:
        self._held.pop(attempt_id, None)

    async def remove(self, attempt_id: str) -> None:
        self._held.pop(attempt_id, None)

    async def attempts(self) -> Sequence[str]:
        return list(self._held)

    async def tidied(self) -> Sequence[str]:
        return ()

    def subscribe(self, hint: Callable[[str], None]) -> None:
        """Hints come through the nodes."""

    async def read_logs(self, attempt_id: str, offset: int, limit_bytes: int) -> LogChunk:  # noqa: ARG002
        return LogChunk((), offset, complete=True)

    async def log_size(self, attempt_id: str) -> int:  # noqa: ARG002
        return 0

    async def wait_logs(self, attempt_id: str, offset: int, timeout_s: float) -> None:
        """Nothing is ever written."""

    def halt(self) -> None:
        """End without a word to anybody, as a whole cluster does that is switched off."""
        for held in self._held.values():
            if held.timer is not None:
                held.timer.cancel()

    def _end(self, attempt: _Attempt, reason: EndReason, code: int) -> None:
        now, plan = self._nodes.now(), attempt.plan
        if attempt.timer is not None:
            attempt.timer.cancel()
        attempt.ended = Ended(now, reason, code)
        sha256 = hashlib.sha256(plan.attempt_id.encode()).hexdigest()
        log = CollectedFile(ArtifactKind.LOG, File(FileDesc("stdout.txt"), sha256, len(plan.cmd)), "stdout.txt")
        attempt.collected = Collected(now, (log,))
        self._give_back(plan)
        self._nodes.watcher.ended(plan, self.node)
        self._nodes.hint(plan.attempt_id)

    def _take(self, plan: AttemptPlan) -> None:
        limits = plan.limits or Limits(0, 0)
        has, gpus = self._capacity, {*limits.gpus}
        cpus, memory = self._cpus + limits.cpus, self._memory + limits.memory_bytes
        fits = cpus <= has.cpus + _ROUNDING and memory <= has.memory_bytes
        if not fits or not gpus <= {*has.gpus} - self._gpus:
            self._nodes.overcommitted.append(f"{plan.attempt_id} on {self.node}")
            raise OvercommittedError(f"{self.node} has no room for {plan.attempt_id}")
        self._cpus, self._memory = cpus, memory
        self._gpus |= gpus

    def _give_back(self, plan: AttemptPlan) -> None:
        limits = plan.limits or Limits(0, 0)
        self._cpus -= limits.cpus
        self._memory -= limits.memory_bytes
        self._gpus -= {*limits.gpus}
