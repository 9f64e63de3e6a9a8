"""A queue of keys: each waits at most once, and is worked on by one worker at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from jobsphere.domain.job import Job

GATHER_S = 0.004
"""How long hints about one key are gathered: a short job's records appear within so much of each other."""


def ids_of(job: Job) -> dict[str, str]:
    """What every line of the log about a job bears: its id, and its attempt's where there is one."""
    return {"job": job.id} | ({"attempt": job.attempt.id} if job.attempt else {})


class KeyedQueue:
    """Runs ``work(key)`` for every key that is added, never twice at the same moment for one key.

    A key that is added while it is worked on is worked on once more afterwards, so that no hint is lost.

    Args:
        work: What to do. It must not raise: whatever it cannot handle it logs.
        workers: How many keys are worked on at a time.
    """

    def __init__(self, work: Callable[[str], Awaitable[None]], workers: int) -> None:
        self._work = work
        self._workers = workers
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._running: set[str] = set()
        self._again: set[str] = set()
        self._gathered: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work on the running loop."""
        self._tasks = [asyncio.create_task(self._worker()) for _ in range(self._workers)]

    def add(self, key: str) -> None:
        """Have ``key`` worked on soon."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_soon(self, key: str) -> None:
        """Have ``key`` worked on in a few milliseconds: what is added again by then is one piece of work."""
        if key not in self._gathered:
            self._gathered.add(key)
            asyncio.get_running_loop().call_later(GATHER_S, self._add_gathered, key)

    async def stop(self) -> None:
        """End the workers; what they are in the middle of is cancelled (every step can be repeated).

        What waits is forgotten: whoever starts again adds what there is to do then.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ready = asyncio.Queue()
        self._waiting.clear()
        self._again.clear()

    def _add_gathered(self, key: str) -> None:
        self._gathered.discard(key)
        self.add(key)

    async def _worker(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._running.add(key)
            try:
                await self._work(key)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
