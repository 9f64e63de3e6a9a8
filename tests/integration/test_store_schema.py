"""The schema of a real file: how it comes to be, and what queries cost on it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from jobsphere.domain.errors import FailedPreconditionError, UnavailableError
from jobsphere.store import access_statements, queries, schema, statements
from jobsphere.store.access import SqliteTeams
from jobsphere.store.migrations import run
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.store.tables import metadata


def opened(path: Path) -> SqliteJobStore:
    return SqliteJobStore.open(path, lambda job: job.id.encode())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobsphere.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteJobStore]:
    store = opened(path)
    yield store
    await store.close()


# The schema.


def definitions(path: Path) -> set[str]:
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'alembic%'"
    with closing(sqlite3.connect(path)) as connection:
        return {" ".join(sql.replace("(", " ( ").replace(")", " ) ").split()) for (sql,) in connection.execute(query)}


def old(path: Path) -> None:
    """A database of the first version."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = run.configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()


async def test_the_migrations_make_the_tables(path: Path, store: SqliteJobStore, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/tables.db")
    metadata.create_all(engine)
    engine.dispose()
    assert definitions(path) == definitions(tmp_path / "tables.db")
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_the_head_is_the_newest_migration() -> None:
    assert ScriptDirectory.from_config(run.configuration()).get_current_head() == schema.HEAD


_OPEN = """
import sys
from pathlib import Path
from jobsphere.store.sqlite import SqliteJobStore
SqliteJobStore.open(Path(sys.argv[1]), lambda job: b"")
sys.exit(bool({"alembic", "sqlalchemy"} & set(sys.modules)))
"""


@pytest.fixture
def exit_of_open(path: Path) -> Callable[[], int]:
    return lambda: subprocess.run([sys.executable, "-c", _OPEN, path], check=False).returncode


def test_only_a_migration_loads_its_machinery(path: Path, exit_of_open: Callable[[], int]) -> None:
    assert [exit_of_open(), exit_of_open()] == [0, 0]
    path.unlink()
    old(path)
    assert [exit_of_open(), exit_of_open()] == [1, 0]


def test_a_new_database_is_what_the_migrations_make() -> None:
    assert run.FRESH.read_text() == run.fresh(), "run python -m jobsphere.store.migrations.run"


async def test_a_new_database_is_made_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statements = json.loads(run.FRESH.read_text())
    (broken := path.with_name("fresh.json")).write_text(json.dumps([*statements, "INSERT INTO nowhere VALUES (1)"]))
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_FRESH", broken)
        with pytest.raises(UnavailableError, match="cannot be reached"):
            opened(path)
    assert definitions(path) == set()
    await opened(path).close()


async def test_a_database_of_a_newer_version_is_refused_untouched(path: Path) -> None:
    await opened(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(FailedPreconditionError, match="made by a newer jobsphere"):
        opened(path)
    with closing(sqlite3.connect(path)) as connection:
        assert schema.current_revision(connection) == "9999"


async def test_a_migration_that_fails_leaves_what_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old(path)

    def broken(*_: object) -> None:
        raise OSError(5, "power cut")

    with monkeypatch.context() as patched:
        # After the tables were made, before the revision is written down.
        patched.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", broken)
        with pytest.raises(UnavailableError, match="power cut"):
            opened(path)
    assert "CREATE TABLE communities" not in " ".join(definitions(path))
    await opened(path).close()


_UPGRADE = """
import sys
from pathlib import Path
from jobsphere.store.sqlite import SqliteJobStore
print(flush=True)
sys.stdin.read()
SqliteJobStore.open(Path(sys.argv[1]), lambda job: b"")
"""


@pytest.mark.parametrize("before", [lambda path: None, old])
def test_servers_may_bring_one_file_up_to_date_at_once(path: Path, before: Callable[[Path], None]) -> None:
    before(path)
    with ExitStack() as stack:
        argv = [sys.executable, "-c", _UPGRADE, path]
        servers = [
            stack.enter_context(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)) for _ in range(3)
        ]
        for server in servers:
            assert server.stdout is not None
            server.stdout.readline()
        for server in servers:
            assert server.stdin is not None
            server.stdin.close()
    assert [server.returncode for server in servers] == [0, 0, 0]
    with closing(sqlite3.connect(path)) as connection:
        assert schema.current_revision(connection) == schema.HEAD


async def test_projects_of_the_first_version_get_their_communities(path: Path) -> None:
    old(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        for name, community in (("default", "c1"), ("two", "c2"), ("three", "c2")):
            connection.execute(
                "INSERT INTO projects (id, name, community_id, created_at, created_by_id, description) "
                "VALUES (?, ?, ?, 7, 'me', '')", (f"p-{name}", name, community),
            )  # fmt: skip
    store = opened(path)
    teams = store.beside(SqliteTeams)
    assert [(c.id, c.name, c.created_by_id) for c in await teams.list_communities()] == [
        ("c1", "default", "me"), ("c2", "c-c2", "me")
    ]  # fmt: skip
    project = await store.get_project("p-three")
    assert (project.community_id, project.labels, project.settings) == ("c2", (), b"")
    await store.close()


def test_the_statements_are_what_the_queries_say() -> None:
    assert queries.FILE.read_text() == queries.compiled(), "run python -m jobsphere.store.queries"


# What queries cost: by their plans, which do not depend on how fast this machine is.


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (statements.VIEW_JOB, "sqlite_autoindex_jobs_1 (id=?)"),
        (statements.GET_JOB, "sqlite_autoindex_jobs_1 (id=?)"),
        (statements.UPDATE_JOB, "sqlite_autoindex_jobs_1 (id=?)"),
        (statements.DELETE_JOB, "sqlite_autoindex_jobs_1 (id=?)"),
        (statements.PAGE, "jobs_newest (project_id=? AND seq<?)"),
        (statements.PAGE_BY_STATUS, "jobs_newest_by_status (project_id=? AND status=? AND seq<?)"),
        (statements.JOBS_LIVE, "jobs_live (status=?)"),
        (statements.EXPIRED_JOBS, "jobs_expiry (data_expires_at<?)"),
        (statements.JOBS_WITH_DATA, "jobs_with_data (project_id=?)"),
        (statements.REFERS, "job_blobs_by_hash (project_id=? AND sha256=?)"),
        (statements.DELETE_BLOBS, "PRIMARY KEY (job_id=?)"),
        (statements.DELETE_OPERATIONS, "operations_by_job (job_id=?)"),
        (statements.GET_OPERATION, "PRIMARY KEY (id=?)"),
        (statements.GET_RESOURCE, "sqlite_autoindex_resources_2 (id=?)"),
        (statements.UPDATE_RESOURCE, "sqlite_autoindex_resources_2 (id=?)"),
        (statements.FIND_RESOURCE, "sqlite_autoindex_resources_1 (project_id=? AND kind=? AND name=?)"),
        (access_statements.BINDINGS_OF, "PRIMARY KEY (account_id=?)"),
        (access_statements.BINDINGS_ON, "bindings_by_resource (resource_id=?)"),
        (access_statements.GET_ACCOUNT, "sqlite_autoindex_accounts_1 (id=?)"),
        (access_statements.ACCOUNT_OF, "sqlite_autoindex_accounts_3 (external_id=?)"),
        (access_statements.AUDIT_OF_PROJECT, "audit_by_project (project_id=?)"),
        (access_statements.DELETE_JOBS_OF_PROJECT, "jobs_newest_by_status (project_id=?)"),
        (access_statements.DELETE_OPERATIONS_OF_PROJECT, "operations_by_project (project_id=?)"),
    ],
)
async def test_a_query_walks_one_index_in_its_order(
    path: Path, store: SqliteJobStore, statement: statements.Statement, index: str
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", [None] * len(statement.names)).fetchall()
    (step,) = [row[3] for row in plan]
    assert step.startswith("SEARCH")
    assert step.endswith(index)
