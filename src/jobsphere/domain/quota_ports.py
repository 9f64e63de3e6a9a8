"""What quotas need to know of what there is; see :mod:`jobsphere.domain.ports` for what every port promises."""

from __future__ import annotations

from typing import Protocol


class JobCounts(Protocol):
    """How many jobs a project has."""

    async def stored_jobs(self, project_id: str) -> int:
        """All of them, whatever became of them."""
        ...

    async def queued_jobs(self, project_id: str) -> int:
        """Those that were executed and have no attempt yet."""
        ...


class StoredBytes(Protocol):
    """How many bytes a project has."""

    async def stored_bytes(self, project_id: str) -> int:
        """The bytes of all its blobs, each once. May be some seconds old for what crashes left."""
        ...


class DiskBytes(Protocol):
    """How many bytes are on the disk of a project."""

    async def disk_bytes(self, project_id: str) -> int:
        """Those of all its files. May be some seconds old."""
        ...
