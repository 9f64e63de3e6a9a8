"""Operations: the API's handles for work that may take time.

Only the operation of Execute lives longer than its call, and all that it tells is the job's own state: it is read from
the job each time, so that the two can never disagree. The others are done when they are answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class OperationKind(StrEnum):
    """The call that made the operation."""

    CREATE = "create"
    CLONE = "clone"
    EXECUTE = "execute"
    DELETE = "delete"
    DELETE_DATA = "delete-data"
    DELETE_ALL_DATA = "delete-all-data"
    ACTIVATE_DATASET = "activate-dataset"
    ACTIVATE_S3 = "activate-s3"
    DEACTIVATE_S3 = "deactivate-s3"
    ACTIVATE_IMAGE = "activate-image"
    CREATE_PROJECT = "create-project"
    UPDATE_PROJECT = "update-project"
    DELETE_PROJECT = "delete-project"
    SET_PROJECT_ACCESS = "set-project-access"
    UPDATE_PROJECT_ACCESS = "update-project-access"
    CREATE_COMMUNITY = "create-community"
    UPDATE_COMMUNITY = "update-community"
    DELETE_COMMUNITY = "delete-community"
    SET_COMMUNITY_ACCESS = "set-community-access"
    UPDATE_COMMUNITY_ACCESS = "update-community-access"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. ``job_id`` is empty for those of a whole project, ``project_id`` for those of a community."""

    id: str
    kind: OperationKind
    project_id: str
    job_id: str
    created_at: datetime
    created_by: str
    community_id: str = ""
