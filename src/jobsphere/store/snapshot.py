"""The database as a whole: a copy of it as it is at one moment, and what it says there must be beside it."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from jobsphere.domain.errors import CorruptedError, NotFoundError
from jobsphere.domain.job import Job, JobStatus
from jobsphere.domain.resources import B, Dataset, Resource
from jobsphere.store import statements as sql
from jobsphere.store.connection import connect_reader
from jobsphere.store.records import load
from jobsphere.store.resources import load_resource
from jobsphere.store.schema import HEAD, check_known, current_revision, upgrade
from jobsphere.store.sqlite_database import translating

_MISSING_VALUE = re.compile(r"NULL value in (\w+)\.(\w+)")
_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What a job says about its files. ``attempt_id`` is empty for one that never had an attempt."""

    id: str
    project_id: str
    status: JobStatus
    data_cleared: bool
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What a database says there is.

    ``references``: the jobs that refer to a blob, by project and SHA-256. ``datasets``: by project and id.
    """

    revision: str
    jobs: Mapping[str, JobFacts] = field(default_factory=dict[str, JobFacts])
    references: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict[tuple[str, str], Sequence[str]])
    datasets: frozenset[tuple[str, str]] = frozenset()
    projects: frozenset[str] = frozenset()


def take_snapshot(database: Path, target: Path) -> Contents:
    """Copy the database, which others may write to meanwhile, as it is now; what the copy says there is.

    The copy has the revision of the original and is one file, complete and durable. Writers are not held up.

    Raises:
        NotFoundError: there is no database.
        FailedPreconditionError: a newer jobsphere made it.
        CorruptedError: the copy is damaged, hence the original.
    """
    if not database.is_file():
        raise NotFoundError(f"there is no database {database}; name the data directory of a server")
    target.unlink(missing_ok=True)
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with translating(), closing(connect_reader(database)) as source, closing(sqlite3.connect(target)) as copy:
        revision = check_known(database, source)
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        if problems := integrity_problems(copy):
            raise CorruptedError(f"the database {database} is damaged: {problems[0]}; restore it from a backup")
    if revision == HEAD:
        return contents_of(target)
    return _contents_of_older(target, revision)


def contents_of(database: Path) -> Contents:
    """What a database of this version's revision says there is, all of one moment."""
    with translating(), closing(connect_reader(database)) as connection:
        connection.execute("BEGIN")
        jobs = (
            JobFacts(id_, project_id, JobStatus(status), bool(cleared), attempt_id)
            for id_, project_id, status, cleared, attempt_id in connection.execute(sql.ALL_JOBS.sql)
        )
        references: dict[tuple[str, str], list[str]] = {}
        for job_id, project_id, sha256 in connection.execute(sql.ALL_REFERENCES.sql):
            references.setdefault((project_id, sha256), []).append(job_id)
        return Contents(
            current_revision(connection) or "",
            {job.id: job for job in jobs},
            references,
            frozenset(connection.execute(sql.ALL_OF_KIND.sql, sql.ALL_OF_KIND.bind({"kind": Dataset.KIND}))),
            frozenset(row[0] for row in connection.execute(sql.LIST_PROJECTS.sql)),
        )


def revision_of(database: Path) -> str:
    """The revision of a database.

    Raises:
        FailedPreconditionError: as :func:`jobsphere.store.schema.check_known`.
        CorruptedError, UnavailableError: it cannot be read.
    """
    with translating(), closing(connect_reader(database)) as connection:
        return check_known(database, connection)


def damage_of(database: Path) -> list[str]:
    """What SQLite finds wrong in a database, the first ten things."""
    with translating(), closing(connect_reader(database)) as connection:
        return integrity_problems(connection)


def stored_jobs(database: Path) -> Iterator[Job | CorruptedError]:
    """Every job as it is stored, or why it cannot be read."""
    with translating(), closing(connect_reader(database)) as connection:
        for job_id, record in connection.execute(sql.ALL_RECORDS.sql):
            try:
                yield load(job_id, record)
            except CorruptedError as error:
                yield error


def stored_resources(database: Path, kind: type[B]) -> list[Resource[B]]:
    """Every resource of a kind.

    Raises:
        CorruptedError: one cannot be read.
    """
    with translating(), closing(connect_reader(database)) as connection:
        statement = sql.LIST_RESOURCES
        rows = connection.execute(statement.sql, statement.bind({"kind": kind.KIND})).fetchall()
        return [load_resource(kind, row) for row in rows]


def integrity_problems(connection: sqlite3.Connection) -> list[str]:
    """What SQLite finds wrong in a database, the first ten; it reads through all of it."""
    null_free: set[tuple[str, str]] = set()

    def is_false(line: str) -> bool:
        # SQLite 3.40 takes columns of a table without rowid for others and finds values missing that are there.
        found = _MISSING_VALUE.fullmatch(line)
        if found is None or found.groups() in null_free:
            return found is not None
        table, column = found.groups()
        if connection.execute(f"SELECT 1 FROM {table} WHERE {column} IS NULL LIMIT 1").fetchone():  # noqa: S608
            return False
        null_free.add((table, column))
        return True

    lines = (str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({2**31 - 1})"))
    return list(islice((line for line in lines if line != "ok" and not is_false(line)), _PROBLEMS))


def _contents_of_older(copy: Path, revision: str) -> Contents:
    """Read from a second copy, brought up to date: the first stays what its own version can read."""
    newer = copy.with_name(f"{copy.name}.newer")
    try:
        shutil.copyfile(copy, newer)
        upgrade(newer)
        found = contents_of(newer)
    finally:
        for suffix in ("", "-wal", "-shm"):
            newer.with_name(newer.name + suffix).unlink(missing_ok=True)
    return Contents(revision, found.jobs, found.references, found.datasets, found.projects)
