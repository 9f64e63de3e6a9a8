"""The HTTP application: its routes, its errors, and how it is served."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from jobsphere.domain.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    JobsphereError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
)
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.domain.ports import BlobStore, UrlSigner
from jobsphere.domain.text import readable
from jobsphere.web.blobs import Admit, Blobs, Settle
from jobsphere.web.guard import Guard, guarding
from jobsphere.web.patience import Patience, PatientSite

READ_BUFFER_BYTES = 1 << 18
SHUTDOWN_S = 5.0
PATIENCE = web.AppKey("patience", Patience)

STATUSES: dict[type[JobsphereError], int] = {
    InvalidArgumentError: 400,
    UnauthenticatedError: 401,
    PermissionDeniedError: 403,
    NotFoundError: 404,
    AlreadyExistsError: 409,
    FailedPreconditionError: 409,
    UnsupportedError: 501,
    UnavailableError: 503,
    ResourceExhaustedError: 507,
}
"""The status of each error."""
_log = structlog.get_logger("jobsphere.web")
_REQUEST_ID = "X-Request-Id"


async def _any_project(_: str) -> None:
    """Every project is taken for known."""


def _any_size(_: str, __: int) -> AbstractAsyncContextManager[None]:
    """Nothing is limited."""
    return nullcontext()


def _always() -> bool:
    return True


async def _all_stays(_: str, __: str) -> None:
    """Nothing is nobody's."""


def build_app(
    signer: UrlSigner,
    blobs: BlobStore,
    ready: Callable[[], bool],
    leads: Callable[[], bool] = _always,
    idle_timeout_s: float = 60.0,
    known: Callable[[str], Awaitable[object]] = _any_project,
    request_s: float = 30.0,
    connections: int = 512,
    admit: Admit = _any_size,
    settle: Settle = _all_stays,
    parts: Iterable[Callable[[web.Application], None]] = (),
    names: frozenset[str] | None = None,
    meter: Meter = SILENT,
) -> web.Application:
    """The application: ``/v1/blobs/…`` by signed URL, ``/healthz`` (it lives), ``/readyz`` (it takes jobs), and more.

    Args:
        signer: Verifies the URLs.
        blobs: Where bytes go to and come from.
        ready: Whether the server takes jobs now; called at each ``/readyz``.
        leads: Whether this server moves jobs on now; called at each ``/leadz``.
        idle_timeout_s: An upload that brings nothing for this long is given up.
        request_s: How long a connection may take to bring the head of a request.
        connections: How many may be open at once.
        known: Raises NotFoundError for a project that is gone: a URL may outlive it.
        settle: Told of each blob that has come in, by project and SHA-256: it may be nobody's by now.
        admit: Held while a blob of so many bytes comes in for a project; raises ResourceExhaustedError.
        parts: Add what else is served.
        names: See :class:`jobsphere.web.guard.Guard`.
        meter: Is told of each file.
    """
    patience = Patience(request_s, connections)
    app = web.Application(middlewares=[patience.middleware, _plain_errors, guarding(Guard(names))])
    app[PATIENCE] = patience
    handlers = Blobs(signer, blobs, idle_timeout_s, known, admit, settle, meter)
    app.router.add_put("/v1/blobs/{project}/{sha256}", handlers.put)
    app.router.add_get("/v1/blobs/{project}/{sha256}", handlers.get)
    app.router.add_get("/healthz", _health)
    app.router.add_get("/readyz", _readiness(ready))
    app.router.add_get("/leadz", _leading(leads))
    for add in parts:
        add(app)
    return app


async def serve(app: web.Application, listening: socket.socket) -> web.AppRunner:
    """Serve on a socket that listens already: who signs URLs had to know its port before.

    There is no access log: the signature in a URL's query is a secret.

    Returns:
        The runner; its ``cleanup()`` ends it.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_Protocol(logging.getLogger("aiohttp.server")),
        handle_signals=False,
        # A blob is the bytes that travel, also when the client says that they are gzip.
        auto_decompress=False,
        read_bufsize=READ_BUFFER_BYTES,
        shutdown_timeout=SHUTDOWN_S,
    )
    await runner.setup()
    try:
        await PatientSite(runner, listening, app[PATIENCE]).start()
    except BaseException:
        await runner.cleanup()
        raise
    return runner


@web.middleware
async def _plain_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The one place where an error of the domain becomes a status and a sentence."""
    try:
        return await handler(request)
    except JobsphereError as error:
        status, headers = STATUSES.get(type(error), 500), dict[str, str]()
        if status >= 500:
            about = {"method": request.method, "path": request.path, "request_id": secrets.token_hex(8)}
            _log.warning("request failed", **about, error=error.public, **error.context)
            headers[_REQUEST_ID] = about["request_id"]
        return web.Response(status=status, text=readable(error.public) + "\n", headers=headers)
    except (web.HTTPException, ConnectionError):
        raise
    except Exception as error:
        if request.writer.output_size:
            raise  # too late to say so: the connection is cut
        reference = secrets.token_hex(8)
        _log.error("request failed", method=request.method, path=request.path, request_id=reference, exc_info=error)
        text = f"internal error, reference {reference}\n"
        return web.Response(status=500, text=text, headers={_REQUEST_ID: reference})


class _Protocol(logging.LoggerAdapter[logging.Logger]):
    """What the HTTP library has to say: that somebody sent bytes that are no request is worth no traceback."""

    def exception(self, msg: object, *args: object, exc_info: Any = True, **more: Any) -> None:
        """An error: one of the client's is told to the client, and here only to who looks closely."""
        level = logging.DEBUG if isinstance(exc_info, HttpProcessingError) else logging.ERROR
        self.log(level, msg, *args, exc_info=exc_info, **more)


async def _health(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


def _leading(leads: Callable[[], bool]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        if leads():
            return web.Response(text="leads\n")
        return web.Response(status=503, text="follows: another server of this database leads, or none does yet\n")

    return answer


def _readiness(ready: Callable[[], bool]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def readiness(_: web.Request) -> web.Response:
        if ready():
            return web.Response(text="ready\n")
        return web.Response(status=503, text="not ready: the server is starting or shutting down\n")

    return readiness
