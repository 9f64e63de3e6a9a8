"""Going through jobs under way a page at a time: any number may wait, and the event loop is never kept for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from jobsphere.domain.errors import CorruptedError, NotFoundError
from jobsphere.domain.job import LIVE_STATUSES, Job, JobStatus
from jobsphere.domain.ports import JobStore, LiveId

IDS_AT_A_TIME = 1000
_JOBS_AT_A_TIME = 100
BEYOND_PREPARING = tuple(status for status in LIVE_STATUSES if status is not JobStatus.PREPARING)


async def id_pages(
    store: JobStore, status: JobStatus, at_a_time: int = IDS_AT_A_TIME
) -> AsyncIterator[Sequence[LiveId]]:
    """The jobs in this live status, oldest first. One that moves on meanwhile is found in its next status."""
    after = 0
    while page := await store.live_ids(status, after, at_a_time):
        after = page[-1].seq
        yield page
        await asyncio.sleep(0)  # a store that answers at once would keep the event loop


async def job_pages(store: JobStore, statuses: Sequence[JobStatus]) -> AsyncIterator[Sequence[Job]]:
    """The jobs in these live statuses, whole, one status after the other; as :func:`id_pages`."""
    for status in statuses:
        after = 0
        while True:
            page, after = await store.live_page(status, after, _JOBS_AT_A_TIME)
            if not after:
                break
            yield page
            await asyncio.sleep(0)


async def attempted_jobs(store: JobStore) -> AsyncIterator[Job]:
    """The live jobs that have an attempt, whole. One that moves meanwhile may come twice."""
    async for ids in id_pages(store, JobStatus.PREPARING):
        for entry in ids:
            if entry.has_attempt:
                with suppress(NotFoundError, CorruptedError):
                    yield await store.get_job(entry.id)
    async for jobs in job_pages(store, BEYOND_PREPARING):
        for job in jobs:
            if job.attempt is not None:
                yield job
