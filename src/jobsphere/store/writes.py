"""The writes of the store: each function takes what was made ready outside and gives the work for one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from jobsphere.domain.errors import AlreadyExistsError
from jobsphere.domain.job import Job
from jobsphere.store import statements as sql
from jobsphere.store.records import Row
from jobsphere.store.statements import Statement
from jobsphere.store.writer import Work


def add_job(job: Row, blobs: Sequence[Row], operation: Row) -> Work[None]:
    """A new job with its references and the operation of its call."""

    def work(connection: sqlite3.Connection) -> None:
        add_row(connection, sql.ADD_JOB, job, f"there is a job {job['id']} already")
        _refer(connection, blobs)
        store_operation(connection, operation)

    return work


def update_job(was: Job, new: Row, blobs: Sequence[Row], operation: Row | None) -> Work[bool]:
    """Replace the job if it is still ``was``; ``blobs`` are references to add. Cleared data takes all of them away."""

    def work(connection: sqlite3.Connection) -> bool:
        if run(connection, sql.UPDATE_JOB, new | _guard(was)) == 0:
            return False
        if new["data_cleared"]:
            run(connection, sql.DELETE_BLOBS, {"job_id": was.id})
        _refer(connection, blobs)
        if operation is not None:
            store_operation(connection, operation)
        return True

    return work


def delete_job(was: Job, operation: Row) -> Work[bool]:
    """Remove the job, its references and its operations if it is still ``was``; ``operation`` stays."""

    def work(connection: sqlite3.Connection) -> bool:
        if run(connection, sql.DELETE_JOB, _guard(was)) == 0:
            return False
        run(connection, sql.DELETE_BLOBS, {"job_id": was.id})
        run(connection, sql.DELETE_OPERATIONS, {"job_id": was.id})
        store_operation(connection, operation)
        return True

    return work


def add_operation(operation: Row) -> Work[None]:
    """An operation alone."""
    return lambda connection: store_operation(connection, operation)


def _guard(was: Job) -> Row:
    return {"was_id": was.id, "was_version": was.version, "was_status": was.status.value}


def run(connection: sqlite3.Connection, statement: Statement, values: Row) -> int:
    """Run a statement within somebody's transaction; how many rows it changed."""
    return connection.execute(statement.sql, statement.bind(values)).rowcount


def _refer(connection: sqlite3.Connection, blobs: Sequence[Row]) -> None:
    connection.executemany(sql.ADD_BLOB.sql, [sql.ADD_BLOB.bind(row) for row in blobs])


def store_operation(connection: sqlite3.Connection, operation: Row) -> None:
    """Add an operation within somebody's transaction."""
    add_row(connection, sql.ADD_OPERATION, operation, f"there is an operation {operation['id']} already")


def add_row(connection: sqlite3.Connection, statement: Statement, row: Row, taken: str) -> None:
    """Add a row within somebody's transaction.

    Raises:
        AlreadyExistsError: with the text ``taken``: one of its keys is there already.
    """
    try:
        run(connection, statement, row)
    except sqlite3.IntegrityError as error:
        raise AlreadyExistsError(taken) from error
