"""``/metrics``: what the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from jobsphere.domain.resource import Subject
from jobsphere.service.access import only_operator


class MetricsMount:
    """The metrics as a part of an application. Where tokens are asked for, the operator's is asked for here too.

    Args:
        exposition: The text.
        content_type: Its type.
        authenticate: Turns the ``Authorization`` header into the caller, or raises UnauthenticatedError.
    """

    def __init__(
        self,
        exposition: Callable[[], bytes],
        content_type: str,
        authenticate: Callable[[str | None], Awaitable[Subject]],
    ) -> None:
        self._exposition = exposition
        self._content_type = content_type
        self._authenticate = authenticate

    def __call__(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get("/metrics", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        only_operator(await self._authenticate(request.headers.get("Authorization")), "read its metrics")
        return web.Response(body=self._exposition(), headers={"Content-Type": self._content_type})
