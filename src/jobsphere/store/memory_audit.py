"""The audit log in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from jobsphere.domain.audit import AuditQuery, AuditRow


class MemoryAudit:
    """:class:`jobsphere.domain.access_ports.AuditStore` that forgets."""

    def __init__(self) -> None:
        self._rows: list[AuditRow] = []

    async def append(self, row: AuditRow) -> None:
        """Store a row."""
        self._rows.append(replace(row, number=self._rows[-1].number + 1 if self._rows else 1))

    async def cut(self, before: datetime) -> int:
        """Take the oldest rows away."""
        young = (number for number, row in enumerate(self._rows) if row.at >= before)
        gone = next(young, len(self._rows))
        self._rows = self._rows[gone:]
        return gone

    async def find(self, query: AuditQuery) -> Sequence[AuditRow]:
        """The newest rows that fit."""
        return [row for row in reversed(self._rows) if query.fits(row)][: query.limit]
