"""The audit log: written by whatever takes calls in, read by the operator."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from jobsphere.domain.access_ports import AuditStore
from jobsphere.domain.audit import AuditQuery, AuditRow
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.ports import Clock
from jobsphere.domain.resource import Subject
from jobsphere.service.access import only_operator
from jobsphere.service.trail import Trail

MAX_ROWS = 100_000
OK = "OK"
SERVER = Subject("server", "server")
"""Who does what nobody has asked for."""
_MAX_ID_CHARS = 64
_ANONYMOUS_AT_ONCE = 100
_ANONYMOUS_PER_S = 1.0


class Audit:
    """The audit log.

    Whoever shows no valid token can still call as often as they like: of their calls about one a second is written
    down, so that nobody can fill the disk with them.
    """

    def __init__(self, store: AuditStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._room = float(_ANONYMOUS_AT_ONCE)
        self._looked_at = clock.now()
        self._left_out = 0

    async def record(
        self,
        who: Subject,
        action: str,
        ids: Sequence[tuple[str, str]],
        trail: Trail,
        origin: str,
        result: str,
        request_id: str = "",
    ) -> None:
        """Write one call down: :meth:`row` and :meth:`store`."""
        row = self.row(who, action, ids, trail, origin, result, request_id)
        if row is not None:
            await self.store(row)

    async def store(self, row: AuditRow) -> None:
        """Write a row that was not stored with what it tells of."""
        await self._store.append(row)

    def row(
        self,
        who: Subject,
        action: str,
        ids: Sequence[tuple[str, str]],
        trail: Trail,
        origin: str,
        result: str,
        request_id: str,
    ) -> AuditRow | None:
        """What is to be written of one call.

        Args:
            who: The caller; one without an id is not known.
            action: What was called.
            ids: The ids that the call named, by their fields.
            trail: What became known on the way.
            origin: Where the call came from.
            result: :data:`OK` or the name of a standard RPC code.
            request_id: By which the call is spoken of.

        Returns:
            The row; None if it is one of too many from callers that are not known.
        """
        subject = who if who.id or trail.subject is None else trail.subject
        if not subject.id and not self._has_room():
            self._left_out += 1
            return None
        named = dict(ids)
        targets = [f"{name}={_cut(value)}" for name, value in ids if value] + trail.notes
        if self._left_out:
            targets.append(f"calls_left_out={self._left_out}")
            self._left_out = 0
        return AuditRow(
            self._clock.now(),
            subject.id,
            subject.name,
            action,
            trail.project_id or _cut(named.get("project_id", "")),
            " ".join(targets),
            origin,
            result,
            request_id,
        )

    async def expire(self, days: int) -> int:
        """Take away the rows that are older than so many days (one at least); how many went.

        That is written down too: who reads the log sees that it was cut, and when.
        """
        before = self._clock.now() - timedelta(days=max(days, 1))
        gone = 0
        while part := await self._store.cut(before):
            gone += part
        if gone:
            notes = [("rows", str(gone)), ("before", before.isoformat())]
            await self.record(SERVER, "jobsphere audit expiry", notes, Trail(), SERVER.name, OK)
        return gone

    async def find(self, who: Subject, query: AuditQuery) -> Sequence[AuditRow]:
        """The newest rows that fit, newest first.

        Raises:
            PermissionDeniedError: the caller is not the operator.
            InvalidArgumentError: the limit cannot be.
        """
        only_operator(who, "read the audit log")
        if not 1 <= query.limit <= MAX_ROWS:
            raise InvalidArgumentError(f"limit: {query.limit}, while it must be 1 to {MAX_ROWS}")
        return await self._store.find(query)

    def _has_room(self) -> bool:
        now = self._clock.now()
        passed = max(0.0, (now - self._looked_at).total_seconds())
        self._room = min(_ANONYMOUS_AT_ONCE, self._room + passed * _ANONYMOUS_PER_S)
        self._looked_at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True


def _cut(text: str) -> str:
    """An id is short; what a client sends in its place need not be, and must not forge another field."""
    return "".join(c if c.isprintable() and c != " " else "?" for c in text[:_MAX_ID_CHARS])
