"""PostgreSQL as a database of stores: a few connections, each used by one read or one write at a time.

Nothing waits for a database that is away: a call fails at once and says so, and the next one connects anew. So a server
outlives a restart of its database, or a failover to another, by doing nothing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from operator import itemgetter
from time import monotonic
from typing import Any, TypeVar

import asyncpg
from asyncpg import exceptions as pg

from jobsphere.domain.errors import UnavailableError
from jobsphere.domain.job import JobStatus
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.durable import Point, durable
from jobsphere.store.database import Alone, Ask, Change, ChangeEach, Step, TakenError, Work
from jobsphere.store.postgres_connection import AGAIN, LOST, translated
from jobsphere.store.postgres_hints import CHANNEL
from jobsphere.store.records import Row, Value
from jobsphere.store.statements import Statement, Text

T = TypeVar("T")

_TRIES = 5
_WAIT_S = 10.0
"""How long a call waits for one of the connections."""
_LOCK_ALL = "LOCK TABLE communities, accounts, projects, jobs IN SHARE ROW EXCLUSIVE MODE"


class PostgresDatabase:
    """:class:`jobsphere.store.database.Database` on a pool of connections."""

    def __init__(self, pool: Any, meter: Meter = SILENT) -> None:
        self._pool = pool
        self._meter = meter
        self._closed = False

    async def one(self, statement: Statement, *values: str) -> Sequence[Any] | None:
        """See the port."""
        text = statement.postgresql
        return await self._read(lambda c: c.fetchrow(text.sql, *map(_storable, values)))

    async def all(self, statement: Statement, values: Row) -> Sequence[Any]:
        """See the port."""
        return await self._read(lambda c: _fetch(c, statement, values, None))

    async def first(self, statement: Statement, values: Row, at_most: int) -> Sequence[Any]:
        """See the port."""
        return await self._read(lambda c: _fetch(c, statement, values, at_most))

    async def newest(
        self, every: Statement, of_status: Statement, values: Row, statuses: Iterable[JobStatus] | None, at_most: int
    ) -> Sequence[Any]:
        """See the port; each status is asked for as many rows as are wanted in all."""
        if statuses is None:
            return await self.first(every, values, at_most)

        async def read(connection: Any) -> Sequence[Any]:
            of_each = [values | {"status": status.value} for status in set(statuses)]
            ranges = [await _fetch(connection, of_status, these, at_most) for these in of_each]
            return list(heapq.merge(*ranges, key=itemgetter(0), reverse=True))[:at_most]

        return await self._read(read)

    async def write(self, work: Work[T]) -> T:
        """See the port. A write that is cancelled before its commit does not happen.

        What two writes do to each other, or another server to the schema, or what a connection takes along that is lost
        before the commit, is undone by the database, and tried again.
        """
        begin = monotonic()
        for _ in range(_TRIES):
            try:
                async with self._connection() as connection:
                    done = await _carry_out(connection, work)
            except (*AGAIN, _UndoneError):
                continue
            except pg.ReadOnlySQLTransactionError as error:
                await self._pool.expire_connections()  # the others lead to the standby as well
                raise translated(error) from error
            except (*LOST, asyncpg.PostgresError) as error:
                raise translated(error) from error  # of a lost one: it may have been committed or not
            self._meter.committed(1, monotonic() - begin)
            return done
        raise UnavailableError("others change the same things all the time; try again")

    async def notify(self, payload: str) -> None:
        """Tell all that listen to :data:`jobsphere.store.postgres_hints.CHANNEL`.

        Raises:
            UnavailableError: nobody may have been told.
        """
        await self._read(lambda c: c.execute("SELECT pg_notify($1, $2)", CHANNEL, payload))

    async def close(self) -> None:
        """Let what is under way end, and let go. A repeat does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            await asyncio.wait_for(self._pool.close(), _WAIT_S)
        except TimeoutError:
            self._pool.terminate()

    async def _read(self, read: Callable[[Any], Awaitable[T]]) -> T:
        """A read is tried twice: the connection may have been lost while nobody looked, and the plan be out of date."""
        last = False
        while True:
            try:
                async with self._connection() as connection:
                    return await read(connection)
            except (*LOST, asyncpg.PostgresError) as error:
                if last or not isinstance(error, (*LOST, *AGAIN)):
                    raise translated(error) from error
                last = True

    @asynccontextmanager
    async def _connection(self) -> AsyncGenerator[Any]:
        if self._closed:
            raise UnavailableError("the store is closed; the server is shutting down")
        async with self._pool.acquire(timeout=_WAIT_S) as connection:
            yield connection


class _UndoneError(Exception):
    """The connection was lost before the commit: nothing of the write has happened, or ever will."""


async def _carry_out(connection: Any, work: Work[T]) -> T:
    steps = work()
    try:
        step = next(steps)
    except StopIteration as end:
        return end.value
    if isinstance(step, Change) and step.only:
        with durable(Point.STORE_COMMIT):
            return await _take_all(connection, steps, step)
    transaction = connection.transaction()
    try:
        await transaction.start()
        done = await _take_all(connection, steps, step)
    except LOST as error:
        raise _UndoneError from error
    except BaseException:
        if not connection.is_closed() and connection.is_in_transaction():
            await transaction.rollback()
        raise
    with durable(Point.STORE_COMMIT):
        await transaction.commit()
    return done


async def _take_all(connection: Any, steps: Any, step: Step) -> Any:
    try:
        while True:
            try:
                answer = await _take(connection, step)
            except pg.IntegrityConstraintViolationError as error:
                try:
                    # The transaction is lost: all that the write may do now is to raise.
                    steps.throw(TakenError())
                except TakenError:
                    raise error from None
                raise
            step = steps.send(answer)
    except StopIteration as end:
        return end.value


async def _take(connection: Any, step: Step) -> Any:
    match step:
        case Change(statement, values):
            text = statement.postgresql
            return _count(await connection.execute(text.sql, *_bound(text, values)))
        case ChangeEach(statement, rows):
            text = statement.postgresql
            await connection.executemany(text.sql, [_bound(text, row) for row in rows])
            return None
        case Ask(statement, values, at_most):
            return await _fetch(connection, statement, values, at_most)
        case Alone():
            await connection.execute(_LOCK_ALL)
            return None


async def _fetch(connection: Any, statement: Statement, values: Row, at_most: int | None) -> Sequence[Any]:
    text = statement.postgresql
    return await connection.fetch(text.sql, *_bound(text, {**values, "at_most": at_most}))


def _bound(text: Text, values: Row) -> list[Value]:
    return [_storable(value) for value in text.bind(values)]


def _storable(value: Value) -> Value:
    """PostgreSQL has no text with a NUL in it: nothing that it holds is called so."""
    return value.replace("\0", "\ufffd") if isinstance(value, str) and "\0" in value else value


def _count(tag: str) -> int:
    """The rows of a command's tag: ``UPDATE 1``."""
    return int(tag.rpartition(" ")[2])
