"""What one call leaves behind for the audit log, gathered where it is known while the call goes on.

Each call has a trail of its own, found through the context that it runs in. Outside of an audited call nothing is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

from jobsphere.domain.audit import AuditRow
from jobsphere.domain.resource import Subject


@dataclass(slots=True)
class Trail:
    """What became known: the project, who the caller proved to be, and what was made or given.

    ``row`` makes the call's row, should it succeed; ``stored``: it is in the log already.
    """

    project_id: str = ""
    subject: Subject | None = None
    notes: list[str] = field(default_factory=list[str])
    row: Callable[[], AuditRow | None] = lambda: None
    stored: bool = False


_current: ContextVar[Trail | None] = ContextVar("trail", default=None)


def begin() -> Trail:
    """A new trail, from now on that of this context."""
    trail = Trail()
    _current.set(trail)
    return trail


def about(project_id: str) -> None:
    """The call is about this project."""
    trail = _current.get()
    if trail is not None:
        trail.project_id = project_id


def by(subject: Subject) -> None:
    """The call has shown who makes it."""
    trail = _current.get()
    if trail is not None:
        trail.subject = subject


def note(name: str, value: str) -> None:
    """The call has made this, or given or taken it away. Never a secret."""
    trail = _current.get()
    if trail is not None:
        trail.notes.append(f"{name}={value}")


def row() -> AuditRow | None:
    """The call's row as it is if the call succeeds, for the write that does what was asked: one commit for both.

    None outside of audited calls, and of those whose row is written by who began them.
    """
    trail = _current.get()
    return None if trail is None else trail.row()


def stored() -> None:
    """What :func:`row` gave is stored. A call that fails all the same has a second row, which says so."""
    trail = _current.get()
    if trail is not None:
        trail.stored = True
