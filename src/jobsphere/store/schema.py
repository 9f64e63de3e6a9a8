"""Brings a database file to the schema that this version needs, in one transaction, before anything else is done."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.durable import Point, durable

HEAD = "0004"
"""The revision that the tables are at; the newest of ``migrations/versions``."""
_FRESH = Path(__file__).with_name("migrations") / "fresh.json"


def ensure_schema(path: Path, connection: sqlite3.Connection) -> None:
    """Bring the database at ``path``, which ``connection`` has open and idle, to :data:`HEAD`.

    Does next to nothing when it is there already. Several processes may do it at once, and one that dies on the way
    leaves the old schema.

    Raises:
        FailedPreconditionError: a newer jobsphere made it.
        sqlite3.Error: it cannot be read.
    """
    if current_revision(connection) is None:
        _make(connection)
    if current_revision(connection) != HEAD:
        upgrade(path)


def current_revision(connection: sqlite3.Connection) -> str | None:
    """The revision that the database says it is at; None for an empty one."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone() is None:
        return None
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return row[0] if row else None


def check_known(path: Path, connection: sqlite3.Connection) -> str:
    """The revision of the database at ``path``, which ``connection`` has open.

    Raises:
        FailedPreconditionError: a newer jobsphere made it, or it is no database of jobsphere.
    """
    revision = current_revision(connection)
    if revision is None:
        raise FailedPreconditionError(f"{path} is no database of jobsphere; name the data directory of a server")
    if revision == HEAD:
        return revision
    from jobsphere.store.migrations import run

    if revision not in run.known_revisions():
        raise _newer(path, revision)
    return revision


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
        raise _newer(path, error.revision) from error


def _make(connection: sqlite3.Connection) -> None:
    """The tables of an empty database, by the statements that all migrations together come to.

    To load what runs migrations would cost a new server a third of a second, and 20 MiB for as long as it lives.
    """
    with durable(Point.STORE_SCHEMA):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if current_revision(connection) is None:  # another process may have been first
                for statement in json.loads(_FRESH.read_text()):
                    connection.execute(statement)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _newer(path: Path, revision: str) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"the database {path} was made by a newer jobsphere (its schema is {revision}, the newest that this version "
        f"knows is {HEAD}): nothing was changed; start the newer version again, or restore the backup that was made "
        "before the update into a new data directory",
        revision=revision,
    )
