"""Hints between the servers of one PostgreSQL database, by LISTEN and NOTIFY.

What changed within a few milliseconds goes out in one notification, after its commits and outside of them: a NOTIFY in
a transaction makes all commits of the database wait for each other.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg
import structlog

from jobsphere.domain.errors import UnavailableError
from jobsphere.domain.replica_ports import unread
from jobsphere.store.postgres_connection import LOST, translated

CHANNEL = "jobsphere_jobs"
_GATHER_S = 0.005
_AGAIN_S = 0.5
_ALIVE_S = 10.0
"""How often the connection is asked whether it still is one: a peer that lost its power says nothing."""
_IDS = 100
"""Ids in one notification, which has room for 8,000 bytes."""
_READ = "~"
"""Between a job's id and the seconds for which its log is read."""
_Changed = Callable[[str], None]
_Reading = Callable[[str, str, float], None]
log = structlog.get_logger()


class PostgresHints:
    """:class:`jobsphere.domain.replica_ports.JobHints`. Made on the event loop that it is used on.

    Args:
        connect: Makes the connection that listens; made anew whenever it is lost.
        notify: Sends one notification, by any connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[Any]], notify: Callable[[str], Awaitable[None]]) -> None:
        self._connect = connect
        self._notify = notify
        self._me = secrets.token_hex(8)
        self._subscribers: list[tuple[_Changed, Callable[[], None], _Reading]] = []
        self._changed: dict[str, str] = {}
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None

    def subscribe(self, changed: _Changed, missed: Callable[[], None], reading: _Reading = unread) -> None:
        """See the port; listens from the first subscriber on."""
        self._subscribers.append((changed, missed, reading))
        if self._listening is None:
            self._listening = asyncio.get_running_loop().create_task(self._listen())

    def tell(self, job_id: str) -> None:
        """Tell the other servers soon that this job was stored anew."""
        self._say(job_id, job_id)

    def tell_reading(self, job_id: str, for_s: float) -> None:
        """See the port. What is told of one job within a moment is its last word."""
        self._say(f"{job_id}{_READ}", f"{job_id}{_READ}{for_s:.3f}")

    def _say(self, about: str, word: str) -> None:
        self._changed[about] = word
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send())

    async def close(self) -> None:
        """Send what is to be sent, and listen no more. A repeat does nothing."""
        if self._sending is not None:
            await self._sending
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening

    async def _send(self) -> None:
        try:
            await asyncio.sleep(_GATHER_S)
            while self._changed:
                some = [self._changed.popitem()[1] for _ in range(min(_IDS, len(self._changed)))]
                await self._notify(" ".join([self._me, *some]))
        except UnavailableError:
            self._changed.clear()  # the others look at everything once they can listen again
        finally:
            self._sending = None

    async def _listen(self) -> None:
        while True:
            try:
                connection, lost = await self._connect(), asyncio.Event()
                try:
                    connection.add_termination_listener(lambda _, lost=lost: lost.set())
                    await connection.add_listener(CHANNEL, self._heard)
                    self._missed()
                    while True:
                        with suppress(TimeoutError):
                            await asyncio.wait_for(lost.wait(), _ALIVE_S)
                        await connection.execute("SELECT 1")
                finally:
                    connection.terminate()
            except (*LOST, asyncpg.PostgresError, UnavailableError) as error:
                told = error if isinstance(error, UnavailableError) else translated(error)
                log.warning("changes by other servers are not heard", reason=told.public, **told.context)
            await asyncio.sleep(_AGAIN_S)

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        sender, *words = payload.split(" ")
        if sender == self._me:
            return
        for word in words:
            job_id, read, for_s = word.partition(_READ)
            for changed, _, reading in self._subscribers:
                if read:
                    reading(sender, job_id, float(for_s))
                else:
                    changed(job_id)

    def _missed(self) -> None:
        for _, missed, _ in self._subscribers:
            missed()
