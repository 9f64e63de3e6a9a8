"""One SQLite file as a database of stores: reads run where they are called, writes share commits."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from operator import itemgetter
from typing import Any, TypeVar

from jobsphere.domain.job import JobStatus
from jobsphere.store.connection import translated
from jobsphere.store.database import Alone, Ask, Change, ChangeEach, Step, TakenError, Work
from jobsphere.store.records import Row
from jobsphere.store.statements import Statement
from jobsphere.store.writer import GroupWriter

T = TypeVar("T")


@contextmanager
def translating() -> Generator[None]:
    """The driver's errors become the caller's."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error) from error


class SqliteDatabase:
    """:class:`jobsphere.store.database.Database` on a connection that can only read and one that writes."""

    def __init__(self, reader: sqlite3.Connection, writer: GroupWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def one(self, statement: Statement, *values: str) -> tuple[Any, ...] | None:
        """See the port."""
        with translating(), closing(self._reader.execute(statement.sql, values)) as cursor:
            return cursor.fetchone()

    async def all(self, statement: Statement, values: Row) -> list[Any]:
        """See the port."""
        with translating():
            return self._reader.execute(statement.sql, statement.bind(values)).fetchall()

    async def first(self, statement: Statement, values: Row, at_most: int) -> list[Any]:
        """See the port; rows are made as they are fetched."""
        with translating(), ExitStack() as stack:
            return list(islice(self._rows(stack, statement, values), at_most))

    async def newest(
        self, every: Statement, of_status: Statement, values: Row, statuses: Iterable[JobStatus] | None, at_most: int
    ) -> list[Any]:
        """See the port; rows of all statuses are merged as they are fetched."""
        with translating(), ExitStack() as stack:
            if statuses is None:
                return list(islice(self._rows(stack, every, values), at_most))
            ranges = [self._rows(stack, of_status, values | {"status": status.value}) for status in set(statuses)]
            return list(islice(heapq.merge(*ranges, key=itemgetter(0), reverse=True), at_most))

    async def write(self, work: Work[T]) -> T:
        """See the port."""
        return await self._writer.write(lambda connection: carry_out(connection, work))

    async def close(self) -> None:
        """Commit what is under way and let go of the file. A repeat does nothing."""
        self._reader.close()
        await self._writer.close()

    def _rows(self, stack: ExitStack, statement: Statement, values: Row) -> Iterator[Any]:
        # The stack ends the read: one left open would keep the log from being cut.
        return stack.enter_context(closing(self._reader.execute(statement.sql, statement.bind(values))))


def carry_out(connection: sqlite3.Connection, work: Work[T]) -> T:
    """Take the steps of a write, within somebody's transaction; what the write returns or raises."""
    steps = work()
    try:
        step = next(steps)
        while True:
            try:
                answer = _take(connection, step)
            except sqlite3.IntegrityError as error:
                try:
                    step = steps.throw(TakenError())
                except TakenError:
                    raise error from None
            else:
                step = steps.send(answer)
    except StopIteration as end:
        return end.value


def _take(connection: sqlite3.Connection, step: Step) -> Any:
    match step:
        case Change(statement, values):
            return connection.execute(statement.sql, statement.bind(values)).rowcount
        case ChangeEach(statement, rows):
            connection.executemany(statement.sql, [statement.bind(row) for row in rows])
            return None
        case Ask(statement, values, at_most):
            with closing(connection.execute(statement.sql, statement.bind(values))) as cursor:
                return list(islice(cursor, at_most))
        case Alone():
            return None  # the transaction has the only write lock already
