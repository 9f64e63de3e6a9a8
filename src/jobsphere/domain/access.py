"""Who may do what: the vendor's roles, and for each action the least of them that it takes.

A role on a project counts for that project; one on a community counts for the community and, as :func:`on_project`
says, for every project in it. Whoever has no role on a thing is told that it does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType

from jobsphere.domain.errors import InvalidArgumentError


class Level(IntEnum):
    """How much a role allows. Each includes those below it."""

    NONE = 0
    VIEWER = 1
    DEVELOPER = 2
    EDITOR = 3
    ADMIN = 4


class Scope(StrEnum):
    """What a role is about; the value stands in its published name."""

    PROJECT = "community-projects"
    COMMUNITY = "communities"


@dataclass(frozen=True, slots=True)
class Role:
    """A role, as published: ``datasphere.<scope>.<level>``."""

    scope: Scope
    level: Level

    @property
    def id(self) -> str:
        """Its published name."""
        return f"datasphere.{self.scope}.{self.level.name.lower()}"


_LEVELS = {level.name.lower(): level for level in Level if level}
ROLES: Mapping[str, Role] = MappingProxyType(
    {role.id: role for role in (Role(scope, level) for scope in Scope for level in _LEVELS.values())}
)
"""All roles by their published names."""


def role_named(text: str, scope: Scope) -> Role:
    """The role of a published name, or of a level's plain name (``developer``), which means one about ``scope``.

    A project takes no role about communities. A community takes both: one about projects counts for each of its own.

    Raises:
        InvalidArgumentError: there is no such role, or not for this.
    """
    role = Role(scope, _LEVELS[text]) if text in _LEVELS else ROLES.get(text)
    fitting = [name for name, known in ROLES.items() if scope is Scope.COMMUNITY or known.scope is scope]
    if role is None or role.id not in fitting:
        raise InvalidArgumentError(f"role: {text!r} is none that can be given here; there are: {', '.join(fitting)}")
    return role


_INHERITED = {
    Level.NONE: Level.NONE,
    Level.VIEWER: Level.VIEWER,
    # One who may make projects in a community may not work in those of others.
    Level.DEVELOPER: Level.VIEWER,
    Level.EDITOR: Level.EDITOR,
    Level.ADMIN: Level.ADMIN,
}


def on_project(of_project: Iterable[Role], of_community: Iterable[Role]) -> Level:
    """The level on a project, from the caller's roles on it and on its community."""
    own = [role.level for role in of_project]
    given = [role.level if role.scope is Scope.PROJECT else _INHERITED[role.level] for role in of_community]
    return max(own + given, default=Level.NONE)


def on_community(roles: Iterable[Role]) -> Level:
    """The level on a community, from the caller's roles on it."""
    return max((role.level for role in roles if role.scope is Scope.COMMUNITY), default=Level.NONE)


class Action(Enum):
    """What a caller may want, with what it is done to and the least level that it takes. The one table of rights."""

    PROJECT_VIEW = (Scope.PROJECT, Level.VIEWER, "see the project")
    ACCESS_VIEW = (Scope.PROJECT, Level.VIEWER, "see who has access to the project")
    JOB_VIEW = (Scope.PROJECT, Level.VIEWER, "see jobs")
    JOB_FETCH = (Scope.PROJECT, Level.VIEWER, "download files of jobs")
    JOB_CREATE = (Scope.PROJECT, Level.DEVELOPER, "create jobs")
    JOB_EXECUTE = (Scope.PROJECT, Level.DEVELOPER, "execute jobs")
    JOB_CANCEL = (Scope.PROJECT, Level.DEVELOPER, "cancel jobs")
    JOB_DELETE = (Scope.PROJECT, Level.DEVELOPER, "delete jobs or their data")
    JOB_CHANGE = (Scope.PROJECT, Level.DEVELOPER, "change jobs")
    RESOURCE_VIEW = (Scope.PROJECT, Level.VIEWER, "see what the project gives to its jobs")
    RESOURCE_CHANGE = (Scope.PROJECT, Level.EDITOR, "change what the project gives to its jobs")
    PROJECT_CHANGE = (Scope.PROJECT, Level.EDITOR, "change the project")
    PROJECT_DELETE = (Scope.PROJECT, Level.EDITOR, "delete the project")
    ACCESS_CHANGE = (Scope.PROJECT, Level.ADMIN, "change who has access to the project")

    COMMUNITY_VIEW = (Scope.COMMUNITY, Level.VIEWER, "see the community")
    COMMUNITY_ACCESS_VIEW = (Scope.COMMUNITY, Level.VIEWER, "see who has access to the community")
    PROJECT_CREATE = (Scope.COMMUNITY, Level.DEVELOPER, "create projects in the community")
    COMMUNITY_CHANGE = (Scope.COMMUNITY, Level.EDITOR, "change the community")
    COMMUNITY_DELETE = (Scope.COMMUNITY, Level.EDITOR, "delete the community")
    COMMUNITY_ACCESS_CHANGE = (Scope.COMMUNITY, Level.ADMIN, "change who has access to the community")

    def __init__(self, scope: Scope, least: Level, words: str) -> None:
        self.scope = scope
        self.least = least
        self.words = words

    def allowed(self, level: Level) -> bool:
        """Whether somebody with this level on the thing may do it."""
        return level >= self.least

    @property
    def role(self) -> Role:
        """The least role that allows it."""
        return Role(self.scope, self.least)
