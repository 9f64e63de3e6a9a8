"""PostgreSQL behind the stores: its schema, writes that meet, and a database that goes away."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.ext.asyncio import create_async_engine
from tests.postgres import PASSWORD, Postgres

from jobsphere.domain.errors import FailedPreconditionError, NotFoundError, UnavailableError
from jobsphere.domain.job import Job, JobSpec, JobStatus
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.resource import Community, Project
from jobsphere.store import schema
from jobsphere.store.access import SqlTeams
from jobsphere.store.access_tables import metadata
from jobsphere.store.postgres import PostgresJobStore
from jobsphere.store.postgres_connection import Address
from jobsphere.store.postgres_schema import ensure_schema

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CUT = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.new_database()


@pytest.fixture
def address(postgres: Postgres, database: str) -> Address:
    return Address(postgres.url(database), PASSWORD)


@pytest.fixture
async def store(address: Address) -> AsyncIterator[PostgresJobStore]:
    opened = await PostgresJobStore.open(address, lambda job: job.id.encode())
    yield opened
    await opened.close()


def a_job(number: int, status: JobStatus = JobStatus.CREATING) -> Job:
    return Job(f"job{number}", "p1", "me", NOW, JobSpec("true"), status=status)


def an_operation(number: int, kind: OperationKind = OperationKind.CREATE) -> Operation:
    return Operation(f"op{number}", kind, "p1", "", NOW, "me")


async def add(store: PostgresJobStore, job: Job, number: int = 1) -> None:
    await store.add_job(job, an_operation(number))


# The schema.


async def test_the_migrations_make_the_tables(postgres: Postgres, database: str, store: PostgresJobStore) -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: postgres.connect(database))
    async with engine.connect() as connection:
        found = await connection.run_sync(lambda c: compare_metadata(MigrationContext.configure(c), metadata))
    await engine.dispose()
    assert found == []


async def test_a_database_of_a_newer_version_is_refused_untouched(
    postgres: Postgres, database: str, address: Address
) -> None:
    await ensure_schema(address)
    postgres.run(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(FailedPreconditionError, match="made by a newer jobsphere") as caught:
        await ensure_schema(address)
    assert PASSWORD not in f"{caught.value} {caught.value.context} {address!r}"
    assert postgres.run(database, "SELECT version_num FROM alembic_version") == "9999"


_OPEN = """
import asyncio, sys
from jobsphere.store.postgres_connection import Address
from jobsphere.store.postgres_schema import ensure_schema
print(flush=True)
url, password = sys.stdin.read().split()
asyncio.run(ensure_schema(Address(url, password)))
sys.exit(bool({"alembic", "sqlalchemy"} & set(sys.modules)))
"""


def test_servers_may_make_one_schema_at_once(postgres: Postgres, database: str, address: Address) -> None:
    def opened(number: int) -> list[int]:
        with ExitStack() as stack:
            servers = [
                stack.enter_context(
                    subprocess.Popen([sys.executable, "-c", _OPEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                )
                for _ in range(number)
            ]
            for server in servers:
                assert server.stdout
                server.stdout.readline()
            for server in servers:
                assert server.stdin
                server.stdin.write(f"{address.url} {address.password}".encode())
                server.stdin.close()
        return [server.returncode for server in servers]

    assert set(opened(2)) <= {0, 1}
    assert postgres.run(database, "SELECT version_num FROM alembic_version") == schema.HEAD
    assert opened(1) == [0]  # and it has not loaded what migrates


async def test_a_migration_leaves_a_server_at_work(
    postgres: Postgres, database: str, address: Address, store: PostgresJobStore
) -> None:
    await add(store, a_job(1))
    # As a table of the future has it: this version neither reads nor writes the column.
    postgres.run(database, "ALTER TABLE jobs ADD COLUMN more TEXT NOT NULL DEFAULT ''")
    postgres.run(database, "ALTER TABLE jobs ALTER COLUMN status TYPE VARCHAR(40)")
    assert (await store.get_job("job1")).id == "job1"
    await add(store, a_job(2), 2)
    new = replace(a_job(1), status=JobStatus.PREPARING, version=2)
    assert await store.update_job(new, a_job(1), an_operation(3))


async def test_a_migration_that_cannot_have_its_table_gives_up(
    postgres: Postgres, database: str, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ensure_schema(address)
    monkeypatch.setattr("jobsphere.store.postgres_schema._PATIENCE", "50ms")
    postgres.run(
        database,
        "DROP TABLE leases; DROP FUNCTION audit_unchanged CASCADE; UPDATE alembic_version SET version_num = '0004'",
    )
    holder = await postgres.connect(database)
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE audit IN ROW EXCLUSIVE MODE")
            with pytest.raises(UnavailableError, match="others hold"):
                await ensure_schema(address)
    finally:
        await holder.close()
    assert postgres.run(database, "SELECT to_regclass('leases') IS NULL") == "t"


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit SET result = 'x'", "DELETE FROM audit WHERE seq = 2", "DELETE FROM audit", "TRUNCATE audit"],
)
async def test_the_database_lets_nobody_change_a_row_of_the_audit_log(
    postgres: Postgres, database: str, store: PostgresJobStore, statement: str
) -> None:
    row = "('{}', '', '', 'S/Create', '', '', '', 'OK', '')"
    columns = "at, subject_id, subject_name, action, project_id, target, origin, result, request_id"
    recent = int(datetime.now(UTC).timestamp() * 1_000_000)
    postgres.run(database, f"INSERT INTO audit ({columns}) VALUES {row.format(1)}, {row.format(recent)}")
    connection = await postgres.connect(database)
    try:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="only ever added to"):
            await connection.execute(statement)
    finally:
        await connection.close()
    postgres.run(database, "DELETE FROM audit WHERE seq = 1")


# Writes that meet.


async def test_no_job_starts_in_a_project_that_goes(store: PostgresJobStore) -> None:
    teams = store.beside(SqlTeams)
    await teams.add_community(Community("c1", "default", NOW, "me"), None)
    for round_ in range(10):
        await teams.create_project(Project("p1", "one", "c1", NOW, "me"), None, None)
        job = a_job(round_)
        await add(store, job, 1000 + round_)
        started, removal = await asyncio.gather(
            store.update_job(replace(job, status=JobStatus.PREPARING, version=2), job, an_operation(2000 + round_)),
            teams.delete_project("p1", an_operation(3000 + round_, OperationKind.DELETE_PROJECT)),
        )
        assert started == bool(removal.live)
        if started:
            ended = replace(job, status=JobStatus.CANCELLED, version=3)
            assert await store.update_job(ended, replace(job, status=JobStatus.PREPARING, version=2))
            await teams.delete_project("p1", an_operation(4000 + round_, OperationKind.DELETE_PROJECT))


async def test_no_project_comes_into_a_community_that_goes(store: PostgresJobStore) -> None:
    teams = store.beside(SqlTeams)
    for round_ in range(10):
        community = Community(f"c{round_}", f"team{round_}", NOW, "me")
        await teams.add_community(community, None)
        made, left = await asyncio.gather(
            teams.create_project(Project(f"q{round_}", "one", community.id, NOW, "me"), None, None),
            teams.delete_community(community.id, an_operation(round_, OperationKind.DELETE_COMMUNITY)),
            return_exceptions=True,
        )
        assert isinstance(made, NotFoundError) == (left == ())


async def test_a_name_that_no_text_can_have_is_not_found(store: PostgresJobStore) -> None:
    with pytest.raises(NotFoundError):
        await store.get_job("a\0b")


async def test_a_write_that_is_cancelled_leaves_its_connection_to_others(address: Address) -> None:
    store = await PostgresJobStore.open(address, lambda job: b"", connections=1)
    for number in range(20):
        write = asyncio.create_task(add(store, a_job(number), number))
        for _ in range(number):
            await asyncio.sleep(0)
        write.cancel()
        await asyncio.gather(write, return_exceptions=True)
    await add(store, a_job(100), 100)
    await store.close()


# A database that goes away.


async def test_a_killed_database_is_told_and_survived(postgres: Postgres, store: PostgresJobStore) -> None:
    job = a_job(1)
    await add(store, job)
    postgres.kill()
    try:
        for call in (store.get_job("job1"), add(store, a_job(2), 2), store.jobs_in([JobStatus.CREATING])):
            with pytest.raises(UnavailableError, match="cannot be reached; try again"):
                await call
    finally:
        postgres.start()
    assert await store.get_job("job1") == job
    assert await store.update_job(replace(job, status=JobStatus.PREPARING, version=2), job)


async def test_a_read_outlives_a_connection_that_was_cut(
    postgres: Postgres, database: str, store: PostgresJobStore
) -> None:
    await add(store, a_job(1))
    for _ in range(5):
        postgres.run(database, CUT)
        assert (await store.get_job("job1")).id == "job1"


async def test_a_standby_is_left(postgres: Postgres, database: str, store: PostgresJobStore) -> None:
    await add(store, a_job(1))
    postgres.run("postgres", f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    postgres.run(database, CUT)
    with pytest.raises(UnavailableError, match="takes no writes now"):
        await add(store, a_job(2), 2)
    postgres.run("postgres", f"ALTER DATABASE {database} RESET default_transaction_read_only")
    await add(store, a_job(9), 9)


async def test_a_wrong_password_is_told_without_it(address: Address) -> None:
    with pytest.raises(UnavailableError, match="refuses the server's login") as caught:
        await PostgresJobStore.open(Address(address.url, "planted-wrong"), lambda _: b"")
    assert not re.search("planted", f"{caught.value} {caught.value.context}")


# Hints.


async def heard(queue: asyncio.Queue[str]) -> str:
    async with asyncio.timeout(20):
        return await queue.get()


async def test_a_change_is_told_to_the_others_and_again_after_a_restart(
    postgres: Postgres, address: Address, store: PostgresJobStore
) -> None:
    other = await PostgresJobStore.open(address, lambda _: b"")
    told: asyncio.Queue[str] = asyncio.Queue()
    own: asyncio.Queue[str] = asyncio.Queue()
    other.hints.subscribe(told.put_nowait, lambda: told.put_nowait("missed"))
    store.hints.subscribe(own.put_nowait, lambda: own.put_nowait("missed"))
    assert [await heard(told), await heard(own)] == ["missed", "missed"]
    job = a_job(1)
    await add(store, job)
    assert await heard(told) == job.id
    assert await store.update_job(replace(job, status=JobStatus.PREPARING, version=2), job)
    assert await heard(told) == job.id

    postgres.kill()
    postgres.start()
    assert [await heard(told), await heard(own)] == ["missed", "missed"]
    await add(store, a_job(2), 2)
    assert await heard(told) == "job2"
    assert own.empty()
    await other.close()


async def test_who_reads_a_log_is_told_to_the_others(address: Address, store: PostgresJobStore) -> None:
    other = await PostgresJobStore.open(address, lambda _: b"")
    told: asyncio.Queue[tuple[str, str, float]] = asyncio.Queue()
    ready = asyncio.Event()
    other.hints.subscribe(lambda _: None, ready.set, lambda *words: told.put_nowait(words))
    async with asyncio.timeout(20):
        await ready.wait()
        store.hints.tell_reading("job1", 10)
        store.hints.tell_reading("job2", 0.25)
        store.hints.tell_reading("job1", 7.5)
        found = {job_id: (server, for_s) for server, job_id, for_s in (await told.get(), await told.get())}
    assert {job_id: for_s for job_id, (_, for_s) in found.items()} == {"job1": 7.5, "job2": 0.25}
    assert len({server for server, _ in found.values()}) == 1
    await other.close()
