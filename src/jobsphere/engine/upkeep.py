"""Housekeeping that no job waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from jobsphere.domain.errors import JobsphereError

_AGAIN_S = 5.0
log = structlog.get_logger()


async def cancelled(*tasks: asyncio.Task[None], again_s: float = _AGAIN_S) -> None:
    """Cancel the tasks, and wait until they have ended, however.

    One that goes on after ``again_s`` seconds is cancelled again: what it called may have swallowed the first time
    (before Python 3.12 ``asyncio.wait_for`` does, when what it waits for comes at the same moment).
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again_s)
    await asyncio.gather(*tasks, return_exceptions=True)


async def went_well(work: Awaitable[object], otherwise: str, **facts: str) -> bool:
    """Do one of many pieces of work; whether it was done.

    If it was not, the log says ``otherwise``, the ``facts`` and why: one that fails, in whatever way, must never be the
    end of those that come after it.
    """
    try:
        await work
    except JobsphereError as e:
        log.error(otherwise, reason=e.public, **{**e.context, **facts})
    except OSError as e:
        log.error(otherwise, reason=str(e), **facts)
    except Exception:
        log.exception(otherwise, **facts)
    else:
        return True
    return False


async def keep_up(
    work: Callable[[], Awaitable[object]], interval_s: float, otherwise: str = "upkeep could not be done"
) -> None:
    """Do ``work`` now and every ``interval_s`` seconds, until cancelled.

    What it cannot do now is logged, and tried again the next time.
    """
    while True:
        await went_well(work(), otherwise)
        await asyncio.sleep(interval_s)
