"""Which database a data directory has, and which a shared folder."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobsphere import config
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.resource import Community, Project
from jobsphere.store.access import SqlTeams
from jobsphere.wiring.database import holder_of, open_store, password_of, require_own_file
from jobsphere.wiring.leading import claim_shared

URL = "postgresql://me@127.0.0.1:1/name"


async def test_each_server_has_an_id_of_its_own_that_outlives_it(tmp_path: Path) -> None:
    """Hosts and folders have the same names in containers."""
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    first = holder_of(one)
    assert holder_of(one) == first
    assert holder_of(two).rpartition(":")[2] != first.rpartition(":")[2]


async def test_a_shared_folder_is_one_databases(tmp_path: Path) -> None:
    shared = tmp_path / "all"
    shared.mkdir()
    project = Project("p" * 20, "default", "c" * 20, datetime(2026, 1, 1, tzinfo=UTC), "ann")
    for name, added in (("one", True), ("two", False)):
        (tmp_path / name).mkdir()
        settings = config.load({"data_dir": tmp_path / name, "shared_dir": shared})
        store = await open_store(settings, tmp_path / name)
        teams = store.beside(SqlTeams)
        await teams.add_community(Community("c" * 20, "default", project.created_at, "ann"), None)
        await teams.create_project(replace(project, id=project.id if added else "q" * 20), None, None)
        if added:
            await claim_shared(settings, tmp_path / name, store)
            await claim_shared(settings, tmp_path / name, store)
        else:
            with pytest.raises(FailedPreconditionError, match="another database's servers"):
                await claim_shared(settings, tmp_path / name, store)
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
