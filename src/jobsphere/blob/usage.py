"""What projects have on this host, looked up: for quotas, and for commands beside a server that counts for itself."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

from jobsphere.blob.paths import project_path
from jobsphere.blob.project_disk import FOLDER

_LOOK_AGAIN_S = 10.0


class WalkedBlobBytes:
    """:class:`jobsphere.domain.quota_ports.StoredBytes` of blobs that another process may be changing."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def stored_bytes(self, project_id: str) -> int:
        """See the port; all of them are looked at."""
        return await asyncio.to_thread(blob_bytes, self._root, project_id)


class WalkedDiskBytes:
    """:class:`jobsphere.domain.quota_ports.DiskBytes` of a data directory: looked up again after some seconds."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / FOLDER
        self._sizes: dict[str, tuple[float, int]] = {}

    async def disk_bytes(self, project_id: str) -> int:
        """See the port."""
        looked_at, size = self._sizes.get(project_id, (-_LOOK_AGAIN_S, 0))
        if time.monotonic() - looked_at > _LOOK_AGAIN_S:
            size = await asyncio.to_thread(tree_bytes, self._root / project_id)
            self._sizes[project_id] = (time.monotonic(), size)
        return size


def blob_bytes(root: Path, project_id: str) -> int:
    """The bytes of all blobs of a project."""
    size = 0
    for path in project_path(root, project_id).glob("??/*"):
        with suppress(FileNotFoundError):
            size += path.lstat().st_size
    return size


def tree_bytes(top: Path) -> int:
    """The bytes of all files below a folder; what goes meanwhile counts nothing."""
    size = 0
    for where, _, names in os.walk(top):
        for name in names:
            with suppress(FileNotFoundError):
                size += os.lstat(os.path.join(where, name)).st_size
    return size
