"""Looking through jobs: in a database, and in memory."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from operator import itemgetter
from typing import Any

from jobsphere.domain.finding import LOOKED_AT, Found, fits
from jobsphere.domain.job import Job, JobStatus
from jobsphere.store import statements as sql
from jobsphere.store.database import PIECE, Database, walk
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.records import Row, load_readable
from jobsphere.store.tokens import page_token, read_token


class SqlJobFinder:
    """:class:`jobsphere.domain.finding.JobFinder`; made by ``SqlJobStore.beside``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self, project_id: str, statuses: Sequence[JobStatus] | None, text: str, limit: int, token: str
    ) -> Found:
        """The project's jobs that fit, newest first. Rows are fetched until there are enough."""

        def rows_before(seq: int) -> Awaitable[Sequence[Any]]:
            values: Row = {"project_id": project_id, "before": seq}
            return self._database.newest(sql.FIND_JOBS, sql.FIND_JOBS_BY_STATUS, values, statuses, PIECE)

        gathered = _Gathered(text, limit)
        async with aclosing(walk(rows_before, read_token(token), itemgetter(0))) as rows:
            async for seq, job_id, record in rows:
                if gathered.enough:
                    break
                gathered.look(seq, load_readable(job_id, record))
            else:
                return gathered.all
        return gathered.some

    async def forks(self, job: Job, limit: int) -> Sequence[Job]:
        """The jobs that were forked from this one."""
        values: Row = {"project_id": job.project_id, "before": read_token(""), "parent_job_id": job.id}
        rows = await self._database.first(sql.FORKS, values, limit)
        return [fork for _, job_id, record in rows if (fork := load_readable(job_id, record))]


class MemoryJobFinder:
    """:class:`jobsphere.domain.finding.JobFinder` over the store in memory."""

    def __init__(self, jobs: MemoryJobStore) -> None:
        self._jobs = jobs

    async def find(
        self, project_id: str, statuses: Sequence[JobStatus] | None, text: str, limit: int, token: str
    ) -> Found:
        """The project's jobs that fit, newest first."""
        gathered = _Gathered(text, limit)
        for seq, job in self._jobs.newest(project_id, read_token(token)):
            if statuses is not None and job.status not in statuses:
                continue
            if gathered.enough:
                return gathered.some
            gathered.look(seq, job)
        return gathered.all

    async def forks(self, job: Job, limit: int) -> Sequence[Job]:
        """The jobs that were forked from this one."""
        newest = self._jobs.newest(job.project_id, read_token(""))
        return [fork for _, fork in newest if fork.parent_job_id == job.id][:limit]


class _Gathered:
    """The jobs that fit among those that were looked at."""

    def __init__(self, text: str, limit: int) -> None:
        self._text = text
        self._limit = limit
        self._found: list[Job] = []
        self._looked_at = self._last = 0

    @property
    def enough(self) -> bool:
        """There are as many as are wanted, or as many were looked at as may be."""
        return len(self._found) == self._limit or self._looked_at == LOOKED_AT

    def look(self, seq: int, job: Job | None) -> None:
        """Look at one more; None for one that cannot be read."""
        self._looked_at, self._last = self._looked_at + 1, seq
        if job is not None and fits(job, self._text):
            self._found.append(job)

    @property
    def some(self) -> Found:
        """What there is, and where to go on: there are jobs that were not looked at."""
        return Found(tuple(self._found), page_token(self._last))

    @property
    def all(self) -> Found:
        """What there is; there is no more."""
        return Found(tuple(self._found))
