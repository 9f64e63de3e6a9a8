"""What the clearing of data needs of a runner besides what moves jobs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from jobsphere.domain.ports import Runner


class KeepingRunner(Runner, Protocol):
    """A runner that tells what it keeps of attempts that are over."""

    async def tidied(self) -> Sequence[str]:
        """The ids of all attempts that were tidied and not removed: as many as there are ended jobs."""
        ...
