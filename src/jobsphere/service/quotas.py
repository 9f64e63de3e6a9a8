"""Keeps projects within their quotas. One server has all jobs of a data directory: it counts what it lets in itself."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from jobsphere.domain.errors import NotFoundError
from jobsphere.domain.live import attempted_jobs
from jobsphere.domain.ports import JobStore
from jobsphere.domain.quota import Quota, StoredSizes, Usage, check_bytes, check_jobs, check_queued, check_room
from jobsphere.domain.quota_ports import DiskBytes, JobCounts, StoredBytes
from jobsphere.domain.resource_ports import ResourceStore
from jobsphere.domain.resources import Dataset


class Quotas:
    """What projects may have; ``default`` is for what a project's own quota leaves open.

    What a job gives at its end is always kept: to lose a result would be worse than to have too much. What is refused
    after that is the next job: its Execute, if the project has too much already.
    """

    def __init__(
        self,
        default: Quota,
        store: JobStore,
        counts: JobCounts,
        blobs: StoredBytes,
        resources: ResourceStore,
        disks: DiskBytes,
    ) -> None:
        self._default = default
        self._store = store
        self._counts = counts
        self._blobs = blobs
        self._resources = resources
        self._disks = disks
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._arriving: defaultdict[str, int] = defaultdict(int)

    async def of(self, project_id: str) -> Quota:
        """What the project may have; nothing is limited for one that is gone."""
        try:
            project = await self._store.get_project(project_id)
        except NotFoundError:
            return Quota()
        return project.quota.over(self._default)

    async def running(self, project_id: str) -> int | None:
        """How many of its jobs may run at a time; None for any number."""
        return (await self.of(project_id)).running

    @asynccontextmanager
    async def creating(self, project_id: str, new_bytes: int) -> AsyncGenerator[None]:
        """Store a job meanwhile that brings so many new bytes; others of the project wait until it is stored.

        Raises:
            ResourceExhaustedError: the project would have more than it may.
        """
        quota = await self.of(project_id)
        if quota.jobs is None and quota.bytes is None:
            yield
            return
        async with self._turns[project_id]:
            if quota.jobs is not None:
                check_jobs(quota, await self._counts.stored_jobs(project_id))
            await self._check_bytes(quota, project_id, new_bytes)
            yield

    @asynccontextmanager
    async def queueing(self, project_id: str) -> AsyncGenerator[None]:
        """Put a job into the queue meanwhile.

        Raises:
            ResourceExhaustedError: as many of the project wait as may, or it has more bytes than it may.
        """
        quota = await self.of(project_id)
        if quota.queued is None and quota.bytes is None:
            yield
            return
        async with self._turns[project_id]:
            if quota.queued is not None:
                check_queued(quota, await self._counts.queued_jobs(project_id))
            if quota.bytes is not None:
                check_room(quota, await self._sizes(project_id))
            yield

    @asynccontextmanager
    async def uploading(self, project_id: str, size_bytes: int) -> AsyncGenerator[None]:
        """Take a blob in meanwhile: its bytes count from its beginning.

        Raises:
            ResourceExhaustedError: the project would have more than it may.
        """
        await self._check_bytes(await self.of(project_id), project_id, size_bytes)
        # Nobody else was asked in between: what two bring at once is counted to both.
        self._arriving[project_id] += size_bytes
        try:
            yield
        finally:
            self._arriving[project_id] -= size_bytes
            if not self._arriving[project_id]:
                del self._arriving[project_id]

    @asynccontextmanager
    async def adding(self, project_id: str, size_bytes: int) -> AsyncGenerator[None]:
        """Give a dataset or the disk so many more bytes meanwhile; others of the project wait until they are there.

        Raises:
            ResourceExhaustedError: the project would have more than it may.
        """
        async with self._turns[project_id]:
            await self._check_bytes(await self.of(project_id), project_id, size_bytes)
            yield

    async def usage(self, project_id: str) -> Usage:
        """What the project has now."""
        held = {job.id: job.project_id async for job in attempted_jobs(self._store)}
        return Usage(
            await self._counts.stored_jobs(project_id),
            sum(owner == project_id for owner in held.values()),
            await self._counts.queued_jobs(project_id),
            await self._sizes(project_id),
        )

    async def _check_bytes(self, quota: Quota, project_id: str, more: int) -> None:
        if quota.bytes is not None and more:
            check_bytes(quota, await self._sizes(project_id), more)

    async def _sizes(self, project_id: str) -> StoredSizes:
        """What is arriving is read last, and the caller must not wait between this and what it decides."""
        datasets = await self._resources.list_resources(Dataset, project_id)
        files, disk = await self._blobs.stored_bytes(project_id), await self._disks.disk_bytes(project_id)
        in_datasets = sum(dataset.body.size_bytes for dataset in datasets)
        return StoredSizes(files, in_datasets, disk, self._arriving.get(project_id, 0))
