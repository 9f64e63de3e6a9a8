"""The store of a simulated server in PostgreSQL, with what the database itself says it has written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

from benchmarks.instruments import CommitMeter, CountedDatabase, Counts
from jobsphere.api.codec import encode_job
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.postgres import CONNECTIONS, PostgresJobStore
from jobsphere.store.postgres_connection import Address, connect, pool_of
from jobsphere.store.postgres_database import PostgresDatabase
from jobsphere.store.postgres_hints import PostgresHints
from jobsphere.store.postgres_schema import ensure_schema


async def open_postgres(
    database: Sequence[str], counts: Counts, meter: CommitMeter
) -> tuple[SqlJobStore, Callable[[], Awaitable[int]]]:
    """The store, and how many bytes of log the database has written by now."""
    url, password = database
    address = Address(url, password)
    await ensure_schema(address)
    pool = await pool_of(address, CONNECTIONS)
    counted = cast("Any", CountedDatabase(PostgresDatabase(pool, meter), counts))
    hints = PostgresHints(lambda: connect(address), counted.notify)

    async def written() -> int:
        async with pool.acquire() as connection:
            return await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")

    return PostgresJobStore(counted, hints, "simulation", encode_job, meter), written
