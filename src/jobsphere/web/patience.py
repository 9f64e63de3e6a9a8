"""Connections that bring no request: cut after a while, and no more of them than there is room for."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

_log = structlog.get_logger("jobsphere.web")


class Patience:
    """Watches the connections of one server.

    The library waits for ever for the head of a request; whoever sends it a byte a minute, or nothing, would keep a
    descriptor for good, and so many of them would be all that there are.

    Args:
        request_s: How long the head of a request may take: of the first from the connection's begin on, of a later one
            from its first byte on.
        connections: How many may be open at once; more are turned away.
    """

    def __init__(self, request_s: float, connections: int) -> None:
        self.request_s = request_s
        self.connections = connections
        self.open: dict[asyncio.BaseProtocol, _Watched] = {}

    def watched(self, make: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """The maker of connections, with every one watched."""
        return lambda: _Watched(make(), self)

    @web.middleware
    async def middleware(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Tells when a request has come, and when it is over: in between the handler has patience of its own."""
        connection = self.open.get(request.protocol)
        if connection is not None:
            connection.begin()
        try:
            return await handler(request)
        finally:
            if connection is not None:
                connection.end()


class _Watched(asyncio.Protocol):
    """One connection: passes all on to the library's own."""

    def __init__(self, inner: asyncio.Protocol, patience: Patience) -> None:
        self._inner = inner
        self._patience = patience
        self._busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.BaseTransport | None = None

    def begin(self) -> None:
        """A whole head has come."""
        self._busy = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self) -> None:
        """Its request has been answered, or is about to be."""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._inner.connection_made(transport)
        if len(self._patience.open) >= self._patience.connections:
            _log.warning("too many connections for files: one was turned away", open=len(self._patience.open))
            self._cut()
            return
        self._patience.open[self._inner] = self
        self._wait()

    def data_received(self, data: bytes) -> None:
        if not self._busy and self._timer is None:
            self._wait()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.begin()
        self._patience.open.pop(self._inner, None)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._patience.request_s, self._cut)

    def _cut(self) -> None:
        if isinstance(self._transport, asyncio.Transport):
            self._transport.abort()


class PatientSite(web.SockSite):
    """A listening socket whose connections are watched."""

    def __init__(
        self, runner: web.AppRunner, listening: socket.socket, patience: Patience, tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(runner, listening, ssl_context=tls)
        self._tls = tls
        self._patience = patience

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None, "the runner is set up first"
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._patience.watched(server), sock=self._sock, backlog=self._backlog, ssl=self._tls
        )
