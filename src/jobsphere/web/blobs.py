"""Bytes in and out by signed URL: one plain PUT, one plain GET."""

from __future__ import annotations

import asyncio
import time
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.domain.ports import BlobStore, UrlSigner

SEND_CHUNK_BYTES = 1 << 20
Admit = Callable[[str, int], AbstractAsyncContextManager[None]]
Settle = Callable[[str, str], Awaitable[None]]


class Blobs:
    """The handlers of ``/v1/blobs/{project}/{sha256}``. What they may do is in the URL's grant and nowhere else."""

    def __init__(
        self,
        signer: UrlSigner,
        blobs: BlobStore,
        idle_timeout_s: float,
        known: Callable[[str], Awaitable[object]],
        admit: Admit,
        settle: Settle,
        meter: Meter = SILENT,
    ) -> None:
        self._meter = meter
        self._signer = signer
        self._blobs = blobs
        self._idle_timeout_s = idle_timeout_s
        self._known = known
        self._admit = admit
        self._settle = settle

    async def put(self, request: web.Request) -> web.Response:
        """Take a blob in; a repeat is fine. Without a ``Content-Length`` (chunked) the grant alone says how much."""
        grant = self._signer.verify("PUT", request.path, request.query)
        if request.content_length not in {None, grant.size_bytes}:
            raise InvalidArgumentError(
                f"the request has {request.content_length} bytes, while {grant.size_bytes} were announced"
            )
        await self._known(grant.project_id)
        begin = time.monotonic()
        new = await self._blobs.missing(grant.project_id, [grant.sha256])  # a repeat brings nothing
        async with self._admit(grant.project_id, grant.size_bytes) if new else nullcontext():
            await self._blobs.receive(grant.project_id, grant.sha256, grant.size_bytes, self._body(request))
        await self._settle(grant.project_id, grant.sha256)
        self._meter.transferred("up", grant.size_bytes, time.monotonic() - begin)
        return web.Response(status=200)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Give a blob, or a range of it; ``HEAD`` with the URL for ``GET`` tells its size."""
        method = "GET" if request.method == "HEAD" else request.method
        grant = self._signer.verify(method, request.path, request.query)
        path = await self._blobs.read(grant.project_id, grant.sha256)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": _disposition(grant.name or grant.sha256),
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private",
        }
        return _Download(self._meter, path, chunk_size=SEND_CHUNK_BYTES, headers=headers)

    async def _body(self, request: web.Request) -> AsyncIterator[bytes]:
        """The body as it comes. A client that has gone or sends nothing any more ends it with a sentence."""
        while True:
            try:
                async with asyncio.timeout(self._idle_timeout_s):
                    chunk = await request.content.readany()
            except TimeoutError:
                raise InvalidArgumentError(f"nothing came for {self._idle_timeout_s:.0f} s; send it again") from None
            except (ConnectionError, web.RequestPayloadError) as error:
                raise InvalidArgumentError("the connection ended before all bytes came; send it again") from error
            if not chunk:
                return
            yield chunk


class _Download(web.FileResponse):
    def __init__(self, meter: Meter, path: Path, **more: Any) -> None:
        super().__init__(path, **more)
        self._meter = meter

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send all of it: that is how this kind of response is made."""
        begin = time.monotonic()
        writer = await super().prepare(request)
        self._meter.transferred("down", self.content_length or 0, time.monotonic() - begin)
        return writer


def _disposition(name: str) -> str:
    """A download's suggested name: in plain ASCII for old clients, in full by RFC 5987 for the others."""
    name = name.rstrip("/").rpartition("/")[2] or "file"
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "".join(c for c in plain if c.isprintable() and c not in '"\\%') or "file"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
