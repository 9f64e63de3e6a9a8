"""Brings a PostgreSQL database to the schema that this version needs, while other servers are at work on it."""

from __future__ import annotations

from typing import Any

import asyncpg

from jobsphere.durable import Point, durable
from jobsphere.store.postgres_connection import LOST, Address, connect, translated
from jobsphere.store.schema import HEAD, newer

MIGRATION_S = 600.0
"""How long one statement of a migration may take."""
_LOCK = 0x6A6F6273
"""The number of the lock under which one server at a time changes the schema."""
_PATIENCE = "5s"
"""How long a migration waits for others to let go of a table: they wait behind it meanwhile."""


async def ensure_schema(address: Address) -> None:
    """Bring the database to :data:`jobsphere.store.schema.HEAD`.

    Does next to nothing when it is there already. Several servers may do it at once: one does, the others wait and find
    it done. One that dies on the way leaves the old schema.

    Raises:
        FailedPreconditionError: a newer jobsphere made it.
        UnavailableError: it cannot be reached, or others hold a table for too long.
    """
    connection = await connect(address, call_s=MIGRATION_S)
    try:
        if await current_revision(connection) != HEAD:
            await _upgrade(address, connection)
    except (*LOST, asyncpg.PostgresError) as error:
        raise translated(error) from error
    finally:
        connection.terminate()


async def current_revision(connection: Any) -> str | None:
    """The revision that the database says it is at; None for an empty one."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    return await connection.fetchval("SELECT version_num FROM alembic_version")


async def _upgrade(address: Address, connection: Any) -> None:
    from sqlalchemy import NullPool
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.ext.asyncio import create_async_engine

    from jobsphere.store.migrations import run

    async def ours() -> Any:
        return connection

    engine = create_async_engine("postgresql+asyncpg://", async_creator=ours, poolclass=NullPool)
    try:
        with durable(Point.STORE_SCHEMA):
            async with engine.begin() as begun:
                await begun.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
                await begun.exec_driver_sql(f"SET LOCAL lock_timeout = '{_PATIENCE}'")
                await begun.run_sync(run.upgrade)
    except run.UnknownRevisionError as error:
        raise newer(address.url, error.revision) from error
    except DBAPIError as error:
        raise translated((error.orig and error.orig.__cause__) or error) from error
    finally:
        await engine.dispose()
