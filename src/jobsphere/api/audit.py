"""The audit log's side of a call: which calls are written down, what they name, and where they came from."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote

import grpc
import structlog
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from jobsphere.domain.audit import AuditRow
from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.resource import Subject
from jobsphere.service.audit import Audit
from jobsphere.service.trail import Trail

_READING = ("Get", "List", "Read", "Download")
_log = structlog.get_logger("jobsphere.api")


def changes(method: MethodDescriptor) -> bool:
    """Whether calls of the method may change something: all but those whose names say that they read."""
    return not method.name.startswith(_READING)


class AuditedMethod:
    """A method as the audit log knows it: its name, and which fields of its requests are ids."""

    def __init__(self, method: MethodDescriptor) -> None:
        self.name = f"{method.containing_service.name}/{method.name}"
        self._ids = [
            f.name
            for f in method.input_type.fields
            if f.name.endswith("_id") and f.type == FieldDescriptor.TYPE_STRING and not f.is_repeated
        ]

    def ids(self, request: Any) -> list[tuple[str, str]]:
        """The ids that a request names; of one that was not read, none. Nothing else of it is ever written down."""
        if request is None:
            return []
        return [(name, getattr(request, name)) for name in self._ids]


class Origins:
    """Who is behind the connections that the proxy makes to this server: by their own address, the client's."""

    def __init__(self) -> None:
        self._clients: dict[str, str] = {}

    def note(self, ours: Sequence[Any], client: Sequence[Any]) -> None:
        """A connection from ``ours`` is for ``client``; both are socket addresses."""
        self._clients[_text(ours)] = _text(client)

    def forget(self, ours: Sequence[Any]) -> None:
        """The connection is closed."""
        self._clients.pop(_text(ours), None)

    def of(self, peer: str) -> str:
        """Where a call came from, by what gRPC says of its peer."""
        address = unquote(peer).partition(":")[2]
        return self._clients.get(address, address)


class Auditor:
    """Writes calls down. ``origins``: where they come from."""

    def __init__(self, audit: Audit, origins: Origins) -> None:
        self._audit = audit
        self._origins = origins
        self._writing: set[asyncio.Task[None]] = set()

    def origin(self, peer: str) -> str:
        """Where a call came from, by what gRPC says of its peer."""
        return self._origins.of(peer)

    def row(
        self,
        method: AuditedMethod,
        request: Any,
        who: Subject,
        trail: Trail,
        peer: str,
        result: grpc.StatusCode,
        request_id: str,
    ) -> AuditRow | None:
        """A call's row; None for one that is not written down."""
        ids, origin = method.ids(request), self._origins.of(peer)
        return self._audit.row(who, method.name, ids, trail, origin, result.name, request_id)

    async def record(self, row: AuditRow) -> None:
        """Write a call down, also when its caller has left. A failure goes to the server's log: done is done."""
        writing = asyncio.create_task(self._write(row))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.shield(writing)

    async def _write(self, row: AuditRow) -> None:
        try:
            await self._audit.store(row)
        except JobsphereError as error:
            _log.error(
                "AUDIT ROW NOT STORED",
                action=row.action,
                subject=row.subject_id,
                target=row.target,
                origin=row.origin,
                result=row.result,
                request_id=row.request_id,
                cause=error.public,
            )


def _text(address: Sequence[Any]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
