"""A job as it is stored and back: JSON of the whole value, beside the few columns that queries look at."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from jobsphere.domain.artifact import File
from jobsphere.domain.errors import CorruptedError
from jobsphere.domain.job import Job
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.quota import Quota
from jobsphere.domain.resource import Project

Value = str | int | bytes | None
"""What a column holds here."""
Row = dict[str, Value]

_log = structlog.get_logger(__name__)
_JOB = TypeAdapter(Job)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def dump(job: Job) -> bytes:
    """The job as JSON. ``load`` gives an equal value."""
    return _JOB.dump_json(job)


def load(job_id: str, record: bytes) -> Job:
    """The job that ``dump`` was given. Fields that a later version knows are left out, new ones get their defaults.

    Raises:
        CorruptedError: the record is no job. The text does not show the record: it may hold a secret.
    """
    try:
        return _JOB.validate_json(record)
    except ValidationError as error:
        where = [".".join(map(str, detail["loc"])) for detail in error.errors(include_input=False)]
    raise CorruptedError(f"the stored record of job {job_id} cannot be read", fields=where)


def load_readable(job_id: str, record: bytes) -> Job | None:
    """As :func:`load`; None for one that cannot be read: it is told to the operator and must not hold up the others."""
    try:
        return load(job_id, record)
    except CorruptedError as error:
        _log.error("job record cannot be read", job=job_id, **error.context)
        return None


def to_micros(time: datetime) -> int:
    """Whole microseconds since the epoch."""
    return (time - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The time, in UTC, that :func:`to_micros` was given."""
    return _EPOCH + timedelta(microseconds=micros)


def job_row(job: Job, view: bytes) -> Row:
    """What the table of jobs holds of a job; ``view`` is its published encoding."""
    return {
        "id": job.id,
        "project_id": job.project_id,
        "status": job.status.value,
        "version": job.version,
        "created_at": to_micros(job.created_at),
        "data_expires_at": None if job.data_expires_at is None else to_micros(job.data_expires_at),
        "data_cleared": int(job.data_cleared),
        "parent_job_id": job.parent_job_id,
        "operation_id": job.operation_id,
        "attempt_id": job.attempt.id if job.attempt else "",
        "view": view,
        "record": dump(job),
    }


def blob_rows(job: Job, files: Iterable[File]) -> list[Row]:
    """The references of a job to the contents of ``files``."""
    hashes = {file.sha256 for file in files if file.sha256}
    return [{"job_id": job.id, "project_id": job.project_id, "sha256": sha256} for sha256 in sorted(hashes)]


def operation_row(operation: Operation) -> Row:
    """What the table of operations holds."""
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "project_id": operation.project_id,
        "job_id": operation.job_id,
        "created_at": to_micros(operation.created_at),
        "created_by": operation.created_by,
        "community_id": operation.community_id,
    }


def to_operation(row: Sequence[Any]) -> Operation:
    """The operation of a row of GET_OPERATION."""
    operation_id, kind, project_id, job_id, created_at, created_by, community_id = row
    at = from_micros(created_at)
    return Operation(operation_id, OperationKind(kind), project_id, job_id, at, created_by, community_id)


def project_row(project: Project) -> Row:
    """What the table of projects holds."""
    return {
        "id": project.id,
        "name": project.name,
        "community_id": project.community_id,
        "created_at": to_micros(project.created_at),
        "created_by_id": project.created_by_id,
        "description": project.description,
        "details": json.dumps(_project_details(project)),
    }


def to_project(row: Sequence[Any]) -> Project:
    """The project of a row of GET_PROJECT."""
    project_id, name, community_id, created_at, created_by_id, description, details = row
    more: dict[str, Any] = json.loads(details)
    return Project(
        project_id,
        name,
        community_id,
        from_micros(created_at),
        created_by_id,
        description,
        labels=tuple(more.get("labels", {}).items()),
        settings=base64.b64decode(more.get("settings", "")),
        limits=base64.b64decode(more.get("limits", "")),
        quota=Quota(**more.get("quota", {})),
    )


def _project_details(project: Project) -> dict[str, object]:
    """What no query looks at; what is empty is left out."""
    details: dict[str, object] = {
        "labels": dict(project.labels),
        "settings": base64.b64encode(project.settings).decode(),
        "limits": base64.b64encode(project.limits).decode(),
        "quota": project.quota.as_dict(),
    }
    return {name: value for name, value in details.items() if value}
