"""Clearing the data of jobs whose time has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.job import Job
from jobsphere.domain.ports import Clock, JobStore
from jobsphere.engine.work import ids_of

_BATCH = 100
log = structlog.get_logger()


class Retention:
    """Looks for expired data every ``interval_s`` seconds and has it cleared by ``clear``."""

    def __init__(
        self, store: JobStore, clock: Clock, clear: Callable[[Job], Awaitable[Job]], interval_s: float
    ) -> None:
        self._store = store
        self._clock = clock
        self._clear = clear
        self._interval_s = interval_s

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            try:
                await self.sweep()
            except JobsphereError as e:
                log.error("expired data cannot be listed", reason=e.public, **e.context)
            await asyncio.sleep(self._interval_s)

    async def sweep(self) -> int:
        """Clear all that has expired by now; how many jobs that was. One that cannot be cleared stops no other."""
        cleared = 0
        failed: set[str] = set()
        while jobs := await self._expired_but(failed):
            for job in jobs:
                if await self._clear_one(job):
                    cleared += 1
                else:
                    failed.add(job.id)
        return cleared

    async def _expired_but(self, failed: set[str]) -> list[Job]:
        jobs = await self._store.expired_jobs(self._clock.now(), _BATCH + len(failed))
        return [job for job in jobs if job.id not in failed]

    async def _clear_one(self, job: Job) -> bool:
        try:
            await self._clear(job)
        except JobsphereError as e:
            log.error("expired data cannot be cleared", **ids_of(job), reason=e.public, **e.context)
            return False
        log.info("expired data cleared", **ids_of(job))
        return True
