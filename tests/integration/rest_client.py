"""REST on a port of its own, over the handlers of a gRPC server, and a client that reads events."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from jobsphere.api.rest import RestMount, RestSettings
from jobsphere.api.rest.routes import Route, Routes
from jobsphere.api.server import GrpcServer
from jobsphere.service.changes import Changes
from jobsphere.web.app import build_app, serve

COOKIE = "session"


@dataclass
class Event:
    """A server-sent event."""

    id: str = ""
    event: str = "message"
    data: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class RestClient:
    """Speaks to REST as ``token``."""

    base: str
    session: aiohttp.ClientSession
    routes: Routes
    changes: Changes

    def route(self, name: str) -> Route:
        return next(r for r in self.routes.all if f"{r.method.containing_service.name}/{r.method.name}" == name)

    async def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
        **how: Any,
    ) -> tuple[int, Any]:
        """The status and what was answered, JSON read."""
        all_headers = ({"Authorization": f"Bearer {token}"} if token else {}) | (headers or {})
        async with self.session.request(verb, self.base + path, json=body, headers=all_headers, **how) as response:
            return response.status, await response.json(content_type="application/json")

    async def rpc(self, name: str, fields: dict[str, Any], token: str) -> tuple[int, Any]:
        """Call a method with the fields of its request (names as in JSON)."""
        route = self.route(name)
        path, fields = route.template, dict(fields)
        for field in route.fields:
            value = fields.pop(route.method.input_type.fields_by_name[field].json_name, "-")
            path = path.replace(f"{{{field}}}", value)
        if route.body:
            return await self.call(route.verb, path, fields, token=token)
        return await self.call(route.verb, path, token=token, params=fields)

    @asynccontextmanager
    async def events(
        self, path: str, token: str = "", last: str = "", headers: dict[str, str] | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """The events of a path."""
        wanted = {"Accept": "text/event-stream", "Authorization": f"Bearer {token}"} | (headers or {})
        wanted |= {"Last-Event-ID": last} if last else {}
        async with self.session.get(self.base + path, headers=wanted) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield _events(response)


async def _events(response: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    event = Event()
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name in {"id", "event", "data"}:
            setattr(event, name, value)
        elif not name and event.data:
            yield event
            event = Event()


@asynccontextmanager
async def rest_of(server: GrpcServer, tokens_required: bool = True) -> AsyncIterator[RestClient]:
    """REST over a started server's handlers."""
    changes = Changes()
    cookie: Callable[[Any], str | None] = lambda request: request.cookies.get(COOKIE)  # noqa: E731
    mount = RestMount(server.registrar, RestSettings(changes.wait, cookie, tokens_required))
    listening = socket.create_server(("127.0.0.1", 0))
    names = None if tokens_required else frozenset({"jobs.example"})
    runner = await serve(build_app(None, None, lambda: True, parts=[mount], names=names), listening)  # type: ignore[arg-type]
    base = f"http://127.0.0.1:{listening.getsockname()[1]}"
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        routes = Routes(i.service for i in server.registrar.implementations)
        yield RestClient(base, session, routes, changes)
    await runner.cleanup()
