"""The audit log: one row for each call that changes something, or tried to. Rows are only ever added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what to what, when, from where, and what came of it. No field ever holds a secret.

    ``subject_id`` is empty where the caller is not known; ``subject_name`` is the name at that time. ``origin`` is the
    caller's network address, or ``command line``. ``target`` lists the ids that the call named, as ``field=id``.
    ``result`` is ``OK`` or the name of a standard RPC code. ``number`` is the row's place in the log, from 1 on; 0
    before it is stored.
    """

    at: datetime
    subject_id: str
    subject_name: str
    action: str
    project_id: str
    target: str
    origin: str
    result: str
    request_id: str
    number: int = 0


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which rows: those that fit all that is named. ``action`` is a pattern (``*Cancel``); empty fits all."""

    project_id: str = ""
    subject: str = ""
    """An account's id or its name at that time."""
    since: datetime | None = None
    action: str = ""
    limit: int = 100

    def fits(self, row: AuditRow) -> bool:
        """Whether the row is one of those."""
        return (
            self.project_id in {"", row.project_id}
            and self.subject in {"", row.subject_id, row.subject_name}
            and (self.since is None or row.at >= self.since)
            and (not self.action or fnmatchcase(row.action.lower(), self.action.lower()))
        )
