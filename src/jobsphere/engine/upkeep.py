"""Housekeeping that no job waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from jobsphere.domain.errors import JobsphereError

log = structlog.get_logger()


async def keep_up(work: Callable[[], Awaitable[object]], interval_s: float) -> None:
    """Do ``work`` now and every ``interval_s`` seconds, until cancelled.

    What it cannot do now is logged, and tried again the next time.
    """
    while True:
        try:
            await work()
        except (OSError, JobsphereError) as e:
            log.error("upkeep could not be done", reason=str(e))
        await asyncio.sleep(interval_s)
