"""Projects: get, page, create, and the one that every new server has."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.ports import Clock, Ids, JobStore
from jobsphere.domain.resource import Project, Subject
from jobsphere.service.access import Access

DEFAULT_PROJECT = "default"
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_TOKEN = re.compile(r"[0-9]{1,18}")
_PAGE = 100
_MAX_PAGE = 1000


class Projects:
    """What can be done with projects."""

    def __init__(self, store: JobStore, access: Access, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._access = access
        self._clock = clock
        self._ids = ids

    async def get(self, who: Subject, project_id: str) -> Project:
        """The project.

        Raises:
            NotFoundError: there is none of that id.
        """
        return await self._access.project(who, project_id)

    async def page(
        self,
        who: Subject,  # noqa: ARG002
        community_id: str,
        page_size: int = 0,
        page_token: str = "",
        name_pattern: str = "",
        owned_by_id: str = "",
    ) -> tuple[list[Project], str]:
        """Projects of a community, oldest first, and the token of the next page (empty: none).

        Raises:
            InvalidArgumentError: no community named, or a page size or token that cannot be.
        """
        if not community_id:
            raise InvalidArgumentError("community_id: is empty; `jobsphere project list` shows the communities")
        if not 0 <= page_size <= _MAX_PAGE:
            raise InvalidArgumentError(f"page_size: {page_size}, while it must be 0 to {_MAX_PAGE}")
        if page_token and not _TOKEN.fullmatch(page_token):
            raise InvalidArgumentError("page_token: is not one that List gave")
        found = [
            p
            for p in await self._store.list_projects(community_id)
            if (not name_pattern or fnmatch.fnmatchcase(p.name, name_pattern))
            and (not owned_by_id or p.created_by_id == owned_by_id)
        ]
        start = int(page_token or "0")
        end = start + (page_size or _PAGE)
        return found[start:end], str(end) if end < len(found) else ""

    async def all(self) -> Sequence[Project]:
        """Every project of this server, oldest first."""
        return await self._store.list_projects()

    async def create(self, who: Subject, name: str, description: str = "", community_id: str = "") -> Project:
        """A new project; without a community, in the first project's.

        Raises:
            InvalidArgumentError: the name is none.
            AlreadyExistsError: the community has a project of that name.
        """
        if not _NAME.fullmatch(name):
            raise InvalidArgumentError(
                f"name: {name!r} must have 1 to 63 of the characters a-z 0-9 -, begin with a letter, not end with -"
            )
        if not community_id:
            projects = await self._store.list_projects()
            community_id = projects[0].community_id if projects else self._ids.new()
        project = Project(self._ids.new(), name, community_id, self._clock.now(), who.id, description)
        await self._store.add_project(project)
        return project

    async def ensure_default(self, who: Subject) -> Project:
        """The default project: the oldest one, made if there is none."""
        projects = await self._store.list_projects()
        return projects[0] if projects else await self.create(who, DEFAULT_PROJECT, "Made at the first start")
