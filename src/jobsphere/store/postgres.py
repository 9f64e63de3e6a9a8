"""The stores of servers on PostgreSQL; see :mod:`jobsphere.store.postgres_database` for how."""

from __future__ import annotations

from jobsphere.domain.audit import AuditRow
from jobsphere.domain.job import Job
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.domain.operation import Operation
from jobsphere.store.jobs import Encode, SqlJobStore
from jobsphere.store.leases import SqlLeases
from jobsphere.store.postgres_connection import Address, connect, pool_of
from jobsphere.store.postgres_database import PostgresDatabase
from jobsphere.store.postgres_hints import PostgresHints
from jobsphere.store.postgres_schema import ensure_schema

CONNECTIONS = 10


class PostgresJobStore(SqlJobStore):
    """:class:`jobsphere.domain.ports.JobStore` in a PostgreSQL database. Belongs to one event loop.

    What it changes is told to the other servers of the database.
    """

    def __init__(
        self, database: PostgresDatabase, hints: PostgresHints, holder: str, encode: Encode, meter: Meter
    ) -> None:
        super().__init__(database, encode, meter)
        self._told = hints
        self.hints = hints
        self.leases = SqlLeases(database, holder)

    @classmethod
    async def open(
        cls,
        address: Address,
        encode: Encode,
        *,
        holder: str = "",
        connections: int = CONNECTIONS,
        meter: Meter = SILENT,
    ) -> PostgresJobStore:
        """Open the database; bring its schema up to date where needed.

        Args:
            address: Where it is. It exists; its tables need not.
            encode: Makes the published encoding of a job, once for each state that is stored.
            holder: Who this server is among those that share the database; the same after a restart.
            connections: How many at most, and one more that listens.
            meter: Is told of what was stored.

        Raises:
            FailedPreconditionError: a newer jobsphere made the schema.
            UnavailableError, CorruptedError, ResourceExhaustedError: it cannot be opened.
        """
        await ensure_schema(address)
        database = PostgresDatabase(await pool_of(address, connections), meter)
        return cls(database, PostgresHints(lambda: connect(address), database.notify), holder, encode, meter)

    async def add_job(self, job: Job, operation: Operation, audited: AuditRow | None = None) -> None:
        """Store a new job with its operation."""
        await super().add_job(job, operation, audited)
        self._told.tell(job.id)

    async def update_job(
        self, new: Job, was: Job, operation: Operation | None = None, audited: AuditRow | None = None
    ) -> bool:
        """Replace ``was`` by ``new`` if the stored job is still ``was``."""
        stored = await super().update_job(new, was, operation, audited)
        if stored:
            self._told.tell(new.id)
        return stored

    async def delete_job(self, job: Job, operation: Operation) -> bool:
        """Remove the job if the stored one is still ``job``."""
        deleted = await super().delete_job(job, operation)
        if deleted:
            self._told.tell(job.id)
        return deleted

    async def close(self) -> None:
        """Let what is under way end, and let go of the database. A repeat does nothing."""
        await self._told.close()
        await super().close()
