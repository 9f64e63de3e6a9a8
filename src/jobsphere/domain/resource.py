"""Resources: what belongs to a team rather than to a job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Project:
    """Owner of jobs and their data: bytes of one project are never another's."""

    id: str
    name: str
    community_id: str
    created_at: datetime
    created_by_id: str
    description: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who makes a call."""

    id: str
