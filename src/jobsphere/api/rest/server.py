"""Answers HTTP requests by the handlers that answer gRPC: who calls, roles, audit and errors are the same by that."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any

import grpc
from aiohttp import web
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from yandex.cloud.datasphere.v2.jobs import jobs_pb2
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.api.audit import changes
from jobsphere.api.registrar import Answer, Registrar
from jobsphere.api.rest import RestSettings
from jobsphere.api.rest.call import Call, ReaderLeftError
from jobsphere.api.rest.codec import Failed, json_of, request_of
from jobsphere.api.rest.events import Events
from jobsphere.api.rest.openapi import document
from jobsphere.api.rest.routes import Route, Routes
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.web.guard import from_elsewhere

MAX_BODY_BYTES = 8 << 20
IDLE_S = 60.0
_LOOK_AGAIN_S = 1.0
_ENDED = {jobs_pb2.SUCCESS, jobs_pb2.ERROR, jobs_pb2.CANCELLED}
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_EVENTS = "text/event-stream"


class Rest:
    """Answers requests. ``close`` ends the streams, so that their readers come back to the next server."""

    def __init__(self, registrar: Registrar, settings: RestSettings) -> None:
        self._registrar = registrar
        self._settings = settings
        self._routes = Routes(i.service for i in registrar.implementations)
        self._closing = False

    def close(self) -> None:
        """End what would else go on for ever."""
        self._closing = True

    def openapi(self, request: web.Request) -> web.Response:  # noqa: ARG002
        """The description of all of this."""
        return web.Response(body=self._document, content_type="application/json", headers={"Cache-Control": "no-cache"})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request of any path below the prefixes."""
        try:
            route, path = self._route(request)
            message = request_of(route, path, request.query.items(), await self._body(request, route))
            if route.method.server_streaming:
                _resume(request, message)
                return await self._stream(request, route, message)
            if _EVENTS in request.headers.get("Accept", "") and not changes(route.method):
                return await self._watch(request, route, message)
            return await self._once(request, route, message)
        except InvalidArgumentError as error:
            return _failure(Failed(grpc.StatusCode.INVALID_ARGUMENT, error.public), {})
        except Failed as error:
            return _failure(error, {})

    @cached_property
    def _document(self) -> bytes:
        return json.dumps(
            document(self._registrar.implementations, self._routes.all, self._settings.tokens_required)
        ).encode()

    def _route(self, request: web.Request) -> tuple[Route, dict[str, str]]:
        raw_path = request.rel_url.raw_path
        route, path, verbs = self._routes.find(request.method, raw_path)
        if route is not None:
            if changes(route.method) and from_elsewhere(request):
                # One of the published methods that change something is a GET.
                raise Failed(grpc.StatusCode.PERMISSION_DENIED, "another site's page sent this request")
            return route, path
        if verbs:
            words = f"{raw_path} takes {', '.join(verbs)}, not {request.method}"
            raise Failed(grpc.StatusCode.UNIMPLEMENTED, words, 405, {"Allow": ", ".join(verbs)})
        raise Failed(grpc.StatusCode.NOT_FOUND, f"nothing is at {raw_path}; /openapi.json tells what there is")

    async def _body(self, request: web.Request, route: Route) -> bytes:
        """The body: JSON, of whatever type it says it is, where the caller has shown that no browser's form sent it."""
        if not request.can_read_body or not route.body:
            return b""
        if request.content_type != "application/json" and "Authorization" not in request.headers:
            raise Failed(grpc.StatusCode.INVALID_ARGUMENT, "send the body as Content-Type: application/json", 415)
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Failed(grpc.StatusCode.INVALID_ARGUMENT, "send the body as it is, not compressed", 415)
        return await _limited(request)

    async def _once(self, request: web.Request, route: Route, message: Message) -> web.Response:
        call = self._begin(request, route)
        try:
            answer = await self._call(route, message, call)
        except Failed as error:
            return _failure(error, call.headers)
        body = json_of(route.method.output_type, answer)
        return web.Response(body=body, content_type="application/json", headers=_HEADERS | call.headers)

    async def _stream(self, request: web.Request, route: Route, message: Message) -> web.StreamResponse:
        events = Events(request)

        async def write(answer: Answer) -> None:
            offset = getattr(_message(route, answer), "offset", "")
            await events.send(json_of(route.method.output_type, answer), str(offset))

        call = self._begin(request, route, write)

        async def work() -> None:
            await self._registrar.call(route.path, message, call)

        return await self._events(events, call, work)

    async def _watch(self, request: web.Request, route: Route, message: Message) -> web.StreamResponse:
        """The answer of a method that reads, and again each time it is another one, until it can change no more."""
        events = Events(request)
        call = self._begin(request, route)
        job_id = getattr(message, "job_id", "")
        seen = request.headers.get("Last-Event-ID", "")

        async def work() -> None:
            nonlocal seen
            while not self._closing:
                answer = await self._call(route, message, call)
                body = json_of(route.method.output_type, answer)
                mark = hashlib.sha256(body).hexdigest()[:16]
                if mark != seen:
                    await events.send(body, mark)
                    seen = mark
                if _final(_message(route, answer)):
                    return
                await self._settings.changed(job_id, _LOOK_AGAIN_S)
            raise Failed(grpc.StatusCode.UNAVAILABLE, "the server is stopping")

        return await self._events(events, call, work)

    async def _events(self, events: Events, call: Call, work: Callable[[], Awaitable[None]]) -> web.StreamResponse:
        events.headers = call.headers
        signs = asyncio.create_task(events.signs_of_life())
        try:
            await work()
            return await events.end()
        except Failed as error:
            if not events.begun:
                return _failure(error, call.headers)
            return await (events.leave() if error.code is grpc.StatusCode.UNAVAILABLE else events.fail(error))
        except (ConnectionError, ReaderLeftError):
            return await events.leave()
        finally:
            signs.cancel()

    async def _call(self, route: Route, message: Message, call: Call) -> Answer:
        answer = await self._registrar.call(route.path, message, call)
        assert answer is not None
        return answer

    def _begin(
        self, request: web.Request, route: Route, write: Callable[[Answer], Awaitable[None]] | None = None
    ) -> Call:
        authorization = self._authorization(request, route)
        return Call(_peername(request), authorization, write, request.headers.get("traceparent"))

    def _authorization(self, request: web.Request, route: Route) -> str | None:
        """Who calls, by the header; what only reads may be called by this server's own pages, which have a cookie."""
        given = request.headers.get("Authorization")
        if given is None and not changes(route.method) and (token := self._settings.token(request)):
            return f"Bearer {token}"
        return given


