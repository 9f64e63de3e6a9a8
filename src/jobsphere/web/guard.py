"""Keeps other sites from using what a visitor's browser can reach.

A server for one machine asks for no tokens: whatever page its user has open could else speak to it. There are no CORS
headers here, so no other site reads an answer; this refuses what would change something unread.
"""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from jobsphere.domain.errors import PermissionDeniedError

_OPEN = ("/v1/blobs/", "/healthz", "/readyz", "/leadz")
"""What is not for browsers, or needs a signature anyway."""
_STRANGE = {"cross-site", "same-site"}


class Guard:
    """Looks at each request before anything else does.

    ``names``: the host names by which this server may be called; None for any. A name that is not known here may be
    another site's that was led to this address (DNS rebinding): where no tokens are asked for, that matters.
    """

    def __init__(self, names: frozenset[str] | None) -> None:
        self._names = names

    def check(self, request: web.Request) -> None:
        """Let it pass, or not.

        Raises:
            PermissionDeniedError: another site sent it, or it is for another host.
        """
        if request.path.startswith(_OPEN):
            return
        if self._names is not None and not self._ours(request.host):
            raise PermissionDeniedError(
                f"this server is not known as {request.host!r}; use its address, or set public_host to that name"
            )
        if from_elsewhere(request) and not _follows_a_link(request):
            raise PermissionDeniedError("another site's page sent this request; open this server's own pages")

    def _ours(self, host: str) -> bool:
        name = urlsplit(f"//{host}").hostname or ""
        try:
            ip_address(name)
        except ValueError:
            return name == "localhost" or name in (self._names or ())
        return True


def from_elsewhere(request: web.Request) -> bool:
    """Whether a browser says that a page of another site sent the request."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        return True
    return request.headers.get("Sec-Fetch-Site") in _STRANGE


def _follows_a_link(request: web.Request) -> bool:
    return request.method in {"GET", "HEAD"} and request.headers.get("Sec-Fetch-Mode") == "navigate"


def guarding(guard: Guard) -> Middleware:
    """The guard as a middleware."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        guard.check(request)
        return await handler(request)

    return middleware
