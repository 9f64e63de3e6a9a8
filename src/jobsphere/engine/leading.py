"""Who of several servers does what only one may do: whoever holds the lease, and only for as long as it surely does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import structlog

from jobsphere.domain.errors import JobsphereError, UnavailableError
from jobsphere.domain.replica_ports import Leases
from jobsphere.engine.upkeep import cancelled

_EARLY = 0.8
"""The part of a lease's life for which its holder acts: the rest is for stopping, and for clocks that run apart."""
_RENEWALS = 5
"""How often in a lease's life it is asked for."""
log = structlog.get_logger()


class Leading:
    """Leads whenever the lease is this server's.

    A leader that cannot renew its lease stops by itself, before another can have it: its time is measured from before
    the last renewal that succeeded was asked for, by a clock that nobody sets.

    Args:
        leases: Who holds what.
        name: The lease.
        life_s: How long it lives that is not held again.
        lead: What leading is: entering begins, leaving ends it. Both may be repeated.
        monotonic: A clock for durations, in seconds.
    """

    def __init__(
        self,
        leases: Leases,
        name: str,
        life_s: float,
        lead: Callable[[], AbstractAsyncContextManager[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._leases = leases
        self._name = name
        self._life_s = life_s
        self._lead = lead
        self._monotonic = monotonic
        self._until = float("-inf")
        self._work: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def leads(self) -> bool:
        """Whether this server may act now: asked before each act that another leader must not do as well."""
        return self._monotonic() < self._until

    def stop(self) -> None:
        """Have :meth:`run` end even if what it calls swallows its cancellation."""
        self._stopped = True

    async def run(self) -> None:
        """Lead whenever that is possible, until cancelled; then the lease is given back: another leads at once."""
        try:
            while True:
                went_on = self.leads  # if not, another may have led meanwhile: what this one knows is old
                held = await self.hold()
                if self._stopped:
                    return
                if self._work is not None and (not (went_on and held) or self._work.done()):
                    await self._end(self._work)
                if held and self._work is None:
                    self._work = asyncio.create_task(self._do())
                left = self._until - self._monotonic() if held else self._life_s
                await asyncio.sleep(max(min(left, self._life_s / _RENEWALS), 0))
        finally:
            await self._give_back()

    async def hold(self) -> bool:
        """Take the lease, or keep it; whether it is this server's now."""
        asked, before = self._monotonic(), self.leads
        try:
            async with asyncio.timeout(self._until - asked if before else self._life_s):
                held = await self._leases.hold(self._name)
        except (UnavailableError, TimeoutError) as error:
            if before and not self.leads:
                log.warning("this server leads no more: it could not renew its lease", reason=str(error))
            return self.leads
        self._until = asked + self._life_s * _EARLY if held else float("-inf")
        return self.leads

    async def _do(self) -> None:
        try:
            async with self._lead():
                log.info("this server leads")
                await asyncio.Event().wait()
        except (OSError, JobsphereError) as error:
            log.error("this server cannot lead", reason=str(error))

    async def _end(self, work: asyncio.Task[None]) -> None:
        await cancelled(work)
        self._work = None
        log.info("this server leads no more")

    async def _give_back(self) -> None:
        self._until = float("-inf")
        if self._work is None:
            return
        await self._end(self._work)
        try:
            async with asyncio.timeout(self._life_s):
                await self._leases.release(self._name)
        except (UnavailableError, TimeoutError) as error:
            log.warning("the database was not told that this server stops", reason=str(error))
