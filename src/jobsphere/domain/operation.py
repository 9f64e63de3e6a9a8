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


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. ``job_id`` is empty for those of a whole project."""

    id: str
    kind: OperationKind
    project_id: str
    job_id: str
    created_at: datetime
    created_by: str
