"""Reads on the connection that can only read, which runs them where they are called."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from operator import itemgetter
from typing import Any

from jobsphere.domain.job import JobStatus
from jobsphere.store.connection import translated
from jobsphere.store.records import Row
from jobsphere.store.statements import Statement


@contextmanager
def translating() -> Generator[None]:
    """The driver's errors become the caller's."""
    try:
        yield
    except sqlite3.Error as error:
        raise translated(error) from error


class Reads:
    """What the stores of one file have in common when they read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def one(self, statement: Statement, *values: str) -> tuple[Any, ...] | None:
        """The first row, if there is one."""
        with translating(), closing(self._connection.execute(statement.sql, values)) as cursor:
            return cursor.fetchone()

    def all(self, statement: Statement, values: Row) -> list[Any]:
        """Every row."""
        with translating():
            return self._connection.execute(statement.sql, statement.bind(values)).fetchall()

    def rows(self, stack: ExitStack, statement: Statement, values: Row) -> Iterator[Any]:
        """Rows as they are asked for. The stack ends the read: one left open would keep the log from being cut."""
        return stack.enter_context(closing(self._connection.execute(statement.sql, statement.bind(values))))

    def newest(
        self,
        stack: ExitStack,
        every: Statement,
        of_status: Statement,
        values: Row,
        statuses: Iterable[JobStatus] | None,
    ) -> Iterator[Any]:
        """Rows that begin with a number, the greatest first, merged as they are asked for.

        ``every`` reads those of every status, ``of_status`` those of one: it runs for each of ``statuses``.
        """
        if statuses is None:
            return self.rows(stack, every, values)
        ranges = [self.rows(stack, of_status, values | {"status": status.value}) for status in set(statuses)]
        return heapq.merge(*ranges, key=itemgetter(0), reverse=True)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
