"""Where a data directory's database is: its own file, or PostgreSQL; and that nobody takes the one for the other.

A data directory whose database is PostgreSQL says so in a file: a command that is not told the same would else make an
empty file of SQLite, and work on that.
"""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Mapping
from pathlib import Path

from jobsphere.api.codec import encode_job
from jobsphere.config import PASSWORD_VARIABLE, Settings
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.durable import Point, ensure_private, write_private
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.sqlite import SqliteJobStore

FILE = "jobsphere.db"
_MARK = "database.url"
_ID = "server.id"


async def open_store(settings: Settings, data_dir: Path, meter: Meter = SILENT) -> SqlJobStore:
    """The stores that the settings name.

    Raises:
        FailedPreconditionError: the data directory's database is another, or a newer jobsphere made it.
        UnavailableError, CorruptedError, ResourceExhaustedError: it cannot be opened.
    """
    url = settings.database_url
    _check_same(data_dir, url)
    if not url:
        return SqliteJobStore.open(data_dir / FILE, encode_job, meter=meter)
    try:
        from jobsphere.store.postgres import PostgresJobStore
        from jobsphere.store.postgres_connection import Address
    except ModuleNotFoundError as error:
        raise FailedPreconditionError(
            f"setting database_url: PostgreSQL needs the package {error.name}; install jobsphere[postgres]"
        ) from error
    store = await PostgresJobStore.open(
        Address(url, password_of(settings, os.environ)), encode_job, holder=holder_of(data_dir), meter=meter
    )
    if not (data_dir / _MARK).exists():
        write_private(data_dir / _MARK, f"{url}\n".encode(), Point.SERVER_DATABASE)
    return store


def holder_of(data_dir: Path) -> str:
    """Who this server is among those of its database: the same after a restart, and nobody else.

    Hosts and folders may have the same names (in containers they do): the data directory has an id of its own.
    """
    path = data_dir / _ID
    ensure_private(path, lambda: secrets.token_hex(8).encode(), Point.SERVER_DATABASE)
    return f"{platform.node()}:{data_dir}:{path.read_text()}"


def password_of(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """The password of the database; None leaves it to the driver (PGPASSFILE and the like).

    Raises:
        FailedPreconditionError: its file cannot be read.
    """
    if settings.database_password_file is None:
        return environ.get(PASSWORD_VARIABLE) or None
    try:
        return settings.database_password_file.expanduser().read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FailedPreconditionError(f"setting database_password_file: it cannot be read: {error}") from error


def remote_url(data_dir: Path) -> str:
    """Where the PostgreSQL database of a data directory is; empty if its database is its own file."""
    try:
        return (data_dir / _MARK).read_text().strip()
    except FileNotFoundError:
        return ""


def require_own_file(data_dir: Path, what: str, instead: str) -> None:
    """Refuse ``what`` where the database is no file of the data directory.

    Raises:
        FailedPreconditionError: it is PostgreSQL; the text says to do ``instead``.
    """
    if url := remote_url(data_dir):
        raise FailedPreconditionError(f"{what}: the database of {data_dir} is PostgreSQL ({url}); {instead}")


def _check_same(data_dir: Path, url: str) -> None:
    if known := remote_url(data_dir):
        if not url:
            raise FailedPreconditionError(
                f"the database of {data_dir} is PostgreSQL: set database_url (or JOBSPHERE_DATABASE_URL) as its server "
                f"has it, {known}"
            )
    elif url and (data_dir / FILE).exists():
        raise FailedPreconditionError(
            f"{data_dir} has a database of its own, {FILE}, whose jobs PostgreSQL does not know: name another data "
            "directory, or move that file away"
        )
