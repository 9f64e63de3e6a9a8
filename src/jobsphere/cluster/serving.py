"""What an agent answers: the runner of its node by HTTPS, to servers that show the cluster's token.

Nothing of a request's body is ever logged: plans hold sealed secrets and users' variables.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import structlog
from aiohttp import web

from jobsphere.domain.attempt import AttemptPlan, StopOrder
from jobsphere.domain.attempt_ports import KeepingRunner
from jobsphere.domain.errors import InvalidArgumentError, JobsphereError, UnavailableError
from jobsphere.runner import wire
from jobsphere.runner.records import loads
from jobsphere.runner.wire import BEAT_S, PREFIX
from jobsphere.web.patience import Patience, PatientSite

_REQUEST_S = 30.0
_CONNECTIONS = 8192
_BODY_BYTES = 1 << 28
_SHUTDOWN_S = 1.0
Work = Callable[[web.Request], Awaitable[bytes]]
T = TypeVar("T")
log = structlog.get_logger("jobsphere.agent")


class _Listeners:
    """The servers that are given hints."""

    def __init__(self) -> None:
        self._open: dict[asyncio.Event, set[str]] = {}

    def tell(self, attempt_id: str) -> None:
        """Every one of them; those that are slow are told once of what moved twice."""
        for event, moved in self._open.items():
            moved.add(attempt_id)
            event.set()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Lines for as long as the server is there: an attempt that may have moved, or nothing, to say that we live."""
        response, event, moved = web.StreamResponse(), asyncio.Event(), set[str]()
        self._open[event] = moved
        try:
            with suppress(ConnectionError):  # it went away
                await response.prepare(request)
                while True:
                    lines = b"".join(f"{attempt_id}\n".encode() for attempt_id in moved)
                    moved.clear()
                    event.clear()
                    await response.write(lines or b"\n")
                    await _within(event.wait(), BEAT_S)
        finally:
            del self._open[event]
        return response


def build_agent_app(runner: KeepingRunner, token: str) -> web.Application:
    """The application. Made where the runner may be subscribed to.

    Args:
        runner: The node's.
        token: What servers must show.
    """
    listeners, patience = _Listeners(), Patience(_REQUEST_S, _CONNECTIONS)
    runner.subscribe(listeners.tell)
    app = web.Application(middlewares=[patience.middleware, _only_with(token)], client_max_size=_BODY_BYTES)
    app[_PATIENCE] = patience
    app.router.add_get(f"{PREFIX}/hints", listeners.serve)
    app.router.add_get(f"{PREFIX}/attempts/{{attempt}}/logs", _logs(runner))
    for method, path, work in _Works(runner).routes():
        app.router.add_route(method, PREFIX + path, _answering(work, runner.node))
    return app


_PATIENCE = web.AppKey("patience", Patience)


async def serve_agent(app: web.Application, listening: socket.socket, tls: ssl.SSLContext) -> web.AppRunner:
    """Answer on a socket that listens already.

    Returns:
        The runner; its ``cleanup()`` ends it: also what is being answered.
    """
    served = web.AppRunner(
        app,
        access_log=None,
        logger=logging.getLogger("aiohttp.server"),
        handle_signals=False,
        shutdown_timeout=_SHUTDOWN_S,
    )
    await served.setup()
    try:
        await PatientSite(served, listening, app[_PATIENCE], tls).start()
    except BaseException:
        await served.cleanup()
        raise
    return served


