"""Pages for people: rendered here, from the use cases; what they change goes through the API's own handlers.

What they take (Jinja, templates, the styles) is loaded when the first page is opened.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from jobsphere.domain.resource import Subject
from jobsphere.service.audit import Audit
from jobsphere.service.board import Board
from jobsphere.service.communities import Communities
from jobsphere.service.connectors import Connectors
from jobsphere.service.datasets import Datasets
from jobsphere.service.identity import Identity
from jobsphere.service.images import ImageResources
from jobsphere.service.logs import Logs
from jobsphere.service.secrets import Secrets
from jobsphere.service.sparks import Sparks

if TYPE_CHECKING:
    from jobsphere.web.pages.app import Pages

SESSION = "jobsphere_session"
"""The cookie with a signed-in visitor's short-lived token."""


class BuiltEnvironment(Protocol):
    """A built environment on this host, as the cache tells of it."""

    @property
    def fingerprint(self) -> str:
        """Its name."""
        ...

    @property
    def what(self) -> str:
        """What is in it, in a few words."""
        ...

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        ...

    @property
    def last_used(self) -> datetime:
        """When a job last began in it."""
        ...

    @property
    def build_seconds(self) -> float:
        """How long its build took."""
        ...

    @property
    def in_use(self) -> bool:
        """Whether a job runs in it."""
        ...

    @property
    def complete(self) -> bool:
        """Whether it is ready; else it is being built."""
        ...


class PulledImage(Protocol):
    """An image that jobs pulled."""

    @property
    def reference(self) -> str:
        """Its name."""
        ...

    @property
    def image_id(self) -> str:
        """Its id; empty while it is being pulled."""
        ...

    @property
    def size_bytes(self) -> int:
        """What it takes."""
        ...

    @property
    def last_used(self) -> datetime:
        """When a job last began in it."""
        ...

    @property
    def in_use(self) -> bool:
        """Whether a job runs in it, or pulls it."""
        ...


Call = Callable[[str, Mapping[str, Any], str | None, Sequence[Any] | None], Awaitable[dict[str, Any]]]
"""The API: a method's name, the request as JSON values, the caller's token and socket address; gives JSON values."""
Audited = Callable[[Subject, str, Sequence[tuple[str, str]], str], AbstractAsyncContextManager[None]]
"""Writes what is done meanwhile to the audit log: who, the action, the ids, where from."""


@dataclass(frozen=True, slots=True)
class Leader:
    """Which of several servers leads, as HOST:DATA_DIR (empty: none at the moment); whether it is this one."""

    server: str
    here: bool


@dataclass(frozen=True)
class Behind:
    """What the pages stand on.

    ``leader``: who of several servers leads; None of it: there are no several. ``secret``: what forms are signed with;
    ``tokens_required``: whether people sign in.
    """

    identity: Identity
    board: Board
    logs: Logs
    communities: Communities
    secrets: Secrets
    images: ImageResources
    datasets: Datasets
    connectors: Connectors
    sparks: Sparks
    audit: Audit
    call: Call
    audited: Audited
    environments: Callable[[], Sequence[BuiltEnvironment]]
    environment_budget_bytes: int
    pulled_images: Callable[[], Sequence[PulledImage]]
    image_budget_bytes: int
    leader: Callable[[], Awaitable[Leader | None]]
    secret: bytes = field(repr=False)
    tokens_required: bool


def token_of(request: web.Request) -> str | None:
    """The token of a signed-in visitor's browser."""
    return request.cookies.get(SESSION)


class PagesMount:
    """The pages as a part of an application: the last one, since they answer for every path that nothing else has."""

    def __init__(self, behind: Behind) -> None:
        self._behind = behind

    @cached_property
    def pages(self) -> Pages:
        """What answers, made when it is first asked."""
        from jobsphere.web.pages.app import Pages

        return Pages(self._behind)

    def __call__(self, app: web.Application) -> None:
        """Add the routes."""
        app.router.add_route("*", "/{rest:[\\s\\S]*}", self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return await self.pages.answer(request)
