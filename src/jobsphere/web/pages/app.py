"""The pages' routes, and what is the same for all of them: who visits, and what a failure looks like."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property
from urllib.parse import quote

import structlog
from aiohttp import web

from jobsphere.domain.errors import JobsphereError, ResourceExhaustedError, UnauthenticatedError
from jobsphere.service.guesses import comes_from
from jobsphere.web.app import STATUSES
from jobsphere.web.pages import SESSION, Behind
from jobsphere.web.pages.rendering import HERE, Renderer
from jobsphere.web.pages.views import cluster, entry, files, job, jobs, resources
from jobsphere.web.pages.visit import SECURITY, Visit

View = Callable[[Visit], Awaitable[web.StreamResponse]]
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_OPEN_TO_ALL = {"/sign-in"}
_STATUSES = {**STATUSES, ResourceExhaustedError: 429}
"""No page brings a file: what is exhausted here is the visitor's share."""
_log = structlog.get_logger("jobsphere.web")

ROUTES: tuple[tuple[str, str, View], ...] = (
    ("GET", "/", entry.start),
    ("GET", "/sign-in", entry.ask),
    ("POST", "/sign-in", entry.sign_in),
    ("POST", "/sign-out", entry.sign_out),
    ("GET", "/projects", entry.projects),
    ("GET", "/projects/{project}", jobs.index),
    ("GET", "/projects/{project}/resources", resources.index),
    ("POST", "/projects/{project}/secrets", resources.set_secret),
    ("POST", "/projects/{project}/secrets/{name}/delete", resources.delete_secret),
    ("GET", "/projects/{project}/datasets/{dataset}.tar", files.dataset),
    ("GET", "/communities/{community}/projects/{project}/job/{job}", job.from_the_link),
    ("GET", "/communities/{community}/projects/{project}", jobs.from_the_link),
    ("GET", "/jobs/{job}", job.show),
    ("GET", "/jobs/{job}/live", job.live),
    ("GET", "/jobs/{job}/log", files.log),
    ("GET", "/jobs/{job}/files/{number}", files.file),
    ("GET", "/jobs/{job}/fork", job.ask_fork),
    ("POST", "/jobs/{job}/fork", job.fork),
    ("POST", "/jobs/{job}/execute", job.execute),
    ("POST", "/jobs/{job}/cancel", job.cancel),
    ("POST", "/jobs/{job}/delete", job.delete),
    ("GET", "/queue", cluster.queue),
    ("GET", "/environments", cluster.environments),
    ("GET", "/audit", cluster.audit),
)


class Pages:
    """Answers every path that is a page."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self._renderer = Renderer()
        self._routes = web.UrlDispatcher()
        for verb, path, view in ROUTES:
            for each in ("GET", "HEAD") if verb == "GET" else (verb,):
                self._routes.add_route(each, path, view)  # pyright: ignore[reportArgumentType]
        self._routes.add_route("GET", "/assets/{name}", self._asset)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        match = await self._routes.resolve(request)
        if match.http_exception is not None:
            return self._nothing(request, match.http_exception)
        if request.path.startswith("/assets/"):
            return await self._asset(request)
        visit = Visit(request, self._behind, self._renderer, dict(match))
        return await self._view(visit, match.handler)  # pyright: ignore[reportArgumentType]

    async def _view(self, visit: Visit, view: View) -> web.StreamResponse:
        comes_from(lambda: f"{visit.request.remote}:0")
        try:
            if visit.request.path not in _OPEN_TO_ALL:
                visit.who = await self._behind.identity.authenticate(f"Bearer {visit.token}" if visit.token else None)
            return await view(visit)
        except UnauthenticatedError as error:
            return self._signed_out(visit, error)
        except web.HTTPRequestEntityTooLarge:
            return visit.page("error.html", 413, title="Too large", text="the form is larger than a form may be")
        except JobsphereError as error:
            status = _STATUSES.get(type(error), 500)
            if status >= 500:
                _log.warning("page failed", path=visit.request.path, error=error.public, **error.context)
            return visit.page("error.html", status, title=_title(status), text=error.public)

    def _signed_out(self, visit: Visit, error: UnauthenticatedError) -> web.Response:
        if visit.request.method != "GET" or visit.request.path == "/sign-in":
            return visit.page("sign_in.html", 401, next="/", error=error.public)
        response = visit.go(f"/sign-in?next={quote(visit.path, safe='')}")
        response.del_cookie(SESSION)
        return response

    def _nothing(self, request: web.Request, why: web.HTTPException) -> web.Response:
        text = "404: there is nothing here\n" if why.status == 404 else f"{why.status}: {why.reason}\n"
        headers = {**SECURITY, **({"Allow": why.headers["Allow"]} if "Allow" in why.headers else {})}
        if why.status == 404 and "text/html" in request.headers.get("Accept", ""):
            visit = Visit(request, self._behind, self._renderer, {})
            return visit.page("error.html", 404, title=_title(404), text="there is no page here")
        return web.Response(status=why.status, text=text, headers=headers)

    async def _asset(self, request: web.Request) -> web.Response:
        body = self._assets.get(request.path.removeprefix("/assets/"))
        if body is None:
            return web.Response(status=404, text="404: there is nothing here\n")
        kind = _TYPES[request.path.rpartition(".")[2]]
        # Looked at again each time: after an upgrade no browser may mix old scripts with new pages.
        headers = {**SECURITY, "Cache-Control": "no-cache"}
        return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)

    @cached_property
    def _assets(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (HERE / "static").iterdir()}


def _title(status: int) -> str:
    return {400: "That cannot be", 403: "You may not", 404: "Not here", 409: "Not now", 501: "Not on this server"}.get(
        status, "That failed"
    )
