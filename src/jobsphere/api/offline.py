"""Hosts that are played here, under certificates of the local authority: a package index, and the vendor's pages."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import quote

from jobsphere.api.proxy_http import Refusal, Request, read_request, refuse, response
from jobsphere.api.tls import TlsFiles, issue_host_certificate

MAX_HOSTS = 64
"""Certificates that are kept: more hosts push out the one that was used longest ago."""

_PAGE = b"""<!DOCTYPE html>
<html>
<head><meta name="pypi:repository-version" content="1.0"><title>Offline index</title></head>
<body></body>
</html>
"""


def index_page(request: Request) -> bytes:
    """A package index without packages."""
    return response(200, "text/html", _PAGE, with_body=request.method == "GET")


def leading_to(pages: str) -> Callable[[Request], bytes]:
    """What leads a browser to the same path of this server's pages, which are at ``pages`` (a URL without a path)."""

    def redirect(request: Request) -> bytes:
        path = quote(request.target, safe="/?&=%:@-._~+") if request.target.startswith("/") else "/"
        return response(302, "text/plain", b"", more=f"Location: {pages}{path}\r\n")

    return redirect


class PlayedHosts:
    """Plays hosts. ``patience_s``: how long a handshake, and then a request, may take."""

    def __init__(self, tls: TlsFiles, patience_s: float) -> None:
        self._tls = tls
        self._patience_s = patience_s
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    async def serve(
        self,
        host: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        established: bytes,
        answer: Callable[[Request], bytes],
    ) -> None:
        """Answer ``established``, speak TLS as ``host``, and answer one request by ``answer``.

        Raises:
            OSError, EOFError, TimeoutError: the client does not go along.
        """
        context = self._context(host)
        writer.write(established)
        # No wait in between: the client's first TLS bytes must not be read as plain ones.
        await writer.start_tls(context, ssl_handshake_timeout=self._patience_s)
        try:
            async with asyncio.timeout(self._patience_s):
                request = await read_request(reader)
            if request.method not in {"GET", "HEAD"}:
                raise Refusal(405, "what is here can only be read")
            writer.write(answer(request))
            await writer.drain()
        except Refusal as refusal:
            await refuse(reader, writer, refusal)

    def _context(self, host: str) -> ssl.SSLContext:
        context = self._contexts.pop(host, None) or self._new_context(host)
        self._contexts[host] = context
        if len(self._contexts) > MAX_HOSTS:
            self._contexts.popitem(last=False)
        return context

    def _new_context(self, host: str) -> ssl.SSLContext:
        pem = issue_host_certificate(self._tls, host)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # Where a name is needed and no file may be left: a file in memory.
        with open(os.memfd_create("host", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            file.write(pem)
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return context
