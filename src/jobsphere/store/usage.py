"""How many jobs projects have: in a database, and in memory."""

from __future__ import annotations

from jobsphere.domain.job import JobStatus
from jobsphere.store import statements as sql
from jobsphere.store.database import Database
from jobsphere.store.memory import MemoryJobStore


class SqlJobCounts:
    """:class:`jobsphere.domain.quota_ports.JobCounts`; made by ``SqlJobStore.beside``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def stored_jobs(self, project_id: str) -> int:
        """See the port; walks along one index."""
        return (await self._database.all(sql.COUNT_JOBS, {"project_id": project_id}))[0][0]

    async def queued_jobs(self, project_id: str) -> int:
        """See the port."""
        values = {"project_id": project_id, "status": JobStatus.PREPARING.value}
        return (await self._database.all(sql.COUNT_QUEUED, {**values}))[0][0]


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
