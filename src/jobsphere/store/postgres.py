"""The stores of servers on PostgreSQL; see :mod:`jobsphere.store.postgres_database` for how."""

from __future__ import annotations

from jobsphere.domain.meter import SILENT, Meter
from jobsphere.store.jobs import Encode, SqlJobStore
from jobsphere.store.postgres_connection import Address, pool_of
from jobsphere.store.postgres_database import PostgresDatabase
from jobsphere.store.postgres_schema import ensure_schema

CONNECTIONS = 10


class PostgresJobStore(SqlJobStore):
    """:class:`jobsphere.domain.ports.JobStore` in a PostgreSQL database. Belongs to one event loop."""

    @classmethod
    async def open(
        cls, address: Address, encode: Encode, *, connections: int = CONNECTIONS, meter: Meter = SILENT
    ) -> PostgresJobStore:
        """Open the database; bring its schema up to date where needed.

        Args:
            address: Where it is. It exists; its tables need not.
            encode: Makes the published encoding of a job, once for each state that is stored.
            connections: How many at most.
            meter: Is told of what was stored.

        Raises:
            FailedPreconditionError: a newer jobsphere made the schema.
            UnavailableError, CorruptedError, ResourceExhaustedError: it cannot be opened.
        """
        await ensure_schema(address)
        return cls(PostgresDatabase(await pool_of(address, connections), meter), encode, meter)
