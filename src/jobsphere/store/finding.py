"""Looking through jobs: in the one SQLite file, and in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from itertools import islice

from jobsphere.domain.finding import LOOKED_AT, Found, fits
from jobsphere.domain.job import Job, JobStatus
from jobsphere.store import statements as sql
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.reads import Reads, translating
from jobsphere.store.records import Row, load_readable
from jobsphere.store.tokens import page_token, read_token
from jobsphere.store.writer import GroupWriter


class SqliteJobFinder:
    """:class:`jobsphere.domain.finding.JobFinder`; made by ``SqliteJobStore.beside``."""

    def __init__(self, reads: Reads, writer: GroupWriter) -> None:  # noqa: ARG002
        self._reads = reads

    async def find(
        self, project_id: str, statuses: Sequence[JobStatus] | None, text: str, limit: int, token: str
    ) -> Found:
        """The project's jobs that fit, newest first. Rows are fetched until there are enough."""
        values: Row = {"project_id": project_id, "before": read_token(token)}
        with translating(), ExitStack() as stack:
            newest = self._reads.newest(stack, sql.FIND_JOBS, sql.FIND_JOBS_BY_STATUS, values, statuses)
            return _gather(((seq, lambda i=i, r=r: load_readable(i, r)) for seq, i, r in newest), text, limit)

    async def forks(self, job: Job, limit: int) -> Sequence[Job]:
        """The jobs that were forked from this one."""
        values: Row = {"project_id": job.project_id, "before": read_token(""), "parent_job_id": job.id}
        with translating(), ExitStack() as stack:
            rows = islice(self._reads.rows(stack, sql.FORKS, values), limit)
            return [fork for _, job_id, record in rows if (fork := load_readable(job_id, record))]


class MemoryJobFinder:
    """:class:`jobsphere.domain.finding.JobFinder` over the store in memory."""

    def __init__(self, jobs: MemoryJobStore) -> None:
        self._jobs = jobs

    async def find(
        self, project_id: str, statuses: Sequence[JobStatus] | None, text: str, limit: int, token: str
    ) -> Found:
        """The project's jobs that fit, newest first."""
        newest = self._jobs.newest(project_id, read_token(token))
        wanted = [(seq, job) for seq, job in newest if statuses is None or job.status in statuses]
        return _gather(((seq, lambda job=job: job) for seq, job in wanted), text, limit)

    async def forks(self, job: Job, limit: int) -> Sequence[Job]:
        """The jobs that were forked from this one."""
        newest = self._jobs.newest(job.project_id, read_token(""))
        return [fork for _, fork in newest if fork.parent_job_id == job.id][:limit]


def _gather(rows: Iterable[tuple[int, Callable[[], Job | None]]], text: str, limit: int) -> Found:
    """The first jobs that fit, and where to go on if there are rows that were not looked at."""
    found: list[Job] = []
    last = 0
    for looked_at, (seq, read) in enumerate(rows):
        if len(found) == limit or looked_at == LOOKED_AT:
            return Found(tuple(found), page_token(last))
        last, job = seq, read()
        if job is not None and fits(job, text):
            found.append(job)
    return Found(tuple(found))
