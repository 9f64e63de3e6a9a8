"""Brings a database file to the schema that this version needs, in one transaction, before anything else is done."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.durable import Point, durable

HEAD = "0003"
"""The revision that the tables are at; the newest of ``migrations/versions``."""


def ensure_schema(path: Path, connection: sqlite3.Connection) -> None:
    """Bring the database at ``path``, which ``connection`` has open and idle, to :data:`HEAD`.

    Does next to nothing when it is there already. Several processes may do it at once, and one that dies on the way
    leaves the old schema.

    Raises:
        FailedPreconditionError: a newer jobsphere made it.
        sqlite3.Error: it cannot be read.
    """
    if current_revision(connection) != HEAD:
        upgrade(path)


def current_revision(connection: sqlite3.Connection) -> str | None:
    """The revision that the database says it is at; None for an empty one."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


def upgrade(path: Path) -> None:
    """Run the migrations that the database at ``path`` lacks.

    Raises:
        FailedPreconditionError: its revision is none of ours.
    """
    from jobsphere.store.migrations import run

    try:
        with durable(Point.STORE_SCHEMA):
            run.to_head(path)
    except run.UnknownRevisionError as error:
        raise FailedPreconditionError(
            f"the database {path} was made by a newer jobsphere; update this one, or name another data directory",
            revision=error.revision,
        ) from error
