"""Resources: what belongs to a team rather than to a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from jobsphere.domain.quota import Quota, parse_quota, show_quota

Labels = tuple[tuple[str, str], ...]
"""Names and values, in the order of the names."""


@dataclass(frozen=True, slots=True)
class Project:
    """Owner of jobs and their data: bytes of one project are never another's."""

    id: str
    name: str
    community_id: str
    created_at: datetime
    created_by_id: str
    description: str = ""
    labels: Labels = ()
    settings: bytes = b""
    """The published settings and, below, limits, as the client sent them: kept for it, without effect here."""
    limits: bytes = b""
    quota: Quota = Quota()
    """What the server's operator lets it have."""


def with_quota(project: Project, texts: Mapping[str, str]) -> Project:
    """The project with some quotas changed; an empty text leaves that one to the server's settings.

    Raises:
        InvalidArgumentError: as :func:`jobsphere.domain.quota.parse_quota`.
    """
    return replace(project, quota=parse_quota({**show_quota(project.quota), **texts}))


@dataclass(frozen=True, slots=True)
class Community:
    """A team: owner of projects, and a place to give roles for all of them. The last two are kept for the client."""

    id: str
    name: str
    created_at: datetime
    created_by_id: str
    description: str = ""
    labels: Labels = ()
    organization_id: str = ""
    zone_id: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who makes a call. An ``operator`` may do everything; what others may, their roles say."""

    id: str
    name: str = ""
    operator: bool = False
