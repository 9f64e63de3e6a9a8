"""The audit log may be cut at its old end: the oldest row can go once it is a day old, and no other."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute("DROP TRIGGER audit_no_delete")
    op.execute(
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
        "WHEN OLD.seq > (SELECT min(seq) FROM audit) "
        "OR OLD.at > (CAST(strftime('%s', 'now') AS INTEGER) - 86400) * 1000000 "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name != "sqlite":
        return
    op.execute("DROP TRIGGER audit_no_delete")
    op.execute(
        "CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit "
        "BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END"
    )
