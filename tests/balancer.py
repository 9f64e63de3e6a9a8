"""A balancer of TCP connections, as stands before several servers: one address, and whoever takes the connection."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.live import HANG_S

_CHUNK_BYTES = 65536
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Balancer:
    """Passes each connection on to the next backend that takes it, on the port that it came to; bytes as they are.

    Args:
        host: Where it listens.
        backends: Whom it passes connections to, by address.
        ports: All ports, the same at every backend.
    """

    def __init__(self, host: str, backends: Sequence[str], ports: Sequence[int]) -> None:
        self.host = host
        self.carried: Counter[str] = Counter()
        """How many connections each backend was given."""
        self.only: Sequence[str] = backends
        """Who gets new connections: all, unless a test wants it otherwise."""
        self._ports = ports
        self._turn = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        """Listen on all ports."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(HANG_S)

    def stop(self) -> None:
        """Listen no more, and cut all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(HANG_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HANG_S)
        self._loop.close()

    async def _listen(self) -> None:
        self._servers = [await asyncio.start_server(self._serve(port), self.host, port) for port in self._ports]

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for writer in self._open:
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    def _serve(self, port: int):
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            behind = await self._connect(port)
            if behind is None:
                writer.transport.abort()
                return
            both = {writer, behind[1]}
            self._open |= both
            try:
                await asyncio.gather(_pump(reader, behind[1]), _pump(behind[0], writer))
            finally:
                self._open -= both
                for one in both:
                    one.close()

        return carry

    async def _connect(self, port: int) -> Streams | None:
        """The next one that listens."""
        for _ in range(len(self.only)):
            self._turn += 1
            host = self.only[self._turn % len(self.only)]
            try:
                streams = await asyncio.open_connection(host, port)
            except OSError:
                continue
            self.carried[host] += 1
            return streams
        return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes of one direction, and its end."""
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.transport.abort()  # the other end is told as this one was: by a reset


@contextmanager
def balancer(host: str, backends: Sequence[str], ports: Sequence[int]) -> Iterator[Balancer]:
    """A started one, stopped with all that it carries."""
    between = Balancer(host, backends, ports)
    between.start()
    try:
        yield between
    finally:
        between.stop()
