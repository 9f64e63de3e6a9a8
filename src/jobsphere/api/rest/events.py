"""Answers as server-sent events: the messages of a stream, or one answer each time it changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from aiohttp import web

from jobsphere.api.rest.codec import Failed

FIRST_SIGN_S = 1.0
SIGN_S = 15.0
END = b"event: end\ndata: {}\n\n"
_RETRY = b"retry: 1000\n\n"


class Events:
    """One response of events. It begins with the first event, or after a second: until then a failure is a status."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._response: web.StreamResponse | None = None
        self._lock = asyncio.Lock()
        self.headers: dict[str, str] = {}

    @property
    def begun(self) -> bool:
        """Whether the status is sent."""
        return self._response is not None

    async def send(self, data: bytes, event_id: str = "", event: str = "") -> None:
        """Send an event. ``data`` is one line.

        Raises:
            ConnectionError: nobody reads any more.
        """
        head = f"id: {event_id}\n" if event_id else ""
        head += f"event: {event}\n" if event else ""
        await self._write(head.encode() + b"data: " + data + b"\n\n")

    async def end(self) -> web.StreamResponse:
        """Say that nothing follows: a reader need not come again."""
        await self._write(END)
        return await self.leave()

    async def leave(self) -> web.StreamResponse:
        """End the response; a reader comes again and goes on where it was."""
        response = await self._begun()
        with contextlib.suppress(ConnectionError):
            await response.write_eof()
        return response

    async def fail(self, error: Failed) -> web.StreamResponse:
        """Say why it ends here."""
        await self.send(error.body(), event="failed")
        return await self.leave()

    async def signs_of_life(self) -> None:
        """Send comments for ever, so that nobody on the way takes a quiet stream for a dead one."""
        await asyncio.sleep(FIRST_SIGN_S)
        with contextlib.suppress(ConnectionError):
            while True:
                await self._write(b": here\n\n")
                await asyncio.sleep(SIGN_S)

    async def _write(self, data: bytes) -> None:
        async with self._lock:
            await (await self._begun()).write(data)

    async def _begun(self) -> web.StreamResponse:
        if self._response is None:
            self._response = web.StreamResponse(headers=event_headers(self.headers))
            await self._response.prepare(self._request)
            await self._response.write(_RETRY)
        return self._response


def event_headers(more: Mapping[str, str]) -> dict[str, str]:
    """The headers of such a response."""
    return {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Accel-Buffering": "no",
        **more,
    }
