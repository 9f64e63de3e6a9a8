"""Group commit: writes that arrive while the disk is busy share the next commit.

A commit costs an fsync, whatever is in it. One thread commits; all bookkeeping stays on the event loop, so that no lock
is needed and no waiter can be forgotten.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from jobsphere.domain.errors import JobsphereError, UnavailableError
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.durable import Point, durable
from jobsphere.store.connection import translated

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Statements of one write. All of them happen or none does."""

GROUP_LIMIT = 256
"""Writes in one commit at most: the first of them waits for the last."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    work: Work[Any]
    future: asyncio.Future[Any]


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class GroupWriter:
    """Owner of the connection that writes. Used on one event loop.

    A write that returned is durable. When its waiter is cancelled, a write that is under way still happens.
    """

    def __init__(self, connection: sqlite3.Connection, meter: Meter = SILENT) -> None:
        self._connection = connection
        self._meter = meter
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store-writer")
        self._waiting: deque[_Waiting] = deque()
        self._drain: asyncio.Task[None] | None = None
        self._closed = False

    async def write(self, work: Work[T]) -> T:
        """Run ``work`` in the writer's thread and commit it, alone or with others.

        Raises:
            UnavailableError: nothing was written: the database is locked, cannot be reached, or the store is closed.
            ResourceExhaustedError: nothing was written: the disk is full.
            Exception: what ``work`` raised; what it had done is undone.
        """
        if self._closed:
            raise UnavailableError("the store is closed; the server is shutting down")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, future))
        if self._drain is None:
            self._start()
        return await future

    async def close(self) -> None:
        """Commit what waits, put all of it into the main file, and let go. A repeat does nothing."""
        if self._closed:
            return
        self._closed = True
        while self._drain is not None:
            await asyncio.wait([self._drain])
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, _close, self._connection)
        finally:
            self._thread.shutdown()

    def _start(self) -> None:
        self._drain = asyncio.get_running_loop().create_task(self._commit_all())
        # Not a finally inside of it: a task that is cancelled before its first step never gets there.
        self._drain.add_done_callback(self._drained)

    def _drained(self, drain: asyncio.Task[None]) -> None:
        self._drain = None
        if drain.cancelled():
            # Better an error than a wait without end.
            while self._waiting:
                _settle(self._waiting.popleft().future, _Failed(_stopped()))
        elif self._waiting:
            self._start()

    async def _commit_all(self) -> None:
        while self._waiting:
            await self._commit_next()

    async def _commit_next(self) -> None:
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_LIMIT))]
        outcomes: Sequence[Any] = [_Failed(_stopped()) for _ in group]
        try:
            loop = asyncio.get_running_loop()
            works = [waiting.work for waiting in group]
            begin = time.monotonic()
            outcomes = await loop.run_in_executor(self._thread, _commit_group, self._connection, works)
            self._meter.committed(len(works), time.monotonic() - begin)
        except Exception:  # noqa: BLE001  the waiters are told, and the next group may do better
            _log.exception("the store's writer broke down", writes=len(group))
        finally:
            for waiting, outcome in zip(group, outcomes, strict=True):
                _settle(waiting.future, outcome)


def _stopped() -> JobsphereError:
    return UnavailableError("the store's writer stopped before it answered; look at the job before trying again")


def _settle(future: asyncio.Future[Any], outcome: object) -> None:
    if future.done():  # its waiter was cancelled
        return
    if isinstance(outcome, _Failed):
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome)


def _commit_group(connection: sqlite3.Connection, works: Sequence[Work[Any]]) -> list[Any]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        outcomes = [_run_alone(connection, work) for work in works]
        with durable(Point.STORE_COMMIT):
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        return [_Failed(translated(error)) for _ in works]
    else:
        return outcomes
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _run_alone(connection: sqlite3.Connection, work: Work[Any]) -> Any:
    connection.execute("SAVEPOINT one")
    try:
        return work(connection)
    except Exception as error:
        if not connection.in_transaction:  # a full disk undoes the whole group
            raise
        connection.execute("ROLLBACK TO one")
        return _Failed(translated(error) if isinstance(error, sqlite3.Error) else error)
    finally:
        if connection.in_transaction:
            connection.execute("RELEASE one")


def _close(connection: sqlite3.Connection) -> None:
    try:
        with durable(Point.STORE_CLOSE):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
