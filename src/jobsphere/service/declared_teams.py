"""The kinds of teams and access, as :mod:`jobsphere.service.declaring` wants them."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from jobsphere.domain.access import Scope
from jobsphere.domain.accounts import AccountKind
from jobsphere.domain.declared import Entry, Field, Key, Kind, OnChange, Path, Shape
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.ports import JobStore
from jobsphere.domain.quota import parse_quota, show_quota
from jobsphere.domain.resource import Community, Project, Subject
from jobsphere.service.accounts import Accounts, check_account
from jobsphere.service.communities import Communities, check_about, check_community_name
from jobsphere.service.declaring import Fields, Hand, Places
from jobsphere.service.grants import Grant, Grants
from jobsphere.service.projects import Projects, check_project_name

T = TypeVar("T", Community, Project)
_ABOUT = {"description": Field(), "labels": Field(Shape.LABELS)}


class Users(Hand):
    """Users and service accounts. Their tokens are nobody's to declare."""

    kind = Kind(
        "user",
        "users",
        fields={
            "service-account": Field(Shape.FLAG, on_change=OnChange.REFUSE),
            "external-id": Field(on_change=OnChange.REFUSE),
        },
    )

    def __init__(self, accounts: Accounts, operator: Subject) -> None:
        self._accounts = accounts
        self._operator = operator

    async def present(self, who: Subject) -> list[Entry]:
        """See :class:`Hand`."""
        return [
            Entry(
                Key(self.kind.name, (account.name,)),
                {
                    "service-account": account.kind is AccountKind.SERVICE_ACCOUNT,
                    "external-id": account.external_id,
                },
            )
            for account in await self._accounts.all(who)
        ]

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`."""
        check_account(self._operator, entry.key.path[0], Fields(entry.fields).text("external-id"))

    async def add(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`; an account that is there never changes."""
        fields = Fields(entry.fields)
        kind = AccountKind.SERVICE_ACCOUNT if fields.flag("service-account") else AccountKind.USER
        await self._accounts.add(who, entry.key.path[0], kind, fields.text("external-id"))

    async def remove(self, who: Subject, path: Path) -> None:
        """See :class:`Hand`."""
        await self._accounts.remove(who, path[0])


class CommunityKind(Hand):
    """Communities. The one of the default project stays."""

    kind = Kind("community", "communities", fields=_ABOUT)

    def __init__(self, communities: Communities, places: Places) -> None:
        self._communities = communities
        self._places = places

    async def present(self, who: Subject) -> list[Entry]:
        """See :class:`Hand`."""
        return [
            Entry(Key(self.kind.name, (c.name,)), {"description": c.description, "labels": tuple(sorted(c.labels))})
            for c in await self._communities.all(who)
        ]

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`."""
        check_community_name(entry.key.path[0])
        check_about(Fields(entry.fields).text("description"), Fields(entry.fields).labels())

    async def add(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`."""
        fields = Fields(entry.fields)
        await self._communities.create(who, entry.key.path[0], fields.text("description"), fields.labels())

    async def change(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`."""
        community_id = await self._places.community_id(who, entry.key.path)
        await self._communities.update(who, community_id, lambda stored: _described(stored, entry))

    async def remove(self, who: Subject, path: Path) -> None:
        """See :class:`Hand`."""
        await self._communities.delete(who, await self._places.community_id(who, path))


class ProjectKind(Hand):
    """Projects. One that has jobs is in use, whatever they do; the default one is what commands mean that name none."""

    kind = Kind("project", "projects", "community", _ABOUT | {"quota": Field(Shape.LABELS)})

    def __init__(self, projects: Projects, jobs: JobStore, places: Places) -> None:
        self._projects = projects
        self._jobs = jobs
        self._places = places

    async def present(self, who: Subject) -> list[Entry]:
        """See :class:`Hand`."""
        found = await self._places.projects(who)
        return [
            Entry(
                Key(self.kind.name, path),
                {
                    "description": project.description,
                    "labels": tuple(sorted(project.labels)),
                    "quota": tuple(sorted(show_quota(project.quota).items())),
                },
                in_use="it is the default project" if project is found[0][1] else await self._in_use(project),
            )
            for path, project in found
        ]

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`."""
        check_project_name(entry.key.path[-1])
        check_about(Fields(entry.fields).text("description"), Fields(entry.fields).labels())
        parse_quota(dict(Fields(entry.fields).labels("quota")))

    def canonical(self, entry: Entry) -> Entry:
        """See :class:`Hand`; one that cannot be read is refused later."""
        if "quota" not in entry.fields:
            return entry
        try:
            quota = parse_quota(dict(Fields(entry.fields).labels("quota")))
        except InvalidArgumentError:
            return entry
        return replace(entry, fields={**entry.fields, "quota": tuple(sorted(show_quota(quota).items()))})

    async def add(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`."""
        path, fields = entry.key.path, Fields(entry.fields)
        community_id = await self._places.community_id(who, path)
        quota = parse_quota(dict(fields.labels("quota")))
        await self._projects.create(
            who, path[-1], fields.text("description"), community_id, fields.labels(), quota=quota
        )

    async def change(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`."""
        project_id = await self._places.project_id(who, entry.key.path)
        quota = parse_quota(dict(Fields(entry.fields).labels("quota")))
        await self._projects.update(who, project_id, lambda stored: replace(_described(stored, entry), quota=quota))

    async def remove(self, who: Subject, path: Path) -> None:
        """See :class:`Hand`."""
        await self._projects.delete(who, await self._places.project_id(who, path))

    async def _in_use(self, project: Project) -> str:
        page = await self._jobs.page_jobs(project.id, None, 1, "")
        return "it has jobs" if page.views else ""


def role_kind(scope: Scope) -> Kind:
    """The kind of the roles on the things of a scope."""
    parent = "project" if scope is Scope.PROJECT else "community"
    return Kind(f"{parent} role", "roles", parent, grant=True)


class Roles(Hand):
    """Roles on the things of one scope: the path ends in the account's name and the role's whole id."""

    def __init__(
        self, scope: Scope, grants: Grants, accounts: Accounts, places: Places, communities: Communities
    ) -> None:
        self.kind = role_kind(scope)
        self._scope = scope
        self._grants = grants
        self._accounts = accounts
        self._places = places
        self._communities = communities

    async def present(self, who: Subject) -> list[Entry]:
        """See :class:`Hand`."""
        found: list[Entry] = []
        for path, resource_id in await self._things(who):
            token, first = "", True
            while token or first:
                page, token = await self._grants.page(who, self._scope, resource_id, page_token=token)
                found += [Entry(Key(self.kind.name, (*path, account.name, b.role_id))) for b, account in page]
                first = False
        return found

    def check(self, entry: Entry) -> None:
        """See :class:`Hand`; the reader of the file knows the roles."""

    async def add(self, who: Subject, entry: Entry) -> None:
        """See :class:`Hand`."""
        path = entry.key.path
        await self._grants.update(who, self._scope, await self._id(who, path), [await self._grant(who, path)], [])

    async def remove(self, who: Subject, path: Path) -> None:
        """See :class:`Hand`."""
        await self._grants.update(who, self._scope, await self._id(who, path), [], [await self._grant(who, path)])

    async def _grant(self, who: Subject, path: Path) -> Grant:
        return Grant(path[-1], (await self._accounts.find(who, path[-2])).id)

    async def _id(self, who: Subject, path: Path) -> str:
        of_project = self._scope is Scope.PROJECT
        return await (self._places.project_id if of_project else self._places.community_id)(who, path)

    async def _things(self, who: Subject) -> list[tuple[Path, str]]:
        if self._scope is Scope.PROJECT:
            return [(path, project.id) for path, project in await self._places.projects(who)]
        return [((c.name,), c.id) for c in await self._communities.all(who)]


def _described(stored: T, entry: Entry) -> T:
    fields = Fields(entry.fields)
    return replace(stored, description=fields.text("description"), labels=fields.labels())
