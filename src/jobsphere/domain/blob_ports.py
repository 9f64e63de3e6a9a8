"""How clients' bytes come and go; see :mod:`jobsphere.domain.ports` for what every port promises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from jobsphere.domain.ports import BlobGrant


class Transfers(Protocol):
    """Uploads and downloads by plain HTTP, one request a blob, to this server or straight to where blobs are."""

    async def urls(self, grants: Sequence[BlobGrant]) -> Sequence[str]:
        """An absolute URL for each, good for that one request until it expires. To be told to its client only."""
        ...

    async def take_in(self, project_id: str, sizes: Mapping[str, int]) -> Mapping[str, str]:
        """Make blobs of what clients have brought of these (sizes in bytes by SHA-256), every byte verified.

        Returns:
            Those that are no blobs now: why not, or nothing where nothing has come.

        Raises:
            ResourceExhaustedError: the project would have more than it may.
        """
        ...
