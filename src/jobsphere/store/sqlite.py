"""The stores of one server on one SQLite file: a reader on the event loop and a writer behind it.

A point read takes some microseconds, less than handing it to a thread would: reads run where they are called, on a
connection that can only read and never waits for the writer. Writes share commits (see
:class:`jobsphere.store.writer.GroupWriter`); once a write has returned, every read sees it.
"""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

from jobsphere.domain.errors import UnavailableError, no_such
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.domain.ports import JobView
from jobsphere.store import statements as sql
from jobsphere.store.connection import BUSY_TIMEOUT_S, connect_reader, connect_writer, translated
from jobsphere.store.jobs import Encode, SqlJobStore
from jobsphere.store.schema import ensure_schema
from jobsphere.store.sqlite_database import SqliteDatabase, translating
from jobsphere.store.writer import GroupWriter

_VIEW_JOB = sql.VIEW_JOB.sql


class SqliteJobStore(SqlJobStore):
    """:class:`jobsphere.domain.ports.JobStore` on one SQLite file.

    Belongs to one event loop. After a full disk or an I/O error it goes on as soon as the disk does.
    """

    def __init__(self, reader: sqlite3.Connection, writer: GroupWriter, encode: Encode, meter: Meter = SILENT) -> None:
        super().__init__(SqliteDatabase(reader, writer), encode, meter)
        self._execute = reader.execute
        self._writer = writer

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

    async def view_job(self, job_id: str) -> JobView:
        """The stored encoding of a job: the hot path, straight to the driver."""
        try:
            row = self._execute(_VIEW_JOB, (job_id,)).fetchone()
        except sqlite3.Error as error:
            raise translated(error) from error
        if row is None:
            raise no_such("job", job_id)
        return JobView(*row)
