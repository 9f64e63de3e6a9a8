"""Leases as guarded rows: whose life is measured by the database's clock, which all servers share."""

from __future__ import annotations

from jobsphere.store import statements as sql
from jobsphere.store.database import Change, Database, Steps
from jobsphere.store.records import Row

LIFE_S = 5.0
"""How long another server waits for one that is gone. Its holder asks for it every second."""


class SqlLeases:
    """:class:`jobsphere.domain.replica_ports.Leases` in a database.

    Args:
        database: Where.
        holder: Who this server is: the same after a restart, which takes its own leases up at once.
        life_s: How long a lease lives that is not held again.
    """

    def __init__(self, database: Database, holder: str, life_s: float = LIFE_S) -> None:
        self._database = database
        self._holder = holder
        self._life = int(life_s * 1_000_000)

    async def hold(self, name: str) -> bool:
        """See the port."""

        def work() -> Steps[bool]:
            row: Row = {"name": name, "holder": self._holder, "life": self._life}
            if (yield Change(sql.HOLD_LEASE, row)):
                return True
            # A row that is there is another's and alive, unless it came just now: then it is another's as well.
            return (yield Change(sql.ADD_LEASE, row)) > 0

        return await self._database.write(work)

    async def holder(self, name: str) -> str:
        """See the port."""
        row = await self._database.one(sql.LEASE_HOLDER, name)
        return row[0] if row else ""

    async def release(self, name: str) -> None:
        """See the port."""

        def work() -> Steps[None]:
            yield Change(sql.RELEASE_LEASE, {"name": name, "holder": self._holder}, only=True)

        await self._database.write(work)
