"""A package index without packages, for any host, under certificates of the local authority."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections import OrderedDict

from jobsphere.api.proxy_http import Refusal, read_request, refuse, response
from jobsphere.api.tls import TlsFiles, issue_host_certificate

MAX_HOSTS = 64
"""Certificates that are kept: more hosts push out the one that was used longest ago."""

_PAGE = b"""<!DOCTYPE html>
<html>
<head><meta name="pypi:repository-version" content="1.0"><title>Offline index</title></head>
<body></body>
</html>
"""


class OfflineIndex:
    """Plays the package index. ``patience_s``: how long a handshake, and then a request, may take."""

    def __init__(self, tls: TlsFiles, patience_s: float) -> None:
        self._tls = tls
        self._patience_s = patience_s
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    async def serve(
        self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, established: bytes
    ) -> None:
        """Answer ``established``, speak TLS as ``host``, and answer one request with the empty page.

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
                raise Refusal(405, "the offline index can only be read")
            writer.write(response(200, "text/html", _PAGE, with_body=request.method == "GET"))
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
        with tempfile.NamedTemporaryFile(dir=self._tls.ca_key.parent, prefix=".host.") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)
        return context
