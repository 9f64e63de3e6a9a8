"""Projects: create, get, page, change, delete, and the one that every new server has."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from jobsphere.domain.access import Action, Level, Role, Scope
from jobsphere.domain.access_ports import TeamStore
from jobsphere.domain.accounts import Binding
from jobsphere.domain.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, listed
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import Clock, Ids, JobStore
from jobsphere.domain.quota import Quota
from jobsphere.domain.resource import Community, Labels, Project, Subject
from jobsphere.service import trail
from jobsphere.service.access import Access
from jobsphere.service.communities import Communities, check_about
from jobsphere.service.paging import page_of

DEFAULT_PROJECT = "default"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_MAX_DETAILS_BYTES = 64 << 10


class Projects:
    """What can be done with projects. ``drop`` frees the files of one that is deleted, and of those attempts."""

    def __init__(
        self,
        store: JobStore,
        teams: TeamStore,
        communities: Communities,
        access: Access,
        drop: Callable[[str, Sequence[str]], Awaitable[None]],
        clock: Clock,
        ids: Ids,
    ) -> None:
        self._store = store
        self._teams = teams
        self._communities = communities
        self._access = access
        self._drop = drop
        self._clock = clock
        self._ids = ids

    async def get(self, who: Subject, project_id: str) -> Project:
        """The project.

        Raises:
            NotFoundError: there is none of that id, or not for them.
        """
        return await self._access.project(who, project_id, Action.PROJECT_VIEW)

    async def page(
        self,
        who: Subject,
        community_id: str,
        page_size: int = 0,
        page_token: str = "",
        name_pattern: str = "",
        owned_by_id: str = "",
    ) -> tuple[Sequence[Project], str]:
        """Those of a community's projects that the caller may see, oldest first, and the next page's token.

        Raises:
            InvalidArgumentError: no community named, or a page size or token that cannot be.
        """
        if not community_id:
            raise InvalidArgumentError("community_id: is empty; `jobsphere project list` shows the communities")
        found = [
            p
            for p in await self._store.list_projects(community_id)
            if (not name_pattern or fnmatch.fnmatchcase(p.name, name_pattern))
            and (not owned_by_id or p.created_by_id == owned_by_id)
            and await self._access.sees_project(who, p)
        ]
        return page_of(found, page_size, page_token)

    async def all(self) -> Sequence[Project]:
        """Every project of this server, oldest first."""
        return await self._store.list_projects()

    async def create(
        self,
        who: Subject,
        name: str,
        description: str = "",
        community_id: str = "",
        labels: Labels = (),
        settings: bytes = b"",
        limits: bytes = b"",
        quota: Quota = Quota(),  # noqa: B008 - it is frozen
    ) -> tuple[Project, Operation]:
        """A new project, whose admin the caller becomes.

        Args:
            who: The caller.
            name: 1 to 63 of a-z, 0-9 and -.
            description: What it is for.
            community_id: Its community; the oldest one if none is named.
            labels: Names and values.
            settings: Kept for the client.
            limits: Kept for the client.
            quota: What it may have.

        Raises:
            InvalidArgumentError: the name is none, or a text is too long.
            AlreadyExistsError: the community has a project of that name.
            NotFoundError: there is no such community, or not for them.
            PermissionDeniedError: their role in the community is too small.
        """
        community = await self._community(who, community_id)
        now = self._clock.now()
        project = Project(
            self._ids.new(), name, community.id, now, who.id, description, labels, settings, limits, quota
        )
        _check(project)
        role = Role(Scope.PROJECT, Level.ADMIN)
        owner = None if who.operator else Binding(project.id, who.id, role.id)
        operation = self._operation(OperationKind.CREATE_PROJECT, project.id, who)
        trail.about(project.id)
        await self._teams.create_project(project, owner, operation)
        self._access.forget()
        return project, operation

    async def update(
        self, who: Subject, project_id: str, edit: Callable[[Project], Project]
    ) -> tuple[Project, Operation]:
        """Change the project's name, description, labels, settings or limits.

        ``edit`` makes the new project of the one that is stored; it is called again if another was faster.

        Raises:
            NotFoundError: there is none of that id, or not for them.
            PermissionDeniedError: their role is too small.
            InvalidArgumentError: the name is none, or a text is too long.
            AlreadyExistsError: the community has a project of that name.
        """
        operation = self._operation(OperationKind.UPDATE_PROJECT, project_id, who)
        while True:
            was = await self._access.project(who, project_id, Action.PROJECT_CHANGE)
            new = edit(was)
            _check(new)
            if await self._teams.update_project(new, was, operation):
                return new, operation

    async def delete(self, who: Subject, project_id: str) -> Operation:
        """Delete the project with its jobs and their files.

        Raises:
            NotFoundError: there is none of that id, or not for them.
            PermissionDeniedError: their role is too small.
            FailedPreconditionError: jobs of it are under way; they are named.
        """
        await self._access.project(who, project_id, Action.PROJECT_DELETE)
        operation = self._operation(OperationKind.DELETE_PROJECT, project_id, who)
        removal = await self._teams.delete_project(project_id, operation)
        if removal.live:
            raise FailedPreconditionError(
                f"jobs of the project are under way; cancel them first: {listed(removal.live)}"
            )
        self._access.forget()
        await self._drop(project_id, removal.attempts)
        return operation

    async def ensure_default(self, who: Subject) -> Project:
        """The default project: the oldest one, made if there is none."""
        if not await self._store.list_projects():
            # As for communities: another process may be faster.
            with suppress(AlreadyExistsError):
                await self.create(who, DEFAULT_PROJECT, "Made at the first start")
        return (await self._store.list_projects())[0]

    async def _community(self, who: Subject, community_id: str) -> Community:
        if community_id:
            return await self._access.community(who, community_id, Action.PROJECT_CREATE)
        if not who.operator:
            raise InvalidArgumentError("community_id: is empty; name the community that the project is to be in")
        return await self._communities.ensure_default(who)

    def _operation(self, kind: OperationKind, project_id: str, who: Subject) -> Operation:
        return Operation(self._ids.new(), kind, project_id, "", self._clock.now(), who.id)


def check_project_name(name: str) -> None:
    """Refuse what is no name of a project.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"name: {name!r} must have 1 to 63 of the characters a-z 0-9 -, begin with a letter, not end with -"
        )


def _check(project: Project) -> None:
    check_project_name(project.name)
    check_about(project.description, project.labels)
    if len(project.settings) + len(project.limits) > _MAX_DETAILS_BYTES:
        raise InvalidArgumentError(f"settings, limits: take more than {_MAX_DETAILS_BYTES} bytes")
