"""A queue of keys: each is worked on by one worker at a time, those that keep somebody waiting before others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from jobsphere.domain.job import Job
from jobsphere.engine.upkeep import cancelled

GATHER_S = 0.004
"""How long hints about one key are gathered: a short job's records appear within so much of each other."""

_LATER_EVERY = 8
"""Of so many keys one is taken from those that can wait."""


def ids_of(job: Job) -> dict[str, str]:
    """What every line of the log about a job bears: its id, and its attempt's where there is one."""
    return {"job": job.id} | ({"attempt": job.attempt.id} if job.attempt else {})


class KeyedQueue:
    """Runs ``work(key)`` for every key that is added, never twice at the same moment for one key.

    A key that is added while it is worked on is worked on once more afterwards, so that no hint is lost. Keys that can
    wait come when there are no others, and now and then between them: neither kind waits for all of the other.

    Args:
        work: What to do. It must not raise: whatever it cannot handle it logs.
        workers: How many keys are worked on at a time.
    """

    def __init__(self, work: Callable[[str], Awaitable[None]], workers: int) -> None:
        self._work = work
        self._workers = workers
        self._ready = asyncio.Semaphore(0)
        self._soon: deque[str] = deque()
        self._later: deque[str] = deque()
        """Keys that can wait; one that was added to the others meanwhile is left here, and passed over."""
        self._waiting: dict[str, bool] = {}
        """Whether each can wait."""
        self._running: set[str] = set()
        self._again: dict[str, bool] = {}
        self._gathered: set[str] = set()
        self._turn = 0
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work on the running loop."""
        self._tasks = [asyncio.create_task(self._worker()) for _ in range(self._workers)]

    def add(self, key: str, *, can_wait: bool = False) -> None:
        """Have ``key`` worked on soon. ``can_wait``: others that come later may be worked on before it."""
        into = self._again if key in self._running else self._waiting
        known = into.get(key)
        if known is None or (known and not can_wait):
            into[key] = can_wait
            if into is self._waiting:
                (self._later if can_wait else self._soon).append(key)
                self._ready.release()

    def add_soon(self, key: str) -> None:
        """Have ``key`` worked on in a few milliseconds: what is added again by then is one piece of work."""
        if key not in self._gathered:
            self._gathered.add(key)
            asyncio.get_running_loop().call_later(GATHER_S, self._add_gathered, key)

    async def stop(self) -> None:
        """End the workers; what they are in the middle of is cancelled (every step can be repeated).

        What waits is forgotten: whoever starts again adds what there is to do then.
        """
        await cancelled(*self._tasks)
        self._ready = asyncio.Semaphore(0)
        self._soon.clear()
        self._later.clear()
        self._waiting.clear()
        self._again.clear()

    def _add_gathered(self, key: str) -> None:
        self._gathered.discard(key)
        self.add(key)

    async def _worker(self) -> None:
        while True:
            await self._ready.acquire()
            key = self._next()
            if key is None:
                continue
            self._running.add(key)
            try:
                await self._work(key)
            finally:
                self._running.discard(key)
            can_wait = self._again.pop(key, None)
            if can_wait is not None:
                self.add(key, can_wait=can_wait)

    def _next(self) -> str | None:
        """Take the next key; None for one that was passed over."""
        self._turn = (self._turn + 1) % _LATER_EVERY
        can_wait = not self._soon or (not self._turn and bool(self._later))
        key = (self._later if can_wait else self._soon).popleft()
        if self._waiting.get(key) is not can_wait:
            return None
        del self._waiting[key]
        return key
