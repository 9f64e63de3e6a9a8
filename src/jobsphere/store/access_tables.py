"""The tables of access control: communities, accounts, their tokens and roles, and the audit log."""

from __future__ import annotations

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Index,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
)

from jobsphere.store.tables import SEQ, metadata

communities = Table(
    "communities",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by_id", String(256), nullable=False),
    Column("description", Text, nullable=False),
    Column("details", Text, nullable=False),
    sqlite_autoincrement=True,
)

accounts = Table(
    "accounts",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", String(32), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by_id", String(256), nullable=False),
    # Null where there is none: any number of accounts may have none.
    Column("external_id", Text, unique=True),
    sqlite_autoincrement=True,
)

credentials = Table(
    "credentials",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("account_id", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    UniqueConstraint("account_id", "name"),
    sqlite_autoincrement=True,
)

bindings = Table(
    "bindings",
    metadata,
    Column("account_id", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False),
    Column("role_id", String(64), nullable=False),
    PrimaryKeyConstraint("account_id", "resource_id", "role_id"),
    sqlite_with_rowid=False,
)

audit = Table(
    "audit",
    metadata,
    Column("seq", SEQ, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("subject_id", String(256), nullable=False),
    Column("subject_name", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("project_id", String(64), nullable=False),
    Column("target", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("result", String(32), nullable=False),
    Column("request_id", String(64), nullable=False),
    sqlite_autoincrement=True,
)

Index("bindings_by_resource", bindings.c.resource_id)
Index("audit_by_project", audit.c.project_id, audit.c.seq)

_EXCEPT_AT_ITS_END = (
    "WHEN OLD.seq > (SELECT min(seq) FROM audit) "
    "OR OLD.at > (CAST(strftime('%s', 'now') AS INTEGER) - 86400) * 1000000 "
)
APPEND_ONLY = tuple(
    f"CREATE TRIGGER audit_no_{verb.lower()} BEFORE {verb} ON audit {unless}"
    "BEGIN SELECT RAISE(ABORT, 'the audit log is only ever added to'); END"
    for verb, unless in (("UPDATE", ""), ("DELETE", _EXCEPT_AT_ITS_END))
)
"""What keeps rows of the audit log as they are, whoever has the database open. They go at the old end only: the oldest
one, when it is a day old. So no row can be taken out from among others."""

for _trigger in APPEND_ONLY:
    event.listen(audit, "after_create", DDL(_trigger.replace("%", "%%")).execute_if(dialect="sqlite"))
