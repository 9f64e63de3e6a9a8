"""The writes of the store: each function takes what was made ready outside and gives the work for one transaction."""

from __future__ import annotations

from collections.abc import Sequence

from jobsphere.domain.errors import AlreadyExistsError
from jobsphere.domain.job import Job
from jobsphere.store import statements as sql
from jobsphere.store.access_statements import ADD_AUDIT
from jobsphere.store.database import Change, ChangeEach, Steps, TakenError, Work
from jobsphere.store.records import Row
from jobsphere.store.statements import Statement


def add_job(job: Row, blobs: Sequence[Row], operation: Row, audited: Row | None) -> Work[None]:
    """A new job with its references, the operation and the audit row of its call."""

    def work() -> Steps[None]:
        yield from add_row(sql.ADD_JOB, job, f"there is a job {job['id']} already")
        yield from _refer(blobs)
        yield from store_operation(operation)
        if audited is not None:
            yield from store_audit(audited)

    return work


def update_job(was: Job, new: Row, blobs: Sequence[Row], operation: Row | None, audited: Row | None) -> Work[bool]:
    """Replace the job if it is still ``was``; ``blobs`` are references to add. Cleared data takes all of them away."""
    alone = not blobs and operation is None and audited is None and not new["data_cleared"]

    def work() -> Steps[bool]:
        if (yield Change(sql.UPDATE_JOB, new | _guard(was), only=alone)) == 0:
            return False
        if new["data_cleared"]:
            yield Change(sql.DELETE_BLOBS, {"job_id": was.id})
        yield from _refer(blobs)
        if operation is not None:
            yield from store_operation(operation)
        if audited is not None:
            yield from store_audit(audited)
        return True

    return work


def delete_job(was: Job, operation: Row) -> Work[bool]:
    """Remove the job, its references and its operations if it is still ``was``; ``operation`` stays."""

    def work() -> Steps[bool]:
        if (yield Change(sql.DELETE_JOB, _guard(was))) == 0:
            return False
        yield Change(sql.DELETE_BLOBS, {"job_id": was.id})
        yield Change(sql.DELETE_OPERATIONS, {"job_id": was.id})
        yield from store_operation(operation)
        return True

    return work


def add_operation(operation: Row) -> Work[None]:
    """An operation alone."""
    return lambda: store_operation(operation, only=True)


def _guard(was: Job) -> Row:
    return {"was_id": was.id, "was_version": was.version, "was_status": was.status.value}


def _refer(blobs: Sequence[Row]) -> Steps[None]:
    if blobs:
        yield ChangeEach(sql.ADD_BLOB, blobs)


def store_audit(row: Row, *, only: bool = False) -> Steps[None]:
    """Add a row of the audit log within somebody's write."""
    yield Change(ADD_AUDIT, row, only=only)


def store_operation(operation: Row, *, only: bool = False) -> Steps[None]:
    """Add an operation within somebody's write."""
    yield from add_row(sql.ADD_OPERATION, operation, f"there is an operation {operation['id']} already", only=only)


def add_row(statement: Statement, row: Row, taken: str, *, only: bool = False) -> Steps[None]:
    """Add a row within somebody's write.

    Raises:
        AlreadyExistsError: with the text ``taken``: one of its keys is there already.
    """
    try:
        yield Change(statement, row, only)
    except TakenError:
        raise AlreadyExistsError(taken) from None
