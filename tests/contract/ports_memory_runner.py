"""A runner in memory, driven by its test, and one that fails on demand: for tests of what stands above the port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jobsphere.domain.attempt import (
    AttemptPlan,
    Collected,
    CollectedFile,
    Ended,
    LogChunk,
    LogFrame,
    Observation,
    Started,
    StopOrder,
)
from jobsphere.domain.errors import InvalidArgumentError, UnavailableError
from jobsphere.domain.ports import FinishedFile
from jobsphere.runner.directories import Takers


@dataclass
class MemoryAttempt:
    """What the test makes of one attempt."""

    plan: AttemptPlan
    seen: Observation = Observation(known=True, alive=True)
    frames: list[LogFrame] = field(default_factory=list[LogFrame])
    order: StopOrder | None = None
    launches: int = 1
    tidied: bool = False


class MemoryRunner:
    """Keeps attempts in memory. An offset is the number of frames before it.

    Args:
        outbox: Where collected files are; the test puts files there, under the attempt's id.
        takers: Where they are delivered to.
    """

    def __init__(self, outbox: Path, takers: Takers, node: str = "memory") -> None:
        self.node = node
        self.held: dict[str, MemoryAttempt] = {}
        self.fault: Exception | None = None
        self._outbox = outbox
        self.takers = takers
        self._hints: list[Callable[[str], None]] = []
        self._changed = asyncio.Condition()

    async def launch(self, plan: AttemptPlan) -> None:
        self._fail()
        if plan.attempt_id in self.held:
            self.held[plan.attempt_id].launches += 1
        else:
            self.held[plan.attempt_id] = MemoryAttempt(plan)

    async def observe(self, attempt_id: str) -> Observation:
        self._fail()
        held = self.held.get(attempt_id)
        return held.seen if held else Observation(known=False)

    async def stop(self, attempt_id: str, order: StopOrder) -> None:
        self._fail()
        if attempt_id in self.held:
            self.held[attempt_id].order = order

    async def deliver(self, project_id: str, attempt_id: str, files: Sequence[CollectedFile]) -> None:
        self._fail()
        at = self._outbox / attempt_id
        await self.takers.blobs.adopt(
            project_id, [FinishedFile(c.file.sha256, c.file.size_bytes, at / c.name) for c in files]
        )

    async def deliver_dataset(self, project_id: str, attempt_id: str, name: str, dataset_id: str) -> None:
        self._fail()
        await self.takers.datasets.adopt(project_id, dataset_id, self._outbox / attempt_id / name)

    async def tidy(self, attempt_id: str) -> None:
        self._fail()
        if attempt_id in self.held:
            self.held[attempt_id].tidied = True

    async def remove(self, attempt_id: str) -> None:
        self._fail()
        self.held.pop(attempt_id, None)

    async def attempts(self) -> Sequence[str]:
        self._fail()
        return sorted(name for name, held in self.held.items() if not held.tidied)

    async def tidied(self) -> Sequence[str]:
        self._fail()
        return [name for name, held in self.held.items() if held.tidied]

    def subscribe(self, hint: Callable[[str], None]) -> None:
        self._hints.append(hint)

    async def read_logs(self, attempt_id: str, offset: int, limit_bytes: int) -> LogChunk:
        self._fail()
        held = self.held.get(attempt_id)
        frames = held.frames if held else []
        if not 0 <= offset <= len(frames):
            raise InvalidArgumentError(f"offset {offset} is not one of this log")
        taken: list[LogFrame] = []
        while offset + len(taken) < len(frames) and sum(len(f.content) for f in taken) < max(limit_bytes, 1):
            taken.append(frames[offset + len(taken)])
        after = offset + len(taken)
        collected = held.seen.collected if held else None
        return LogChunk(tuple(taken), after, collected is not None and after >= collected.log_bytes)

    async def log_size(self, attempt_id: str) -> int:
        self._fail()
        return len(self.held[attempt_id].frames) if attempt_id in self.held else 0

    async def wait_logs(self, attempt_id: str, offset: int, timeout_s: float) -> None:
        self._fail()

        def moved() -> bool:
            held = self.held.get(attempt_id)
            return held is not None and (len(held.frames) > offset or held.seen.collected is not None)

        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(moved)
        except TimeoutError:
            return

    async def close(self) -> None:
        """Nothing is held."""

    async def write(self, attempt_id: str, *frames: LogFrame) -> None:
        """The program writes."""
        self.held[attempt_id].frames += frames
        await self._tell(attempt_id)

    async def become(self, attempt_id: str, *records: Started | Ended | Collected, alive: bool | None = None) -> None:
        """Records appear; ``collected`` gets the log's last size, and ends the supervisor."""
        held = self.held[attempt_id]
        for record in records:
            match record:
                case Started():
                    held.seen = replace(held.seen, started=record)
                case Ended():
                    held.seen = replace(held.seen, ended=record)
                case Collected():
                    record = replace(record, log_bytes=len(held.frames))
                    held.seen = replace(held.seen, collected=record, alive=False)
        if alive is not None:
            held.seen = replace(held.seen, alive=alive)
        await self._tell(attempt_id)

    async def _tell(self, attempt_id: str) -> None:
        for hint in self._hints:
            hint(attempt_id)
        async with self._changed:
            self._changed.notify_all()

    def _fail(self) -> None:
        if self.fault is not None:
            raise self.fault


def unavailable() -> UnavailableError:
    """The fault of a node that is out of reach."""
    return UnavailableError("node memory cannot be reached")
