"""What a store asks of a database, whichever it is: a few ways to read, and writes as steps that it carries out.

A store is written once. A read is a statement and its values. A write is a generator of steps: the database carries
each out within one transaction and sends back what came of it, one in a thread, the other over a socket.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from jobsphere.domain.job import JobStatus
from jobsphere.store.records import Row
from jobsphere.store.statements import Statement

T = TypeVar("T")

PIECE = 128
"""Rows that :func:`walk` asks for at a time."""


@dataclass(frozen=True, slots=True)
class Change:
    """Run a statement with these values; sends back how many rows it changed.

    ``only``: the write has no other step, so that it is a transaction by itself.
    """

    statement: Statement
    values: Row
    only: bool = False


@dataclass(frozen=True, slots=True)
class ChangeEach:
    """Run a statement once for each row of values, in their order; sends back nothing."""

    statement: Statement
    rows: Sequence[Row]


@dataclass(frozen=True, slots=True)
class Ask:
    """Read within the write; sends back the rows, ``at_most`` so many (None: all of them)."""

    statement: Statement
    values: Row
    at_most: int | None = None


@dataclass(frozen=True, slots=True)
class Alone:
    """From here to the end of the write no other write changes communities, accounts, projects or jobs.

    For a write that looks before it changes something else. It is the first step, or the database may have to undo it.
    """


Step = Change | ChangeEach | Ask | Alone
Steps = Generator[Step, Any, T]
Work = Callable[[], Steps[T]]
"""One write: gives its steps, anew for each time that the database tries. All of them happen or none does."""


class TakenError(Exception):
    """Thrown into a write at its last step: a key of the new row is taken."""


class Database(Protocol):
    """Where the stores of one server keep everything. Belongs to one event loop.

    Raises:
        UnavailableError: it cannot be reached now; try again. Of a write it may then be unknown whether it happened.
        ResourceExhaustedError: its disk is full.
        CorruptedError: it is damaged.
    """

    async def one(self, statement: Statement, *values: str) -> Sequence[Any] | None:
        """The first row, if there is one; the values by their places."""
        ...

    async def all(self, statement: Statement, values: Row) -> Sequence[Any]:
        """Every row."""
        ...

    async def first(self, statement: Statement, values: Row, at_most: int) -> Sequence[Any]:
        """The first rows. The statement's query says that it is one of which not all are wanted (``cut``)."""
        ...

    async def newest(
        self, every: Statement, of_status: Statement, values: Row, statuses: Iterable[JobStatus] | None, at_most: int
    ) -> Sequence[Any]:
        """Rows that begin with a number, the greatest first.

        ``every`` reads those of every status, ``of_status`` those of one: it runs for each of ``statuses``.
        """
        ...

    async def write(self, work: Work[T]) -> T:
        """Carry out the steps of a write and commit; what it returned is durable.

        Raises:
            Exception: what the work raised; what it had done is undone.
        """
        ...

    async def close(self) -> None:
        """Finish what is under way and let go. A repeat does nothing."""
        ...


async def walk(
    rows_before: Callable[[int], Awaitable[Sequence[Any]]], before: int, number_of: Callable[[Any], int]
) -> AsyncGenerator[Any]:
    """Rows by falling numbers, a piece at a time: nothing stays open between two, however long the reader takes.

    Args:
        rows_before: ``await rows_before(number)`` gives the next :data:`PIECE` rows at most below the number.
        before: Where to begin.
        number_of: The number of a row.
    """
    while True:
        rows = await rows_before(before)
        for row in rows:
            yield row
        if len(rows) < PIECE:
            return
        before = number_of(rows[-1])
