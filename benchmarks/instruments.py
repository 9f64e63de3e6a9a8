"""Counters between the real parts of a server: what the database is asked, what the dispatcher and the loop take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from jobsphere.domain.capacity import Grant
from jobsphere.domain.job import Job, JobStatus
from jobsphere.domain.meter import Silent
from jobsphere.engine.dispatcher import Dispatcher
from jobsphere.store.database import Change, ChangeEach, Database, Steps, TakenError, Work
from jobsphere.store.records import Row
from jobsphere.store.statements import Statement

T = TypeVar("T")


@dataclass
class Counts:
    """What the database did: statements that read and that write, rows that were written, writes, commits."""

    reads: int = 0
    statements: int = 0
    rows: int = 0
    writes: int = 0
    commits: int = 0

    def copy(self) -> Counts:
        return Counts(*(getattr(self, f.name) for f in fields(self)))

    def since(self, before: Counts) -> Counts:
        """What has come to it since ``before`` was copied of it."""
        return Counts(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))


class CommitMeter(Silent):
    """Counts commits: writes share them on SQLite."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def committed(self, writes: int, seconds: float) -> None:  # noqa: ARG002
        self._counts.commits += 1


class CountedDatabase:
    """:class:`jobsphere.store.database.Database` that counts on its way to the real one."""

    def __init__(self, real: Database, counts: Counts) -> None:
        self._real = real
        self._counts = counts

    async def one(self, statement: Statement, *values: str) -> Sequence[Any] | None:
        self._counts.reads += 1
        return await self._real.one(statement, *values)

    async def all(self, statement: Statement, values: Row) -> Sequence[Any]:
        self._counts.reads += 1
        return await self._real.all(statement, values)

    async def first(self, statement: Statement, values: Row, at_most: int) -> Sequence[Any]:
        self._counts.reads += 1
        return await self._real.first(statement, values, at_most)

    async def newest(
        self, every: Statement, of_status: Statement, values: Row, statuses: Iterable[JobStatus] | None, at_most: int
    ) -> Sequence[Any]:
        self._counts.reads += 1
        return await self._real.newest(every, of_status, values, statuses, at_most)

    async def write(self, work: Work[T]) -> T:
        self._counts.writes += 1
        return await self._real.write(lambda: self._counted(work()))

    async def notify(self, payload: str) -> None:
        """PostgreSQL's alone."""
        self._counts.statements += 1
        await self._real.notify(payload)  # type: ignore[attr-defined]

    async def close(self) -> None:
        await self._real.close()

    def _counted(self, steps: Steps[T]) -> Steps[T]:
        counts = self._counts
        try:
            step = next(steps)
            while True:
                if isinstance(step, ChangeEach):
                    counts.statements += len(step.rows)
                    counts.rows += len(step.rows)
                else:
                    counts.statements += 1
                try:
                    answer = yield step
                except TakenError as error:
                    step = steps.throw(error)
                else:
                    counts.rows += answer if isinstance(step, Change) else 0
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value


class TimedDispatcher(Dispatcher):
    """The real one, with its CPU time; ``freed(of, whose_turn)`` hears whose turn came by whose release."""

    cpu_s = 0.0
    last: TimedDispatcher
    freed: Callable[[str, Sequence[str]], None] = staticmethod(lambda _, __: None)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        TimedDispatcher.last = self

    def place(self, job: Job, at_once: int | None = None) -> Grant | None:
        begin = time.thread_time()
        grant = super().place(job, at_once)
        self.cpu_s += time.thread_time() - begin
        return grant

    def keep(self, job: Job, node: str | None = None) -> None:
        begin = time.thread_time()
        super().keep(job, node)
        self.cpu_s += time.thread_time() - begin

    def release(self, job_id: str) -> list[str]:
        begin = time.thread_time()
        turns = super().release(job_id)
        self.cpu_s += time.thread_time() - begin
        self.freed(job_id, turns)
        return turns

    def why_waiting(self, job: Job) -> str:
        begin = time.thread_time()
        why = super().why_waiting(job)
        self.cpu_s += time.thread_time() - begin
        return why


class Stalls:
    """How long the event loop answers nobody: a timer that is late by so much, in seconds."""

    _EVERY_S = 0.01

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._EVERY_S

        def late() -> None:
            self.longest_s = max(self.longest_s, loop.time() - due)
            self._arm(loop)

        self._handle = loop.call_at(due, late)


def written_bytes() -> int:
    """Bytes that this process has handed to the kernel for files, the database's above all."""
    with open("/proc/self/io") as told:
        return next(int(line.split()[1]) for line in told if line.startswith("wchar:"))
