"""What one query is before it is compiled, for each database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Select, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.dml import Delete, Insert, Update
from sqlalchemy.sql.functions import FunctionElement

AT_MOST = "at_most"


class now_micros(FunctionElement[int]):  # noqa: N801  a function of SQL
    """The database's own clock, in microseconds since the epoch."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_micros, "sqlite")
def _sqlite_now(*_: Any, **__: Any) -> str:
    return "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"


@compiles(now_micros, "postgresql")
def _postgresql_now(*_: Any, **__: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"


_DIALECTS: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}


@dataclass(frozen=True, slots=True)
class Query:
    """A query and, for one that writes, the columns that it sets.

    ``unless_there``: a row whose key is there already is left out. ``cut``: not all rows are wanted. SQLite makes
    them as they are fetched; PostgreSQL is told how many, by the value :data:`AT_MOST` (null for all).
    ``values``: of such a row, where they are more than its columns' names.
    """

    body: Select[Any] | Insert | Update | Delete
    columns: Sequence[str] | None = None
    unless_there: bool = False
    cut: bool = False
    values: Mapping[str, Any] | None = None

    def compiled(self) -> dict[str, tuple[str, list[str]]]:
        """By dialect, the text and the names of its values in order."""
        return {
            "sqlite": _compile(self._body("sqlite"), sqlite.dialect(), self.columns),
            "postgresql": _compile(self._body("postgresql"), PGDialect_asyncpg(), self.columns),
        }

    def _body(self, dialect: str) -> Any:
        body: Any = self.body
        if self.unless_there:
            rows = _DIALECTS[dialect].insert(body.table)
            return (rows.values(self.values) if self.values else rows).on_conflict_do_nothing()
        if isinstance(body, Insert):
            return body.inline()  # nobody asks for the number that the database gives
        return body.limit(bindparam(AT_MOST)) if self.cut and dialect == "postgresql" else body


def _compile(body: Any, dialect: Any, columns: Sequence[str] | None) -> tuple[str, list[str]]:
    text: Any = body.compile(dialect=dialect, column_keys=columns)
    return " ".join(str(text).split()), list(text.positiontup or ())


def names(*table_columns: Any) -> list[str]:
    """The columns that a new row brings: all but the one that the database gives."""
    return [column.name for column in table_columns if column.name != "seq"]