async def _limited(request: web.Request) -> bytes:
    parts: list[bytes] = []
    size = request.content_length or 0
    while size <= MAX_BODY_BYTES:
        try:
            async with asyncio.timeout(IDLE_S):
                part = await request.content.readany()
        except TimeoutError:
            words = f"nothing came for {IDLE_S:.0f} s; send it again"
            raise Failed(grpc.StatusCode.INVALID_ARGUMENT, words, 408) from None
        if not part:
            return b"".join(parts)
        parts.append(part)
        size = sum(map(len, parts))
    raise Failed(grpc.StatusCode.INVALID_ARGUMENT, f"the body is larger than {MAX_BODY_BYTES >> 20} MiB", 413)


def _peername(request: web.Request) -> Any:
    return request.transport.get_extra_info("peername") if request.transport else None


def _resume(request: web.Request, message: Any) -> None:
    """A reader that comes again says which event was its last; that goes before what the URL says."""
    last = request.headers.get("Last-Event-ID", "")
    if not last:
        return
    if not last.isascii() or not last.isdigit() or len(last) > 18:
        raise InvalidArgumentError(f"Last-Event-ID: {last!r} is none of this stream's")
    message.offset = int(last)


def _message(route: Route, answer: Answer) -> Message:
    return GetMessageClass(route.method.output_type).FromString(answer) if isinstance(answer, bytes) else answer


def _final(message: Message) -> bool:
    if isinstance(message, jobs_pb2.Job):
        return message.status in _ENDED
    return isinstance(message, Operation) and message.done


def _failure(error: Failed, headers: dict[str, str]) -> web.Response:
    more = {"WWW-Authenticate": "Bearer"} if error.code is grpc.StatusCode.UNAUTHENTICATED else {}
    return web.Response(
        status=error.http,
        body=error.body(),
        content_type="application/json",
        headers=_HEADERS | headers | error.headers | more,
    )
