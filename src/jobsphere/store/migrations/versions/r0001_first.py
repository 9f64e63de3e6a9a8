"""The first schema: jobs with their references to blobs, operations, projects."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_LIVE = sa.text("status IN ('PREPARING', 'EXECUTING', 'UPLOADING_OUTPUT', 'CANCELLING')")
_HAS_DATA = sa.column("data_cleared", sa.Boolean).is_(False)


def upgrade() -> None:
    _jobs()
    _job_blobs()
    _operations()
    _projects()


def downgrade() -> None:
    for table in ("projects", "operations", "job_blobs", "jobs"):
        op.drop_table(table)


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("status", sa.String(32), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("data_expires_at", sa.BigInteger),
        sa.Column("data_cleared", sa.Boolean, nullable=False),
        sa.Column("parent_job_id", sa.String(64), nullable=False),
        sa.Column("operation_id", sa.String(64), nullable=False),
        sa.Column("attempt_id", sa.String(64), nullable=False),
        sa.Column("view", sa.LargeBinary, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("jobs_newest", "jobs", ["project_id", "seq"])
    op.create_index("jobs_newest_by_status", "jobs", ["project_id", "status", "seq"])
    op.create_index("jobs_live", "jobs", ["status", "seq"], sqlite_where=_LIVE, postgresql_where=_LIVE)
    op.create_index("jobs_expiry", "jobs", ["data_expires_at"], sqlite_where=_HAS_DATA, postgresql_where=_HAS_DATA)
    op.create_index("jobs_with_data", "jobs", ["project_id", "seq"], sqlite_where=_HAS_DATA, postgresql_where=_HAS_DATA)


def _job_blobs() -> None:
    op.create_table(
        "job_blobs",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "sha256"),
        sqlite_with_rowid=False,
    )
    op.create_index("job_blobs_by_hash", "job_blobs", ["project_id", "sha256"])


def _operations() -> None:
    op.create_table(
        "operations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_with_rowid=False,
    )
    op.create_index("operations_by_job", "operations", ["job_id"])


def _projects() -> None:
    op.create_table(
        "projects",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("community_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by_id", sa.String(256), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("community_id", "name"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
