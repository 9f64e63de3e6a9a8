"""Housekeeping that no job waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

log = structlog.get_logger()


async def keep_up(work: Callable[[], None], interval_s: float) -> None:
    """Do ``work`` (blocking: it gets a thread) now and every ``interval_s`` seconds, until cancelled.

    What it cannot do now is logged, and tried again the next time.
    """
    while True:
        try:
            await asyncio.to_thread(work)
        except OSError as e:
            log.error("upkeep could not be done", reason=str(e))
        await asyncio.sleep(interval_s)
