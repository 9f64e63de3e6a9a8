"""The queries of the store, written over the tables and in no dialect; ``statements.json`` has them in those there are.

The text is compiled beforehand, since loading what compiles it would take half of a server's start. After a change here
or in the tables run ``python -m jobsphere.store.queries``; a test fails until that was done.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from jobsphere.domain.job import JobStatus
from jobsphere.store import access_queries
from jobsphere.store.query import Query, names, now_micros
from jobsphere.store.tables import (
    HAS_DATA,
    LIVE,
    job_blobs,
    jobs,
    leases,
    operations,
    projects,
    resources,
    status_among,
)

FILE = Path(__file__).with_name("statements.json")


SETTLED = (JobStatus.CREATING, *(status for status in JobStatus if status.terminal))
"""The statuses of jobs that were never executed or are ended: no attempt works on their data."""

_CHANGING = ("status", "version", "data_expires_at", "data_cleared", "operation_id", "attempt_id", "view", "record")
_SAME_AS_BEFORE = (
    jobs.c.id == bindparam("was_id"),
    jobs.c.version == bindparam("was_version"),
    jobs.c.status == bindparam("was_status"),
)

# Writes.

ADD_JOB = Query(insert(jobs), names(*jobs.c))
UPDATE_JOB = Query(update(jobs).where(*_SAME_AS_BEFORE), _CHANGING)
DELETE_JOB = Query(delete(jobs).where(*_SAME_AS_BEFORE))
ADD_BLOB = Query(insert(job_blobs), names(*job_blobs.c), unless_there=True)
DELETE_BLOBS = Query(delete(job_blobs).where(job_blobs.c.job_id == bindparam("job_id")))
ADD_OPERATION = Query(insert(operations), names(*operations.c))
DELETE_OPERATIONS = Query(delete(operations).where(operations.c.job_id == bindparam("job_id")))
ADD_PROJECT = Query(insert(projects), names(*projects.c))

_SAME_RESOURCE = (
    resources.c.id == bindparam("was_id"),
    resources.c.kind == bindparam("was_kind"),
    resources.c.version == bindparam("was_version"),
)
ADD_RESOURCE = Query(insert(resources), names(*resources.c))
UPDATE_RESOURCE = Query(update(resources).where(*_SAME_RESOURCE), ("version", "body"))
DELETE_RESOURCE = Query(delete(resources).where(*_SAME_RESOURCE))

_UNTIL = now_micros() + bindparam("life", type_=BigInteger)
_MY_LEASE = and_(leases.c.name == bindparam("name"), leases.c.holder == bindparam("holder"))
_FREE_LEASE = and_(leases.c.name == bindparam("name"), leases.c.expires_at < now_micros())
HOLD_LEASE = Query(
    update(leases).where(or_(_MY_LEASE, _FREE_LEASE)).values(holder=bindparam("holder"), expires_at=_UNTIL)
)
ADD_LEASE = Query(
    insert(leases),
    unless_there=True,
    values={"name": bindparam("name"), "holder": bindparam("holder"), "expires_at": _UNTIL},
)
LEASE_HOLDER = Query(
    select(leases.c.holder).where(leases.c.name == bindparam("name"), leases.c.expires_at >= now_micros())
)
RELEASE_LEASE = Query(delete(leases).where(_MY_LEASE))

# Reads. None has a limit of its own: see :class:`jobsphere.store.query.Query` for those of which not all are wanted.

VIEW_JOB = Query(select(jobs.c.project_id, jobs.c.view).where(jobs.c.id == bindparam("id")))
GET_JOB = Query(select(jobs.c.id, jobs.c.record).where(jobs.c.id == bindparam("id")))


def _newest(*columns: Column[Any]) -> Select[Any]:
    """Of a project's jobs, their numbers first."""
    return (
        select(jobs.c.seq, *columns)
        .where(jobs.c.project_id == bindparam("project_id"), jobs.c.seq < bindparam("before"))
        .order_by(jobs.c.seq.desc())
    )


_PAGE = _newest(jobs.c.project_id, jobs.c.view)
PAGE = Query(_PAGE, cut=True)
PAGE_BY_STATUS = Query(_PAGE.where(jobs.c.status == bindparam("status")), cut=True)


def _in_status() -> Select[Any]:
    return (
        select(jobs.c.seq, jobs.c.id, jobs.c.record)
        .where(jobs.c.status == bindparam("status"))
        .order_by(jobs.c.seq.asc())
    )


