"""Access control: communities, accounts with their tokens and roles, the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _communities()
    _accounts()
    _audit()
    op.add_column("projects", sa.Column("details", sa.Text, nullable=False, server_default=sa.text("'{}'")))
    op.add_column("operations", sa.Column("community_id", sa.String(64), nullable=False, server_default=sa.text("''")))
    op.create_index("operations_by_project", "operations", ["project_id"])


def downgrade() -> None:
    op.drop_index("operations_by_project", "operations")
    op.drop_column("operations", "community_id")
    op.drop_column("projects", "details")
    for table in ("audit", "bindings", "credentials", "accounts", "communities"):
        op.drop_table(table)


def _communities() -> None:
    op.create_table(
        "communities",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by_id", sa.String(256), nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("name"),
        sqlite_autoincrement=True,
    )
    # Until now a community was nothing but the id that its projects bear.
    op.execute(
        "INSERT INTO communities (id, name, created_at, created_by_id, description, details) "
        "SELECT p.community_id, "
        "CASE WHEN p.seq = (SELECT min(seq) FROM projects) THEN 'default' ELSE 'c-' || p.community_id END, "
        "p.created_at, p.created_by_id, '', '{}' FROM projects p "
        "WHERE p.seq IN (SELECT min(seq) FROM projects GROUP BY community_id) ORDER BY p.seq"
    )


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by_id", sa.String(256), nullable=False),
        sa.Column("external_id", sa.Text),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("name"),
        sa.UniqueConstraint("external_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "credentials",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("account_id", "name"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("sha256"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "bindings",
        sa.Column("account_id", sa.String(64), nullable=False),
        sa.Column("resource_id", sa.String(64), nullable=False),
        sa.Column("role_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "resource_id", "role_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("bindings_by_resource", "bindings", ["resource_id"])


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", _SEQ, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("subject_id", sa.String(256), nullable=False),
        sa.Column("subject_name", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("project_id", sa.String(64), nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("result", sa.String(32), nullable=False),
        sa.Column("request_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_by_project", "audit", ["project_id", "seq"])
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END"
            )
