"""What one query is before it is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.dml import Delete, Insert, Update


@dataclass(frozen=True, slots=True)
class Query:
    """A query and, for one that writes, the columns that it sets."""

    body: Select[Any] | Insert | Update | Delete
    columns: Sequence[str] | None = None

    def compiled(self) -> tuple[str, list[str]]:
        """The text for SQLite and the names of its values in order."""
        text: Any = self.body.compile(dialect=sqlite.dialect(), column_keys=self.columns)
        return " ".join(str(text).split()), list(text.positiontup or ())


def names(*table_columns: Any) -> list[str]:
    """The columns that a new row brings: all but the one that the database gives."""
    return [column.name for column in table_columns if column.name != "seq"]
