"""What the server tells whoever counts: the port to its metrics."""

from __future__ import annotations

from typing import Protocol

from jobsphere.domain.job import Job


class Meter(Protocol):
    """Told of what has happened. Never raises, never waits, costs no more than an addition or two."""

    def moved(self, was: Job | None, new: Job) -> None:
        """A job was stored anew. ``was`` is None for one that was just made."""
        ...

    def called(self, method: str, code: str, seconds: float) -> None:
        """A call of the API has ended. ``method`` as ``/package.Service/Method``, ``code`` by its standard name."""
        ...

    def committed(self, writes: int, seconds: float) -> None:
        """A group of writes is durable."""
        ...

    def transferred(self, direction: str, size: int, seconds: float) -> None:
        """A file went ``up`` or ``down``. ``size`` in bytes."""
        ...


class Silent:
    """Counts nothing."""

    def moved(self, was: Job | None, new: Job) -> None:
        """See :meth:`Meter.moved`."""

    def called(self, method: str, code: str, seconds: float) -> None:
        """See :meth:`Meter.called`."""

    def committed(self, writes: int, seconds: float) -> None:
        """See :meth:`Meter.committed`."""

    def transferred(self, direction: str, size: int, seconds: float) -> None:
        """See :meth:`Meter.transferred`."""


SILENT = Silent()
