"""How many jobs projects have: in the one SQLite file, and in memory."""

from __future__ import annotations

from jobsphere.domain.job import JobStatus
from jobsphere.store import statements as sql
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.reads import Reads
from jobsphere.store.writer import GroupWriter


class SqliteJobCounts:
    """:class:`jobsphere.domain.quota_ports.JobCounts`; made by ``SqliteJobStore.beside``."""

    def __init__(self, reads: Reads, _: GroupWriter) -> None:
        self._reads = reads

    async def stored_jobs(self, project_id: str) -> int:
        """See the port; walks along one index."""
        return self._reads.all(sql.COUNT_JOBS, {"project_id": project_id})[0][0]

    async def queued_jobs(self, project_id: str) -> int:
        """See the port."""
        values = {"project_id": project_id, "status": JobStatus.PREPARING.value}
        return self._reads.all(sql.COUNT_QUEUED, {**values})[0][0]


class MemoryJobCounts:
    """The same of a store in memory."""

    def __init__(self, jobs: MemoryJobStore) -> None:
        self._jobs = jobs

    async def stored_jobs(self, project_id: str) -> int:
        """See the port."""
        return sum(job.project_id == project_id for job in await self._jobs.jobs_in(list(JobStatus)))

    async def queued_jobs(self, project_id: str) -> int:
        """See the port."""
        waiting = [job for job in await self._jobs.jobs_in([JobStatus.PREPARING]) if job.attempt is None]
        return sum(job.project_id == project_id for job in waiting)
