"""What a caller may do: the one place where roles are checked. What takes which role stands in the domain's table."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from jobsphere.domain.access import Action, Level, Role, on_community, on_project
from jobsphere.domain.access_ports import AccountStore, TeamStore
from jobsphere.domain.errors import NotFoundError, PermissionDeniedError, no_such
from jobsphere.domain.ports import JobStore
from jobsphere.domain.resource import Community, Project, Subject
from jobsphere.service import trail
from jobsphere.service.identity import LOOK_AGAIN_S

_REMEMBERED = 10_000
_T = TypeVar("_T")
_Roles = Mapping[str, list[Role]]


@dataclass(frozen=True, slots=True)
class _Known:
    roles: _Roles
    look_again_at: float


class Access:
    """Guards projects and communities.

    Roles are looked up once a second at most; a change by this process counts at once, see :meth:`forget`. The
    operator's calls look nothing up.
    """

    def __init__(
        self,
        store: JobStore,
        teams: TeamStore,
        accounts: AccountStore,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._teams = teams
        self._accounts = accounts
        self._monotonic = monotonic
        self._known: dict[str, _Known] = {}
        self._generation = 0
        self._communities: dict[str, str] = {}

    async def require(self, who: Subject, project_id: str, action: Action, kind: str = "", id_: str = "") -> None:
        """Pass if ``who`` may do that in the project.

        Args:
            who: The caller.
            project_id: The project, as a stored job or operation names it.
            action: What is wanted.
            kind: What the caller named, if it was not the project itself: ``job`` or ``operation``.
            id_: Its id.

        Raises:
            NotFoundError: they have no role there; word for word what is said of a thing that does not exist.
            PermissionDeniedError: their role is too small.
        """
        trail.about(project_id)
        if not who.operator:
            community_id = await self._community_of(project_id)
            level = Level.NONE if community_id is None else await self._on_project(who, project_id, community_id)
            _check(action, level, kind or "project", id_ or project_id)

    async def project(self, who: Subject, project_id: str, action: Action) -> Project:
        """The project, if ``who`` may do that in it.

        Raises:
            NotFoundError: there is none, or they have no role there.
            PermissionDeniedError: their role is too small.
        """
        await self.require(who, project_id, action)
        return await self._store.get_project(project_id)

    async def require_community(
        self, who: Subject, community_id: str, action: Action, kind: str = "", id_: str = ""
    ) -> None:
        """As :meth:`require`, of a community."""
        if not who.operator:
            level = on_community((await self._roles(who)).get(community_id, ()))
            _check(action, level, kind or "community", id_ or community_id)

    async def community(self, who: Subject, community_id: str, action: Action) -> Community:
        """The community, if ``who`` may do that to it.

        Raises:
            NotFoundError: there is none, or they have no role there.
            PermissionDeniedError: their role is too small.
        """
        await self.require_community(who, community_id, action)
        return await self._teams.get_community(community_id)

    async def sees_project(self, who: Subject, project: Project) -> bool:
        """Whether the project is in the caller's lists."""
        if who.operator:
            return True
        return Action.PROJECT_VIEW.allowed(await self._on_project(who, project.id, project.community_id))

    async def sees_community(self, who: Subject, community: Community) -> bool:
        """Whether the community is in the caller's lists."""
        if who.operator:
            return True
        return Action.COMMUNITY_VIEW.allowed(on_community((await self._roles(who)).get(community.id, ())))

    def forget(self) -> None:
        """Look everything up anew: called after each change of roles."""
        self._generation += 1
        self._known.clear()

    async def _on_project(self, who: Subject, project_id: str, community_id: str) -> Level:
        roles = await self._roles(who)
        return on_project(roles.get(project_id, ()), roles.get(community_id, ()))

    async def _roles(self, who: Subject) -> _Roles:
        known = self._known.get(who.id)
        if known is None or self._monotonic() >= known.look_again_at:
            look_again_at, generation = self._monotonic() + LOOK_AGAIN_S, self._generation
            roles: defaultdict[str, list[Role]] = defaultdict(list)
            for binding in await self._accounts.bindings_of(who.id):
                roles[binding.resource_id].append(binding.role)
            known = _Known(roles, look_again_at)
            # What was read before a change must not be remembered after it.
            if generation == self._generation:
                _remember(self._known, who.id, known)
        return known.roles

    async def _community_of(self, project_id: str) -> str | None:
        """A project's community, which never changes; None if there is no such project."""
        community_id = self._communities.get(project_id)
        if community_id is None:
            try:
                community_id = (await self._store.get_project(project_id)).community_id
            except NotFoundError:
                return None
            _remember(self._communities, project_id, community_id)
        return community_id


def only_operator(who: Subject, what: str) -> None:
    """Refuse everybody but the operator.

    Raises:
        PermissionDeniedError: ``who`` is somebody else; ``what`` says what was wanted.
    """
    if not who.operator:
        raise PermissionDeniedError(f"only the operator of this server may {what}")


def _check(action: Action, level: Level, kind: str, id_: str) -> None:
    if level is Level.NONE:
        raise no_such(kind, id_)
    if not action.allowed(level):
        raise PermissionDeniedError(f"you may not {action.words}: that takes the role {action.role.id}; ask an admin")


def _remember(cache: dict[str, _T], key: str, value: _T) -> None:
    if len(cache) >= _REMEMBERED:
        cache.clear()
    cache[key] = value
