"""Run directories that are made beforehand, so that an attempt need not wait for a dozen files to be made."""

from __future__ import annotations

import asyncio
import shutil
from collections import deque

from jobsphere.runner.rundir import create_spare

KEPT = 4
"""For attempts that come one by one. In a crowd the time to make one beforehand would be another attempt's."""
_LATER_S = 0.1
"""The attempt that took one comes first."""


class Spares:
    """A few for one folder, all but their plans. Belongs to one event loop.

    What is there when the process is killed is cleared by the next one, as anything half-made.

    Args:
        folder: The run directories' own.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._made: deque[str] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._making: asyncio.Future[None] | None = None

    def take(self) -> str | None:
        """One for the caller alone; None if there is none. Others are made in a moment."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LATER_S, self._begin)
        return self._made.popleft() if self._made else None

    async def close(self) -> None:
        """Make none any more, and remove those that nobody took."""
        if self._timer is not None:
            self._timer.cancel()
        if self._making is not None:
            await asyncio.wait([self._making])
        await asyncio.to_thread(self._clear)

    def _begin(self) -> None:
        self._timer = None
        if self._making is None or self._making.done():
            self._making = asyncio.ensure_future(asyncio.to_thread(self._fill))

    def _clear(self) -> None:
        while self._made:
            shutil.rmtree(self._made.pop(), ignore_errors=True)  # the next process clears what cannot go now

    def _fill(self) -> None:
        try:
            while len(self._made) < KEPT:
                self._made.append(create_spare(self._folder))
        except OSError:  # what is wrong with the disk is told to the attempt that has to do without
            return
