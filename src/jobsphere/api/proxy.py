"""The HTTP CONNECT proxy by which unchanged clients find this server.

It leads the vendor's API host names to the local gRPC port, and nowhere else: it never connects to any other address.
In offline mode, which a client asks for by the user name in its proxy URL, every other host is answered here, by a
package index without packages: so a client that looks for its own newest version at exit is content without a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass

import structlog

from jobsphere.api.audit import Origins
from jobsphere.api.offline import PlayedHosts, index_page, leading_to
from jobsphere.api.proxy_http import Refusal, Request, read_request, refuse
from jobsphere.api.tls import TlsFiles

API_DOMAIN = "api.cloud.yandex.net"
UI_DOMAIN = "datasphere.yandex.cloud"
"""Where the links lead that the vendor's client prints."""
HTTPS_PORT = 443
OFFLINE_USER = "offline"

_CHUNK_BYTES = 64 * 1024
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_log = structlog.get_logger("jobsphere.api")

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter


def offline_proxy_url(host: str, port: int) -> str:
    """The proxy's URL with the mark of offline mode. The empty password is needed: clients drop a name without one."""
    return f"http://{OFFLINE_USER}:@{host}:{port}"


@dataclass(frozen=True, slots=True)
class ProxyLimits:
    """What one client, or many, may take: open connections, and seconds until a request or a handshake is complete."""

    connections: int = 512
    request_s: float = 10.0


class Proxy:
    """The proxy. Started once, stopped once.

    Args:
        target: Address and port of the local gRPC server.
        tls: The authority that signs for the hosts of offline mode.
        limits: See :class:`ProxyLimits`.
        origins: Is told whom each connection to the server is for.
        pages: Where this server's pages are: browsers that ask for the vendor's are led there.
    """

    def __init__(
        self,
        target: tuple[str, int],
        tls: TlsFiles,
        limits: ProxyLimits = ProxyLimits(),
        origins: Origins | None = None,
        pages: str = "",
    ) -> None:
        self._target = target
        self._origins = origins or Origins()
        self._played = PlayedHosts(tls, limits.request_s)
        self._pages = pages
        self._limits = limits
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._inside = 0

    async def start(self, host: str, port: int) -> int:
        """Listen.

        Args:
            host: The address to listen on.
            port: 0 for any free one.

        Returns:
            The port.

        Raises:
            OSError: the port is taken, or the address is not this machine's.
        """
        self._server = await asyncio.start_server(self._accept, host, port, limit=_CHUNK_BYTES)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is None:
            return
        self._server.close()
        connections = list(self._open)
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _accept(self, reader: Reader, writer: Writer) -> None:
        if len(self._open) >= 2 * self._limits.connections:  # too many even to tell them so
            writer.transport.abort()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        # Only those that were let in take a place: the turned away must not keep others out.
        crowded = self._inside >= self._limits.connections
        self._inside += not crowded
        try:
            await self._answer_or_refuse(reader, writer, crowded)
        except (OSError, EOFError, TimeoutError) as error:
            _log.debug("proxy connection ended", cause=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - one connection's trouble is not another's
            _log.error("proxy connection failed", exc_info=error)
        finally:
            self._inside -= not crowded
            await _close(writer, self._limits.request_s)

    async def _answer_or_refuse(self, reader: Reader, writer: Writer, crowded: bool) -> None:
        try:
            if crowded:
                raise Refusal(503, "too many connections; try again in a moment")
            async with asyncio.timeout(self._limits.request_s):
                request = await read_request(reader)
            await self._answer(request, reader, writer)
        except Refusal as refusal:
            _log.info("proxy refused a request", status=refusal.status, reason=refusal.public)
            await refuse(reader, writer, refusal)

    async def _answer(self, request: Request, reader: Reader, writer: Writer) -> None:
        if request.method != "CONNECT":
            raise Refusal(405, "this proxy only answers CONNECT; fetch plain http:// URLs without it (no_proxy)")
        host, port = request.authority()
        if self._leads_here(host, port):
            await self._tunnel(reader, writer)
        elif self._pages and (host, port) == (UI_DOMAIN, HTTPS_PORT):
            await self._played.serve(host, reader, writer, _ESTABLISHED, leading_to(self._pages))
        elif request.proxy_user() == OFFLINE_USER and port == HTTPS_PORT:
            await self._played.serve(host, reader, writer, _ESTABLISHED, index_page)
        else:
            raise Refusal(403, f"{host}:{port} is not served here: this proxy leads to the local jobsphere server only")

    def _leads_here(self, host: str, port: int) -> bool:
        if (host, port) == self._target:
            return True
        return port == HTTPS_PORT and (host == API_DOMAIN or host.endswith(f".{API_DOMAIN}"))

    async def _tunnel(self, reader: Reader, writer: Writer) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target, limit=_CHUNK_BYTES)
        except OSError as error:
            raise Refusal(502, "the jobsphere server does not answer; is it starting or stopping?") from error
        ours = up_writer.get_extra_info("sockname")
        self._origins.note(ours, writer.get_extra_info("peername"))
        try:
            _keep_alive(writer)
            writer.write(_ESTABLISHED)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pipe(reader, up_writer))
                both.create_task(_pipe(up_reader, writer))
        except* OSError as gone:
            _log.debug("proxy tunnel broken", cause=str(gone.exceptions[0]))
        finally:
            self._origins.forget(ours)
            await _close(up_writer, self._limits.request_s)


async def _pipe(reader: Reader, writer: Writer) -> None:
    """Carry one direction to its end; the other may go on."""
    while data := await reader.read(_CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def _keep_alive(writer: Writer) -> None:
    """Notice, some day, that the client's machine is gone."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


async def _close(writer: Writer, patience_s: float) -> None:
    """Close a connection; a peer that does not read its end is cut off."""
    writer.close()
    try:
        async with asyncio.timeout(patience_s):
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    except TimeoutError:
        writer.transport.abort()
