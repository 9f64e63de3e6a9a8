"""One request of a visitor: who it is, what they sent, and what they are shown."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from jobsphere.domain.errors import InvalidArgumentError, PermissionDeniedError
from jobsphere.domain.resource import Subject
from jobsphere.web.guard import from_elsewhere
from jobsphere.web.pages import SESSION, Behind, token_of
from jobsphere.web.pages.rendering import Renderer

VISITOR = "jobsphere_visitor"
"""The cookie that forms are tied to, also where nobody signs in."""
FORM_TOKEN = "form_token"  # noqa: S105 - a field's name
_FORM = "application/x-www-form-urlencoded"
SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Visit:
    """A request. ``at``: the values in its path; ``who`` is set once the visitor is known."""

    request: web.Request
    behind: Behind
    renderer: Renderer
    at: Mapping[str, str]
    who: Subject = field(default=Subject(""))
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __post_init__(self) -> None:
        """Find the visitor's cookie, or think of one."""
        known = self.request.cookies.get(VISITOR, "")
        self._new_visitor = not known
        self._visitor = known or secrets.token_urlsafe(24)

    @property
    def token(self) -> str | None:
        """The visitor's token."""
        return token_of(self.request)

    @property
    def signed_in(self) -> bool:
        """Whether there is a session to end."""
        return self.token is not None

    @property
    def path(self) -> str:
        """Where the visitor is, with the query."""
        return self.request.path_qs

    @property
    def form_token(self) -> str:
        """What a form of this visitor carries: no other site can know it."""
        return hmac.new(self.behind.secret, f"form {self._visitor}".encode(), hashlib.sha256).hexdigest()

    @property
    def peername(self) -> Any:
        """The socket address of the visitor."""
        return self.request.transport.get_extra_info("peername") if self.request.transport else None

    @property
    def origin(self) -> str:
        """Where the visit comes from, for the audit log."""
        host, port = (self.peername or ("unknown", 0))[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def asked(self, name: str) -> str:
        """A value of the query; empty if it is not there."""
        return self.request.query.get(name, "")

    async def form(self) -> dict[str, str]:
        """The fields of the form that was sent, the last of a name.

        Raises:
            PermissionDeniedError: it is not from a page that this server gave to this visitor.
            InvalidArgumentError: it is no form.
        """
        if from_elsewhere(self.request):
            raise PermissionDeniedError("another site sent this form")
        if self.request.content_type != _FORM:
            raise InvalidArgumentError("this is no form")
        fields = {name: value for name, value in (await self.request.post()).items() if isinstance(value, str)}
        if not hmac.compare_digest(fields.pop(FORM_TOKEN, "").encode(), self.form_token.encode()):
            raise PermissionDeniedError("the form is too old, or not from here; open the page again and repeat it")
        return fields

    async def call(self, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do something by the API, as the visitor.

        Raises:
            JobsphereError: as the method answers it.
        """
        return await self.behind.call(method, request, self.token, self.peername)

    def page(self, template: str, status: int = 200, **values: Any) -> web.Response:
        """A page, or a part of one."""
        text = self.renderer.render(template, {"visit": self, "now": self.now, "wide": False, **values})
        response = web.Response(text=text, status=status, content_type="text/html", headers=SECURITY)
        if self._new_visitor:
            response.set_cookie(VISITOR, self._visitor, httponly=True, samesite="Lax", secure=self.request.secure)
        return response

    def go(self, path: str) -> web.Response:
        """Lead the browser to another page."""
        return web.Response(status=303, headers={**SECURITY, "Location": path})

    def keep(self, response: web.Response, token: str, seconds: int) -> web.Response:
        """Sign the visitor in."""
        response.set_cookie(
            SESSION, token, max_age=seconds, httponly=True, samesite="Lax", secure=self.request.secure, path="/"
        )
        return response


def local_path(path: str) -> str:
    """Where to go after signing in: a path of this server, whatever was asked for."""
    fine = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if fine else "/"