JOBS_LIVE = Query(_in_status().where(LIVE))
JOBS_IN = Query(_in_status())
LIVE_IDS = Query(
    select(jobs.c.seq, jobs.c.id, jobs.c.attempt_id)
    .where(LIVE, jobs.c.status == bindparam("status"), jobs.c.seq > bindparam("after"))
    .order_by(jobs.c.seq.asc()),
    cut=True,
)
LIVE_PAGE = Query(_in_status().where(LIVE, jobs.c.seq > bindparam("after")), cut=True)


_FOUND = _newest(jobs.c.id, jobs.c.record)
FIND_JOBS = Query(_FOUND, cut=True)
FIND_JOBS_BY_STATUS = Query(_FOUND.where(jobs.c.status == bindparam("status")), cut=True)
FORKS = Query(_FOUND.where(jobs.c.parent_job_id == bindparam("parent_job_id")), cut=True)
EXPIRED_JOBS = Query(
    select(jobs.c.id, jobs.c.record)
    .where(HAS_DATA, jobs.c.data_expires_at <= bindparam("now"), status_among(SETTLED))
    .order_by(jobs.c.data_expires_at),
    cut=True,
)
JOBS_WITH_DATA = Query(
    select(jobs.c.id, jobs.c.record)
    .where(HAS_DATA, jobs.c.project_id == bindparam("project_id"), status_among(SETTLED))
    .order_by(jobs.c.seq)
)
REFERS = Query(
    select(job_blobs.c.sha256).where(
        job_blobs.c.project_id == bindparam("project_id"), job_blobs.c.sha256 == bindparam("sha256")
    )
)

_OPERATION = (
    operations.c.id,
    operations.c.kind,
    operations.c.project_id,
    operations.c.job_id,
    operations.c.created_at,
    operations.c.created_by,
    operations.c.community_id,
)
GET_OPERATION = Query(select(*_OPERATION).where(operations.c.id == bindparam("id")))

_PROJECT = (
    projects.c.id,
    projects.c.name,
    projects.c.community_id,
    projects.c.created_at,
    projects.c.created_by_id,
    projects.c.description,
    projects.c.details,
)
GET_PROJECT = Query(select(*_PROJECT).where(projects.c.id == bindparam("id")))
LIST_PROJECTS = Query(select(*_PROJECT).order_by(projects.c.seq))
LIST_PROJECTS_OF = Query(
    select(*_PROJECT).where(projects.c.community_id == bindparam("community_id")).order_by(projects.c.seq)
)

_RESOURCE = (
    resources.c.id,
    resources.c.project_id,
    resources.c.name,
    resources.c.created_at,
    resources.c.created_by_id,
    resources.c.version,
    resources.c.body,
)
_OF_KIND = resources.c.kind == bindparam("kind")
_OF_PROJECT = resources.c.project_id == bindparam("project_id")
GET_RESOURCE = Query(select(*_RESOURCE).where(resources.c.id == bindparam("id"), _OF_KIND))
FIND_RESOURCE = Query(select(*_RESOURCE).where(_OF_PROJECT, _OF_KIND, resources.c.name == bindparam("name")))
LIST_RESOURCES_OF = Query(select(*_RESOURCE).where(_OF_PROJECT, _OF_KIND).order_by(resources.c.seq))
LIST_RESOURCES = Query(select(*_RESOURCE).where(_OF_KIND).order_by(resources.c.seq))

_COUNT = select(func.count()).where(jobs.c.project_id == bindparam("project_id"))
COUNT_JOBS = Query(_COUNT)
COUNT_QUEUED = Query(_COUNT.where(jobs.c.status == bindparam("status"), jobs.c.attempt_id == literal_column("''")))

# Everything that there is: for a backup, and for a look at the whole data directory.

ALL_JOBS = Query(select(jobs.c.id, jobs.c.project_id, jobs.c.status, jobs.c.data_cleared, jobs.c.attempt_id))
ALL_REFERENCES = Query(select(job_blobs.c.job_id, job_blobs.c.project_id, job_blobs.c.sha256))
ALL_RECORDS = Query(select(jobs.c.id, jobs.c.record))
ALL_OF_KIND = Query(select(resources.c.project_id, resources.c.id).where(_OF_KIND))


def compiled() -> str:
    """The content of ``statements.json``: by name and dialect, the text and the names of its values in order."""
    everything = globals() | vars(access_queries)
    queries = {name: value.compiled() for name, value in everything.items() if isinstance(value, Query)}
    return json.dumps(queries, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(compiled())
