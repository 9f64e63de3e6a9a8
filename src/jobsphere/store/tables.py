"""The tables. One definition for every database: no statement and no migration may know more than this says.

Times are whole microseconds since the epoch, UTC. ``seq`` is the order of creation and is never given twice, so that it
can be the key of a page; clocks jump. The short columns of a job stand before its two bodies: a look at a status does
not walk through them.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from jobsphere.domain.job import LIVE_STATUSES, JobStatus

metadata = MetaData()

SEQ = BigInteger().with_variant(Integer, "sqlite")

jobs = Table(
    "jobs",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("project_id", String(64), nullable=False),
    Column("status", String(32), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("data_expires_at", BigInteger),
    Column("data_cleared", Boolean, nullable=False),
    Column("parent_job_id", String(64), nullable=False),
    Column("operation_id", String(64), nullable=False),
    Column("attempt_id", String(64), nullable=False),
    Column("view", LargeBinary, nullable=False),
    Column("record", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

job_blobs = Table(
    "job_blobs",
    metadata,
    Column("job_id", String(64), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    PrimaryKeyConstraint("job_id", "sha256"),
    sqlite_with_rowid=False,
)

operations = Table(
    "operations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", String(256), nullable=False),
    Column("community_id", String(64), nullable=False, server_default=text("''")),
    sqlite_with_rowid=False,
)

projects = Table(
    "projects",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("community_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by_id", String(256), nullable=False),
    Column("description", Text, nullable=False),
    Column("details", Text, nullable=False, server_default=text("'{}'")),
    UniqueConstraint("community_id", "name"),
    sqlite_autoincrement=True,
)

resources = Table(
    "resources",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("project_id", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by_id", String(256), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    UniqueConstraint("project_id", "kind", "name"),
    sqlite_autoincrement=True,
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def status_among(statuses: Iterable[JobStatus]) -> ColumnElement[bool]:
    """The job is in one of ``statuses``, written out: a partial index serves only what repeats its own words."""
    return jobs.c.status.in_([literal_column(f"'{status}'") for status in statuses])


LIVE: ColumnElement[bool] = status_among(LIVE_STATUSES)
HAS_DATA: ColumnElement[bool] = jobs.c.data_cleared.is_(False)

Index("jobs_newest", jobs.c.project_id, jobs.c.seq)
Index("jobs_newest_by_status", jobs.c.project_id, jobs.c.status, jobs.c.seq)
Index("jobs_live", jobs.c.status, jobs.c.seq, sqlite_where=LIVE, postgresql_where=LIVE)
Index("jobs_expiry", jobs.c.data_expires_at, sqlite_where=HAS_DATA, postgresql_where=HAS_DATA)
Index("jobs_with_data", jobs.c.project_id, jobs.c.seq, sqlite_where=HAS_DATA, postgresql_where=HAS_DATA)
Index("job_blobs_by_hash", job_blobs.c.project_id, job_blobs.c.sha256)
Index("operations_by_job", operations.c.job_id)
Index("operations_by_project", operations.c.project_id)
Index("leases_by_holder", leases.c.holder)
