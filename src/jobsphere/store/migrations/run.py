"""Runs the migrations on one SQLite file, without a configuration file."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, event

from jobsphere.store.connection import connect_writer

FRESH = Path(__file__).with_name("fresh.json")


class UnknownRevisionError(Exception):
    """The database is at a revision that is not among the migrations."""

    def __init__(self, revision: str) -> None:
        super().__init__(revision)
        self.revision = revision


def to_head(path: Path) -> None:
    """Bring the file to the newest revision: all of the way, or not at all.

    Raises:
        UnknownRevisionError: it is at none of ours.
    """
    with _transaction(path) as connection:
        config = configuration()
        config.attributes["connection"] = connection
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision is not None and revision not in known_revisions():
            raise UnknownRevisionError(revision)
        command.upgrade(config, "head")


def known_revisions() -> set[str]:
    """All revisions that this version knows."""
    return {script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()}


def fresh() -> str:
    """The content of ``fresh.json``: the statements that make, of an empty file, what all migrations do."""
    with tempfile.TemporaryDirectory() as folder:
        to_head(path := Path(folder, "fresh.db"))
        with closing(connect_writer(path)) as connection:
            statements = [one for one in connection.iterdump() if "sqlite_sequence" not in one]
    return json.dumps(statements[1:-1], indent=1) + "\n"  # without BEGIN and COMMIT


def configuration() -> Config:
    """Where the migrations are."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


@contextmanager
def _transaction(path: Path) -> Generator[Connection]:
    """One transaction that holds the write lock from its beginning: two servers started at once take turns."""
    engine = create_engine("sqlite://", creator=lambda: connect_writer(path), poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:  # pyright: ignore[reportUnusedFunction]
        # The driver would begin only at the first row written, and leave the schema's changes outside.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        yield connection
    engine.dispose()


if __name__ == "__main__":
    FRESH.write_text(fresh())
