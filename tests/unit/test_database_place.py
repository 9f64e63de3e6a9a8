"""Which database a data directory has, and whose turn it is to move its jobs on."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from jobsphere import config
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.store.leases import SqlLeases
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.wiring.database import open_store, password_of, require_own_file, take_turn

URL = "postgresql://me@127.0.0.1:1/name"


def a_server(path: Path, holder: str) -> SqliteJobStore:
    store = SqliteJobStore.open(path, lambda _: b"")
    store.leases = store.beside(lambda database: SqlLeases(database, holder))
    return store


async def test_one_server_moves_the_jobs_of_a_database_on(tmp_path: Path) -> None:
    one, two = (a_server(tmp_path / "jobsphere.db", name) for name in ("one", "two"))
    async with AsyncExitStack() as stack:
        await take_turn(one, stack)
        with pytest.raises(FailedPreconditionError, match="another server"):
            await take_turn(two, stack)
    async with AsyncExitStack() as stack:
        await take_turn(two, stack)
    for store in (one, two):
        await store.close()


async def test_a_directory_with_its_own_database_takes_no_other(tmp_path: Path) -> None:
    await (await open_store(config.load({"data_dir": tmp_path}), tmp_path)).close()
    with pytest.raises(FailedPreconditionError, match="has a database of its own"):
        await open_store(config.load({"data_dir": tmp_path, "database_url": URL}), tmp_path)


async def test_a_directory_whose_database_is_elsewhere_makes_none(tmp_path: Path) -> None:
    (tmp_path / "database.url").write_text(f"{URL}\n")
    with pytest.raises(FailedPreconditionError, match="set database_url"):
        await open_store(config.load({"data_dir": tmp_path}), tmp_path)
    with pytest.raises(FailedPreconditionError, match="pg_dump"):
        require_own_file(tmp_path, "no backup was made", "use pg_dump")
    assert not (tmp_path / "jobsphere.db").exists()


def test_the_password_comes_from_a_file_or_a_variable(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("from a file\n")
    environ = {"JOBSPHERE_DATABASE_PASSWORD": "from a variable"}
    assert password_of(config.load({"database_url": URL}), environ) == "from a variable"
    assert password_of(config.load({"database_url": URL}), {}) is None
    named = config.load({"database_url": URL, "database_password_file": secret})
    assert password_of(named, environ) == "from a file"
    secret.unlink()
    with pytest.raises(FailedPreconditionError, match="database_password_file"):
        password_of(named, environ)
