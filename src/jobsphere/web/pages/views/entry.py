"""The way in: signing in and out, and the list of projects."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web

from jobsphere.domain.errors import UnauthenticatedError
from jobsphere.service.identity import IAM_TOKEN_LIFE
from jobsphere.web.pages import SESSION
from jobsphere.web.pages.visit import Visit, local_path


async def start(visit: Visit) -> web.Response:
    """The first page: the only project's jobs, or all projects."""
    projects = await visit.behind.board.projects(visit.who)
    return visit.go(f"/projects/{projects[0].id}" if len(projects) == 1 else "/projects")


async def ask(visit: Visit) -> web.Response:
    """The form for signing in."""
    return visit.page("sign_in.html", next=local_path(visit.asked("next")), error="")


async def sign_in(visit: Visit) -> web.Response:
    """Take a token, and keep a short-lived one made of it in the browser."""
    form = await visit.form()
    given, path = form.get("token", "").strip(), local_path(form.get("next", "/"))
    try:
        token, seconds = await _session(visit, given)
    except UnauthenticatedError as error:
        return visit.page("sign_in.html", 401, next=path, error=error.public)
    return visit.keep(visit.go(path), token, seconds)


async def _session(visit: Visit, given: str) -> tuple[str, int]:
    """A session's token and how many seconds it lasts."""
    if not given:
        raise UnauthenticatedError("paste a token")
    who = await visit.behind.identity.authenticate(f"Bearer {given}")
    try:
        made = await visit.behind.call(
            "IamTokenService/Create", {"yandexPassportOauthToken": given}, None, visit.peername
        )
    except UnauthenticatedError:
        # A short-lived one already: it ends when it ends.
        return given, int(IAM_TOKEN_LIFE.total_seconds())
    visit.who = who
    ends = datetime.fromisoformat(made["expiresAt"])
    return made["iamToken"], max(1, int((ends - visit.now).total_seconds()))


async def sign_out(visit: Visit) -> web.Response:
    """Forget the session."""
    await visit.form()
    response = visit.go("/sign-in" if visit.behind.tokens_required else "/")
    response.del_cookie(SESSION)
    return response


async def projects(visit: Visit) -> web.Response:
    """All projects that the visitor may see, by community."""
    found = await visit.behind.board.projects(visit.who)
    communities, _ = await visit.behind.communities.page(visit.who)
    names = {community.id: community.name for community in communities}
    return visit.page("projects.html", projects=found, communities=names)
