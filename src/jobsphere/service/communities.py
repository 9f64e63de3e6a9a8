"""Communities: create, get, page, change, delete."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from contextlib import suppress

from jobsphere.domain.access import Action
from jobsphere.domain.access_ports import TeamStore
from jobsphere.domain.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, listed
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import Clock, Ids
from jobsphere.domain.resource import Community, Labels, Subject
from jobsphere.domain.text import has_controls
from jobsphere.service import trail
from jobsphere.service.access import Access, only_operator
from jobsphere.service.paging import page_of

DEFAULT_COMMUNITY = "default"
_MAX_NAME_CHARS = 63
_MAX_DESCRIPTION_CHARS = 1000
_MAX_LABELS = 64


class Communities:
    """What can be done with communities."""

    def __init__(self, teams: TeamStore, access: Access, clock: Clock, ids: Ids) -> None:
        self._teams = teams
        self._access = access
        self._clock = clock
        self._ids = ids

    async def get(self, who: Subject, community_id: str) -> Community:
        """The community.

        Raises:
            NotFoundError: there is none of that id, or not for them.
        """
        return await self._access.community(who, community_id, Action.COMMUNITY_VIEW)

    async def page(
        self,
        who: Subject,
        page_size: int = 0,
        page_token: str = "",
        pattern: str = "",
        owned_by_id: str = "",
        organization_id: str = "",
    ) -> tuple[Sequence[Community], str]:
        """The communities that the caller may see, oldest first, and the next page's token.

        ``pattern`` is one for the name or the description.

        Raises:
            InvalidArgumentError: a page size or token that cannot be.
        """
        found = [
            c
            for c in await self._teams.list_communities()
            if (not pattern or fnmatch.fnmatchcase(c.name, pattern) or fnmatch.fnmatchcase(c.description, pattern))
            and owned_by_id in {"", c.created_by_id}
            and organization_id in {"", c.organization_id}
            and await self._access.sees_community(who, c)
        ]
        return page_of(found, page_size, page_token)

    async def all(self, who: Subject) -> Sequence[Community]:
        """Every community of this server, oldest first.

        Raises:
            PermissionDeniedError: the caller is not the operator.
        """
        only_operator(who, "list all communities")
        return await self._teams.list_communities()

    async def create(
        self,
        who: Subject,
        name: str,
        description: str = "",
        labels: Labels = (),
        organization_id: str = "",
        zone_id: str = "",
    ) -> tuple[Community, Operation]:
        """A new community. The last two arguments are kept for the client.

        Raises:
            PermissionDeniedError: the caller is not the operator.
            InvalidArgumentError: the name is none, or a text is too long.
            AlreadyExistsError: there is a community of that name.
        """
        only_operator(who, "create communities (`jobsphere community create`)")
        now = self._clock.now()
        community = Community(self._ids.new(), name, now, who.id, description, labels, organization_id, zone_id)
        _check(community)
        operation = self._operation(OperationKind.CREATE_COMMUNITY, community.id, who)
        await self._teams.add_community(community, operation)
        trail.note("community_id", community.id)
        return community, operation

    async def update(
        self, who: Subject, community_id: str, edit: Callable[[Community], Community]
    ) -> tuple[Community, Operation]:
        """Change the community's name, description or labels.

        ``edit`` makes the new community of the one that is stored; it is called again if another was faster.

        Raises:
            NotFoundError: there is none of that id, or not for them.
            PermissionDeniedError: their role is too small.
            InvalidArgumentError: the name is none, or a text is too long.
            AlreadyExistsError: there is a community of that name.
        """
        operation = self._operation(OperationKind.UPDATE_COMMUNITY, community_id, who)
        while True:
            was = await self._access.community(who, community_id, Action.COMMUNITY_CHANGE)
            new = edit(was)
            _check(new)
            if await self._teams.update_community(new, was, operation):
                return new, operation

    async def delete(self, who: Subject, community_id: str) -> Operation:
        """Delete a community without projects.

        Raises:
            NotFoundError: there is none of that id, or not for them.
            PermissionDeniedError: their role is too small.
            FailedPreconditionError: it has projects; they are named.
        """
        await self._access.community(who, community_id, Action.COMMUNITY_DELETE)
        operation = self._operation(OperationKind.DELETE_COMMUNITY, community_id, who)
        if projects := await self._teams.delete_community(community_id, operation):
            raise FailedPreconditionError(f"the community has projects; delete them first: {listed(projects)}")
        self._access.forget()
        return operation

    async def ensure_default(self, who: Subject) -> Community:
        """The default community: the oldest one, made if there is none."""
        if not await self._teams.list_communities():
            # Another process may be faster: a server and a command that start at once on an empty data directory.
            with suppress(AlreadyExistsError):
                await self.create(who, DEFAULT_COMMUNITY, "Made at the first start")
        return (await self._teams.list_communities())[0]

    def _operation(self, kind: OperationKind, community_id: str, who: Subject) -> Operation:
        return Operation(self._ids.new(), kind, "", "", self._clock.now(), who.id, community_id)


def check_about(description: str, labels: Labels) -> None:
    """Refuse what is too long, or controls the terminal that it is shown on.

    Raises:
        InvalidArgumentError: naming the field.
    """
    if len(description) > _MAX_DESCRIPTION_CHARS:
        raise InvalidArgumentError(f"description: has more than {_MAX_DESCRIPTION_CHARS} characters")
    if has_controls(description, lines=True):
        raise InvalidArgumentError("description: holds a control character")
    if len(labels) > _MAX_LABELS:
        raise InvalidArgumentError(f"labels: are more than {_MAX_LABELS}")
    for name, value in labels:
        if not 1 <= len(name) <= _MAX_NAME_CHARS or len(value) > _MAX_NAME_CHARS:
            raise InvalidArgumentError(
                f"labels: a name has 1 to {_MAX_NAME_CHARS} characters, a value that many at most"
            )


def check_community_name(name: str) -> None:
    """Refuse what is no name of a community.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not 1 <= len(name) <= _MAX_NAME_CHARS or not name.isprintable() or name != name.strip():
        raise InvalidArgumentError(f"name: {name[:_MAX_NAME_CHARS]!r} must have 1 to {_MAX_NAME_CHARS} characters")


def _check(community: Community) -> None:
    check_community_name(community.name)
    for where, text in (("organization_id", community.organization_id), ("zone_id", community.zone_id)):
        if len(text) > _MAX_NAME_CHARS:
            raise InvalidArgumentError(f"{where}: has more than {_MAX_NAME_CHARS} characters")
    check_about(community.description, community.labels)
