"""The store of one server: one SQLite file, a reader on the event loop and a writer behind it.

A point read takes some microseconds, less than handing it to a thread would: reads run where they are called, on a
connection that can only read and never waits for the writer. Writes share commits (see
:class:`jobsphere.store.writer.GroupWriter`); once a write has returned, every read sees it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from datetime import datetime
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from jobsphere.domain.errors import NotFoundError, UnavailableError, no_such
from jobsphere.domain.job import LIVE_STATUSES, Job, JobStatus
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.domain.operation import Operation
from jobsphere.domain.ports import JobPage, JobView
from jobsphere.domain.resource import Project
from jobsphere.store import statements as sql
from jobsphere.store import writes
from jobsphere.store.connection import BUSY_TIMEOUT_S, connect_reader, connect_writer, translated
from jobsphere.store.reads import Reads, translating
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
from jobsphere.store.resources import SqliteResourceStore
from jobsphere.store.schema import ensure_schema
from jobsphere.store.tokens import page_token, read_token
from jobsphere.store.writer import GroupWriter

T = TypeVar("T")
Encode = Callable[[Job], bytes]
"""A job in its published encoding: what :meth:`SqliteJobStore.view_job` and pages give back."""

_VIEW_JOB = sql.VIEW_JOB.sql


class SqliteJobStore:
    """:class:`jobsphere.domain.ports.JobStore` on one SQLite file.

    Belongs to one event loop. After a full disk or an I/O error it goes on as soon as the disk does.
    """

    def __init__(self, reader: sqlite3.Connection, writer: GroupWriter, encode: Encode, meter: Meter = SILENT) -> None:
        self._reads = Reads(reader)
        self._execute = reader.execute
        self._writer = writer
        self._encode = encode
        self._meter = meter
        self.resources = SqliteResourceStore(reader, writer)
        """The resources in the same file; closed with this."""

    @classmethod
    def open(
        cls, path: Path, encode: Encode, *, busy_timeout_s: float = BUSY_TIMEOUT_S, meter: Meter = SILENT
    ) -> SqliteJobStore:
        """Open the database at ``path``; make it, or bring it up to date, where needed.

        Args:
            path: The file. Its directory exists and is not on a network file system.
            encode: Makes the published encoding of a job, once for each state that is stored.
            busy_timeout_s: How long a write waits for another process's lock.
            meter: Is told of what was stored.

        Raises:
            FailedPreconditionError: a newer jobsphere made the database.
            UnavailableError, CorruptedError, ResourceExhaustedError: it cannot be opened.
        """
        try:
            with translating(), ExitStack() as undo:
                connection = undo.enter_context(closing(connect_writer(path, busy_timeout_s)))
                ensure_schema(path, connection)
                store = cls(connect_reader(path), GroupWriter(connection, meter), encode, meter)
                undo.pop_all()
                return store
        except OSError as error:
            raise UnavailableError(f"the database {path} cannot be opened: {error.strerror}") from error

    def beside(self, other: Callable[[Reads, GroupWriter], T]) -> T:
        """Another store on the same file, with the same connections: this one's :meth:`close` ends it too."""
        return other(self._reads, self._writer)

    async def add_job(self, job: Job, operation: Operation) -> None:
        """Store a new job with its operation."""
        row, blobs = job_row(job, self._encode(job)), _references(job)
        await self._writer.write(writes.add_job(row, blobs, operation_row(operation)))
        self._meter.moved(None, job)

    async def get_job(self, job_id: str) -> Job:
        """The job as last stored."""
        row = self._reads.one(sql.GET_JOB, job_id)
        if row is None:
            raise _no_job(job_id)
        return load(*row)

    async def view_job(self, job_id: str) -> JobView:
        """The stored encoding of a job."""
        try:
            row = self._execute(_VIEW_JOB, (job_id,)).fetchone()
        except sqlite3.Error as error:
            raise translated(error) from error
        if row is None:
            raise _no_job(job_id)
        return JobView(*row)

    async def update_job(self, new: Job, was: Job, operation: Operation | None = None) -> bool:
        """Replace ``was`` by ``new`` if the stored job is still ``was``."""
        added = [] if new.data_cleared or new.artifacts == was.artifacts else blob_rows(new, new.artifacts.files())
        row = job_row(new, self._encode(new))
        stored = await self._writer.write(
            writes.update_job(was, row, added, None if operation is None else operation_row(operation))
        )
        if stored:
            self._meter.moved(was, new)
        return stored

    async def delete_job(self, job: Job, operation: Operation) -> bool:
        """Remove the job if the stored one is still ``job``."""
        return await self._writer.write(writes.delete_job(job, operation_row(operation)))

    async def page_jobs(self, project_id: str, statuses: Sequence[JobStatus] | None, limit: int, token: str) -> JobPage:
        """One page, newest first; as fast on the last page and for a rare status as on the first."""
        values: Row = {"project_id": project_id, "before": read_token(token)}
        with translating(), ExitStack() as stack:
            newest = self._reads.newest(stack, sql.PAGE, sql.PAGE_BY_STATUS, values, statuses)
            rows = list(islice(newest, limit + 1))
        views = tuple(JobView(project, body) for _, project, body in rows[:limit])
        return JobPage(views, page_token(rows[limit - 1][0]) if len(rows) > limit else "")

    async def jobs_in(self, statuses: Sequence[JobStatus]) -> Sequence[Job]:
        """All jobs in these statuses, oldest first. Reads through all jobs for a status that is not live."""
        rows: list[tuple[int, str, bytes]] = []
        for status in set(statuses):
            statement = sql.JOBS_LIVE if status in LIVE_STATUSES else sql.JOBS_IN
            rows += self._reads.all(statement, {"status": status.value})
        rows.sort(key=itemgetter(0))
        return _readable((job_id, record) for _, job_id, record in rows)

    async def expired_jobs(self, now: datetime, limit: int) -> Sequence[Job]:
        """Settled jobs whose data has expired, the longest expired first."""
        with translating(), ExitStack() as stack:
            rows = self._reads.rows(stack, sql.EXPIRED_JOBS, {"now": to_micros(now)})
            return _readable(islice(rows, limit))

    async def jobs_with_data(self, project_id: str) -> Sequence[Job]:
        """Settled jobs of the project whose data is not cleared, oldest first."""
        return _readable(self._reads.all(sql.JOBS_WITH_DATA, {"project_id": project_id}))

    async def unreferenced(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        """Those of the hashes that no job of the project refers to."""
        return {sha256 for sha256 in set(sha256s) if self._reads.one(sql.REFERS, project_id, sha256) is None}

    async def add_operation(self, operation: Operation) -> None:
        """Store an operation that changes nothing else."""
        await self._writer.write(writes.add_operation(operation_row(operation)))

    async def get_operation(self, operation_id: str) -> Operation:
        """The operation."""
        row = self._reads.one(sql.GET_OPERATION, operation_id)
        if row is None:
            raise no_such("operation", operation_id)
        return to_operation(row)

    async def get_project(self, project_id: str) -> Project:
        """The project."""
        row = self._reads.one(sql.GET_PROJECT, project_id)
        if row is None:
            raise no_such("project", project_id)
        return to_project(row)

    async def list_projects(self, community_id: str | None = None) -> Sequence[Project]:
        """Projects, oldest first."""
        if community_id is None:
            return [to_project(row) for row in self._reads.all(sql.LIST_PROJECTS, {})]
        return [to_project(row) for row in self._reads.all(sql.LIST_PROJECTS_OF, {"community_id": community_id})]

    async def close(self) -> None:
        """Commit what is under way and let go of the file. A repeat does nothing."""
        self._reads.close()
        await self._writer.close()


def _no_job(job_id: str) -> NotFoundError:
    return no_such("job", job_id)


def _references(job: Job) -> list[Row]:
    return [] if job.data_cleared else blob_rows(job, job.spec.uploads() + job.artifacts.files())


def _readable(rows: Iterable[tuple[str, bytes]]) -> list[Job]:
    return [job for job_id, record in rows if (job := load_readable(job_id, record))]
