"""REST: the methods of the published services as JSON over HTTP, by the same handlers as gRPC.

What it takes is imported when it is first used: a server that is only asked over gRPC does without.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from aiohttp import web

from jobsphere.api.registrar import Registrar

if TYPE_CHECKING:
    from jobsphere.api.rest.server import Rest

PREFIXES = ("datasphere", "operations", "iam", "endpoints")
"""What the paths of all published routes begin with."""


@dataclass(frozen=True)
class RestSettings:
    """What REST needs beside the handlers.

    ``changed``: returns when the job of an id changes, or after some seconds. ``token``: the token that the server's
    own pages show for a request that only reads, if they do. ``tokens_required``: whether calls need one.
    """

    changed: Callable[[str, float], Awaitable[None]]
    token: Callable[[web.Request], str | None]
    tokens_required: bool


class RestMount:
    """REST as a part of an application."""

    def __init__(self, registrar: Registrar, settings: RestSettings) -> None:
        self._registrar = registrar
        self._settings = settings

    @cached_property
    def rest(self) -> Rest:
        """What answers, made when it is first asked."""
        from jobsphere.api.rest.server import Rest

        return Rest(self._registrar, self._settings)

    def __call__(self, app: web.Application) -> None:
        """Add the routes."""
        for prefix in PREFIXES:
            app.router.add_route("*", f"/{prefix}/{{rest:[\\s\\S]*}}", self._answer)
            app.router.add_route("*", f"/{prefix}", self._answer)
        app.router.add_get("/openapi.json", self._openapi)
        app.on_shutdown.append(self._close)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return await self.rest.answer(request)

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return self.rest.openapi(request)

    async def _close(self, _: web.Application) -> None:
        if "rest" in self.__dict__:
            self.rest.close()
