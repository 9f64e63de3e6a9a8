"""Connections to the one database file, and what the driver's errors mean to a caller."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from jobsphere.domain.errors import CorruptedError, JobsphereError, ResourceExhaustedError, UnavailableError

BUSY_TIMEOUT_S = 10.0
"""How long a write waits for another process's lock on the database."""

_WAL_AGAIN_S = 0.01
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def connect_writer(path: Path, busy_timeout_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """The connection that writes: made here, used by one other thread. A commit is on the disk when it returns.

    The file is made if it is not there, for its owner only: environment variables of jobs are in it.
    """
    with suppress(FileExistsError):
        # Never opened here when it exists: closing any descriptor of a file drops all locks that this process has on
        # it, and the next process to leave would take the log of a database that is in use with it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = _connect(path, "rw", busy_timeout_s)
    _use_wal(connection, busy_timeout_s)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def _use_wal(connection: sqlite3.Connection, busy_timeout_s: float) -> None:
    """The driver waits for locks, but not for this one: processes that make one new file at once meet here."""
    until = time.monotonic() + busy_timeout_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > until:
                raise
            time.sleep(_WAL_AGAIN_S)
        else:
            return


def connect_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read, for one thread at a time. It never waits for the writer."""
    return _connect(path, "ro", BUSY_TIMEOUT_S)


def _connect(path: Path, mode: str, busy_timeout_s: float) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=busy_timeout_s,
        isolation_level=None,
        check_same_thread=False,
    )


def translated(error: sqlite3.Error) -> JobsphereError:
    """The driver's error as the caller's: full, damaged, or worth another try."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    # The low byte is the kind; the rest only tells in which system call it happened.
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if kind == sqlite3.SQLITE_FULL:
        return ResourceExhaustedError("the disk that holds the database is full; make room and try again", cause=name)
    if kind in _DAMAGED:
        return CorruptedError("the database file is damaged; restore it from a backup", cause=name)
    if kind in _BUSY:
        return UnavailableError("the database is locked by another process; try again", cause=name)
    return UnavailableError("the database cannot be reached; try again", cause=name, detail=str(error))
