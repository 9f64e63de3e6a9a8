"""Jobs, operations and projects in a database, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from operator import itemgetter
from typing import TypeVar

from jobsphere.domain.audit import AuditRow
from jobsphere.domain.errors import no_such
from jobsphere.domain.job import LIVE_STATUSES, Job, JobStatus
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.domain.operation import Operation
from jobsphere.domain.ports import JobPage, JobView, LiveId
from jobsphere.domain.replica_ports import Alone, JobHints, Leases
from jobsphere.domain.resource import Project
from jobsphere.store import statements as sql
from jobsphere.store import writes
from jobsphere.store.access_records import audit_row
from jobsphere.store.database import Database
from jobsphere.store.records import (
    Row,
    blob_rows,
    job_row,
    load,
    load_readable,
    operation_row,
    to_micros,
    to_operation,
    to_project,
)
from jobsphere.store.resources import SqlResourceStore
from jobsphere.store.tokens import page_token, read_token

T = TypeVar("T")
Encode = Callable[[Job], bytes]
"""A job in its published encoding: what :meth:`SqlJobStore.view_job` and pages give back."""


class SqlJobStore:
    """:class:`jobsphere.domain.ports.JobStore` in a database. Belongs to one event loop."""

    def __init__(self, database: Database, encode: Encode, meter: Meter = SILENT) -> None:
        self._database = database
        self._encode = encode
        self._meter = meter
        self.resources = SqlResourceStore(database)
        """The resources in the same database; closed with this."""
        self.hints: JobHints = Alone()
        """Hears of changes by other servers of the same database."""
        self.leases: Leases = Alone()
        """Turns among those servers."""

    def beside(self, other: Callable[[Database], T]) -> T:
        """Another store in the same database, by the same connections: this one's :meth:`close` ends it too."""
        return other(self._database)

    async def add_job(self, job: Job, operation: Operation, audited: AuditRow | None = None) -> None:
        """Store a new job with its operation."""
        row, blobs = job_row(job, self._encode(job)), _references(job)
        await self._database.write(writes.add_job(row, blobs, operation_row(operation), _optional(audited)))
        self._meter.moved(None, job)

    async def get_job(self, job_id: str) -> Job:
        """The job as last stored."""
        row = await self._database.one(sql.GET_JOB, job_id)
        if row is None:
            raise no_such("job", job_id)
        return load(*row)

    async def view_job(self, job_id: str) -> JobView:
        """The stored encoding of a job."""
        row = await self._database.one(sql.VIEW_JOB, job_id)
        if row is None:
            raise no_such("job", job_id)
        return JobView(*row)

    async def update_job(
        self, new: Job, was: Job, operation: Operation | None = None, audited: AuditRow | None = None
    ) -> bool:
        """Replace ``was`` by ``new`` if the stored job is still ``was``."""
        added = [] if new.data_cleared or new.artifacts == was.artifacts else blob_rows(new, new.artifacts.files())
        row = job_row(new, self._encode(new))
        stored = await self._database.write(
            writes.update_job(
                was, row, added, None if operation is None else operation_row(operation), _optional(audited)
            )
        )
        if stored:
            self._meter.moved(was, new)
        return stored

    async def delete_job(self, job: Job, operation: Operation) -> bool:
        """Remove the job if the stored one is still ``job``."""
        return await self._database.write(writes.delete_job(job, operation_row(operation)))

    async def page_jobs(self, project_id: str, statuses: Sequence[JobStatus] | None, limit: int, token: str) -> JobPage:
        """One page, newest first; as fast on the last page and for a rare status as on the first."""
        values: Row = {"project_id": project_id, "before": read_token(token)}
        rows = await self._database.newest(sql.PAGE, sql.PAGE_BY_STATUS, values, statuses, limit + 1)
        views = tuple(JobView(project, body) for _, project, body in rows[:limit])
        return JobPage(views, page_token(rows[limit - 1][0]) if len(rows) > limit else "")

    async def jobs_in(self, statuses: Sequence[JobStatus]) -> Sequence[Job]:
        """All jobs in these statuses, oldest first. Reads through all jobs for a status that is not live."""
        rows: list[tuple[int, str, bytes]] = []
        for status in set(statuses):
            statement = sql.JOBS_LIVE if status in LIVE_STATUSES else sql.JOBS_IN
            rows += await self._database.all(statement, {"status": status.value})
        rows.sort(key=itemgetter(0))
        return _readable((job_id, record) for _, job_id, record in rows)

    async def live_ids(self, status: JobStatus, after: int, limit: int) -> Sequence[LiveId]:
        """The next jobs in a live status."""
        rows = await self._database.first(sql.LIVE_IDS, {"status": status.value, "after": after}, limit)
        return [LiveId(seq, job_id, bool(attempt)) for seq, job_id, attempt in rows]

    async def live_page(self, status: JobStatus, after: int, limit: int) -> tuple[Sequence[Job], int]:
        """The next jobs in a live status, whole."""
        rows = await self._database.first(sql.LIVE_PAGE, {"status": status.value, "after": after}, limit)
        return _readable((job_id, record) for _, job_id, record in rows), rows[-1][0] if rows else 0

    async def expired_jobs(self, now: datetime, limit: int) -> Sequence[Job]:
        """Settled jobs whose data has expired, the longest expired first."""
        return _readable(await self._database.first(sql.EXPIRED_JOBS, {"now": to_micros(now)}, limit))

    async def jobs_with_data(self, project_id: str) -> Sequence[Job]:
        """Settled jobs of the project whose data is not cleared, oldest first."""
        return _readable(await self._database.all(sql.JOBS_WITH_DATA, {"project_id": project_id}))

    async def unreferenced(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        """Those of the hashes that no job of the project refers to."""
        return {sha256 for sha256 in set(sha256s) if await self._database.one(sql.REFERS, project_id, sha256) is None}

    async def add_operation(self, operation: Operation) -> None:
        """Store an operation that changes nothing else."""
        await self._database.write(writes.add_operation(operation_row(operation)))

    async def get_operation(self, operation_id: str) -> Operation:
        """The operation."""
        row = await self._database.one(sql.GET_OPERATION, operation_id)
        if row is None:
            raise no_such("operation", operation_id)
        return to_operation(row)

    async def get_project(self, project_id: str) -> Project:
        """The project."""
        row = await self._database.one(sql.GET_PROJECT, project_id)
        if row is None:
            raise no_such("project", project_id)
        return to_project(row)

    async def list_projects(self, community_id: str | None = None) -> Sequence[Project]:
        """Projects, oldest first."""
        statement = sql.LIST_PROJECTS if community_id is None else sql.LIST_PROJECTS_OF
        return [to_project(row) for row in await self._database.all(statement, {"community_id": community_id})]

    async def close(self) -> None:
        """Finish what is under way and let go of the database. A repeat does nothing."""
        await self._database.close()


def _references(job: Job) -> list[Row]:
    return [] if job.data_cleared else blob_rows(job, job.spec.uploads() + job.artifacts.files())


def _readable(rows: Iterable[tuple[str, bytes]]) -> list[Job]:
    return [job for job_id, record in rows if (job := load_readable(job_id, record))]


def _optional(audited: AuditRow | None) -> Row | None:
    return None if audited is None else audit_row(audited)