def _only_with(token: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def check(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        shown = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(shown, expected):
            log.warning("a request without the cluster's token was refused", address=request.remote)
            return web.Response(status=401, text="the cluster's token is asked for\n")
        return await handler(request)

    return check


class _Works:
    """What is answered by a value, or by nothing but that it was done."""

    def __init__(self, runner: KeepingRunner) -> None:
        self._runner = runner

    def routes(self) -> list[tuple[str, str, Work]]:
        """Method and path of each."""
        one = "/attempts/{attempt}"
        return [
            ("PUT", one, self._launch),
            ("GET", one, self._observe),
            ("DELETE", one, self._remove),
            ("PUT", f"{one}/stop", self._stop),
            ("PUT", f"{one}/files", self._deliver),
            ("PUT", f"{one}/dataset", self._deliver_dataset),
            ("PUT", f"{one}/tidy", self._tidy),
            ("GET", f"{one}/logs/size", self._log_size),
            ("GET", f"{one}/logs/wait", self._wait_logs),
            ("GET", "/attempts", self._attempts),
            ("GET", "/tidied", self._tidied),
        ]

    async def _launch(self, request: web.Request) -> bytes:
        plan = await _body(AttemptPlan, request)
        if plan.attempt_id != _attempt(request):
            raise InvalidArgumentError("the plan is of another attempt")
        return wire.value(await self._runner.launch(plan))

    async def _observe(self, request: web.Request) -> bytes:
        return wire.value(await self._runner.observe(_attempt(request)))

    async def _stop(self, request: web.Request) -> bytes:
        return wire.value(await self._runner.stop(_attempt(request), await _body(StopOrder, request)))

    async def _deliver(self, request: web.Request) -> bytes:
        made = await _body(wire.Delivery, request)
        return wire.value(await self._runner.deliver(made.project_id, _attempt(request), made.files))

    async def _deliver_dataset(self, request: web.Request) -> bytes:
        made = await _body(wire.DatasetDelivery, request)
        attempt_id = _attempt(request)
        return wire.value(await self._runner.deliver_dataset(made.project_id, attempt_id, made.name, made.dataset_id))

    async def _tidy(self, request: web.Request) -> bytes:
        return wire.value(await self._runner.tidy(_attempt(request)))

    async def _remove(self, request: web.Request) -> bytes:
        return wire.value(await self._runner.remove(_attempt(request)))

    async def _attempts(self, _: web.Request) -> bytes:
        return wire.value(tuple(await self._runner.attempts()))

    async def _tidied(self, _: web.Request) -> bytes:
        return wire.value(tuple(await self._runner.tidied()))

    async def _log_size(self, request: web.Request) -> bytes:
        return wire.value(await self._runner.log_size(_attempt(request)))

    async def _wait_logs(self, request: web.Request) -> bytes:
        offset, timeout_s = _number(request, "offset", int), _number(request, "timeout", float)
        return wire.value(await self._runner.wait_logs(_attempt(request), offset, timeout_s))


def _answering(work: Work, node: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Answers when the work is done; until then it says again and again that the agent lives."""

    async def handle(request: web.Request) -> web.StreamResponse:
        # A server that goes away takes nothing back: it asks again, and what was done is found done.
        doing = asyncio.create_task(_said(work, request, node))
        await _within(asyncio.shield(doing), BEAT_S)
        if doing.done():
            return web.Response(body=doing.result())
        response = web.StreamResponse()
        with suppress(ConnectionError):
            await response.prepare(request)
            while not doing.done():
                await response.write(b" ")
                await _within(asyncio.shield(doing), BEAT_S)
            await response.write(doing.result())
        return response

    return handle


def _logs(runner: KeepingRunner) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Frames as they are, with what else a chunk says in headers."""

    async def handle(request: web.Request) -> web.StreamResponse:
        headers: dict[str, str] = {}

        async def read(request: web.Request) -> bytes:
            offset, limit = _number(request, "offset", int), _number(request, "limit", int)
            body, more = wire.chunk_answer(await runner.read_logs(_attempt(request), offset, limit))
            headers.update(more)
            return body

        body = await _said(read, request, runner.node)
        return web.Response(body=body, headers=headers, content_type=wire.FRAMES if headers else None)

    return handle


async def _said(work: Work, request: web.Request, node: str) -> bytes:
    """The one place where an error becomes an answer."""
    try:
        return await work(request)
    except JobsphereError as error:
        if error.context:
            log.warning("request refused", path=request.path, reason=error.public, context=str(dict(error.context)))
        return wire.refusal(error)
    except Exception as error:
        reference = secrets.token_hex(8)
        log.error("request failed", path=request.path, reference=reference, exc_info=error)
        return wire.refusal(UnavailableError(f"node {node} could not do it; its log tells why at {reference}"))


async def _body(kind: type[T], request: web.Request) -> T:
    try:
        return loads(kind, await request.read())
    except ValueError:
        raise InvalidArgumentError("the body is not what is asked for here") from None


def _attempt(request: web.Request) -> str:
    return request.match_info["attempt"]


def _number(request: web.Request, name: str, kind: Callable[[str], T]) -> T:
    try:
        return kind(request.query[name])
    except (KeyError, ValueError):
        raise InvalidArgumentError(f"{name}: a number is asked for") from None


async def _within(work: Awaitable[object], seconds: float) -> None:
    """Wait for it, but not longer."""
    try:
        await asyncio.wait_for(work, seconds)
    except TimeoutError:
        return
