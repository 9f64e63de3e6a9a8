"""What servers that share a database need of each other: to hear of changes, and to take turns.

One server by itself pays nothing: nobody tells it anything, and it holds every lease.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


def unread(_server: str, _job_id: str, _for_s: float) -> None:
    """Nobody wants to know who reads what."""


class JobHints(Protocol):
    """Nudges between servers. They only shorten latency: whoever waits looks again by itself."""

    def subscribe(
        self,
        changed: Callable[[str], None],
        missed: Callable[[], None],
        reading: Callable[[str, str, float], None] = unread,
    ) -> None:
        """Have another server's changes told, on the event loop.

        ``changed(job_id)`` when a job was stored, or deleted, by another server. ``missed()`` when hints may have been
        lost and are heard again: look at everything. ``reading(server, job_id, for_s)``: see :meth:`tell_reading`.
        """
        ...

    def tell_reading(self, job_id: str, for_s: float) -> None:
        """Tell the others that a client of this server reads the log of the job, for so many seconds from now."""
        ...


class Leases(Protocol):
    """Who may act: at most one server holds a lease at a time, and one that is gone loses it by and by."""

    async def hold(self, name: str) -> bool:
        """Take the lease, or keep it for its full life once more; False if another server has it.

        Raises:
            UnavailableError: it cannot be known now; do not act.
        """
        ...

    async def holder(self, name: str) -> str:
        """Who holds the lease now, by the name that it gave itself; empty if nobody does.

        Raises:
            UnavailableError: it cannot be known now.
        """
        ...

    async def release(self, name: str) -> None:
        """Give the lease back, so that another need not wait for its end. Nothing if it is not held."""
        ...


class Alone:
    """Both ports of a server that shares its database with no other."""

    def subscribe(
        self,
        changed: Callable[[str], None],
        missed: Callable[[], None],
        reading: Callable[[str, str, float], None] = unread,
    ) -> None:
        """There is nobody who would tell."""

    def tell_reading(self, job_id: str, for_s: float) -> None:
        """There is nobody to be told."""

    async def hold(self, name: str) -> bool:  # noqa: ARG002
        """It is always this one's turn."""
        return True

    async def holder(self, name: str) -> str:  # noqa: ARG002
        """There is no other who would ask."""
        return ""

    async def release(self, name: str) -> None:
        """Nobody waits for it."""
