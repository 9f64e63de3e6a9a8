"""Clearing the data of jobs whose time has come."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog

from jobsphere.domain.job import Job
from jobsphere.domain.ports import Clock, JobStore
from jobsphere.engine.upkeep import keep_up, went_well
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
        await keep_up(self.sweep, self._interval_s, "expired data cannot be listed")

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
        cleared = await went_well(self._clear(job), "expired data cannot be cleared", **ids_of(job))
        if cleared:
            log.info("expired data cleared", **ids_of(job))
        return cleared
