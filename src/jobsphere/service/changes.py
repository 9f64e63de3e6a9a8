"""A place where those who wait for a job meet those who change it. Hints only: every waiter looks again by itself."""

from __future__ import annotations

import asyncio
from collections import defaultdict


class Changes:
    """Tells waiters on this event loop that a job was stored anew."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def publish(self, job_id: str) -> None:
        """Wake everybody who waits for this job."""
        for event in self._waiting.get(job_id, ()):
            event.set()

    async def wait(self, job_id: str, timeout_s: float) -> None:
        """Return at the next :meth:`publish` of the job, or after ``timeout_s``."""
        event = asyncio.Event()
        self._waiting[job_id].add(event)
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            waiting = self._waiting[job_id]
            waiting.discard(event)
            if not waiting:
                del self._waiting[job_id]
