"""Connections to PostgreSQL, and what its errors mean to a caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import asyncpg
from asyncpg import exceptions as pg

from jobsphere.domain.errors import (
    CorruptedError,
    InvalidArgumentError,
    JobsphereError,
    ResourceExhaustedError,
    UnavailableError,
)

CONNECT_S = 5
"""How long a connection may take to come about."""
CALL_S = 30.0
"""How long one statement may take: an answer that is not there by then comes from nowhere any more."""
_STATEMENTS = 200
"""Prepared statements that a connection keeps: more than there are."""

LOST = (OSError, TimeoutError, pg.InterfaceError, pg.PostgresConnectionError, pg.OperatorInterventionError)
"""What is raised when the connection, or the server behind it, is gone."""
AGAIN = (pg.TransactionRollbackError, pg.InvalidCachedStatementError)
"""What undoes a write that does well when it is tried anew: two met, or another server changed the schema."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is: a ``postgresql://`` URL, and the password, which it lacks (None: as the driver finds it)."""

    url: str
    password: str | None = field(default=None, repr=False)


async def connect(address: Address, *, statements: int = _STATEMENTS, call_s: float = CALL_S) -> Any:
    """One connection.

    Raises:
        UnavailableError: as :func:`translated` says.
    """
    try:
        return await asyncpg.connect(
            address.url,
            password=address.password,
            timeout=CONNECT_S,
            command_timeout=call_s,
            statement_cache_size=statements,
            server_settings={"application_name": "jobsphere"},
        )
    except (*LOST, asyncpg.PostgresError, ValueError) as error:
        raise translated(error) from error


def pool_of(address: Address, size: int) -> Any:
    """Connections that are made when they are wanted; nothing is made yet."""

    async def as_it_is(_: object) -> None:
        """A transaction leaves nothing behind, and nothing else is ever set: giving back costs no round trip."""

    return asyncpg.create_pool(
        address.url,
        password=address.password,
        min_size=0,
        max_size=size,
        timeout=CONNECT_S,
        command_timeout=CALL_S,
        statement_cache_size=_STATEMENTS,
        server_settings={"application_name": "jobsphere"},
        reset=as_it_is,
    )


def translated(error: BaseException) -> JobsphereError:
    """The driver's error as the caller's: full, damaged, refused, or worth another try."""
    code = getattr(error, "sqlstate", None) or type(error).__name__
    told = {"cause": code, "detail": str(error)}
    match error:
        case pg.DiskFullError():
            return ResourceExhaustedError("the disk of the database is full; make room and try again", **told)
        case pg.DataCorruptedError() | pg.IndexCorruptedError():
            return CorruptedError("the database is damaged; restore it from a backup", **told)
        case pg.StringDataRightTruncationError():
            return InvalidArgumentError("a name or an id is longer than can be stored; shorten it", **told)
        case pg.LockNotAvailableError():
            return UnavailableError("others hold what the schema's migration has to change; start again", **told)
        case pg.ReadOnlySQLTransactionError():
            return UnavailableError("the database takes no writes now: it is a standby; try again", **told)
        case pg.InvalidAuthorizationSpecificationError() | pg.InvalidCatalogNameError():
            return UnavailableError("the database refuses the server's login; ask the operator", **told)
        case _:
            return UnavailableError("the database cannot be reached; try again", **told)
