"""The statements of the store as the driver takes them: text for SQLite, compiled beforehand from ``queries.py``.

Running ready text on the driver itself is an order of magnitude faster than going through an engine each time; what a
query says is still defined in one place and in no dialect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobsphere.store.records import Value


@dataclass(frozen=True, slots=True)
class Statement:
    """Text with ``?`` places and the names of their values, in order."""

    sql: str
    names: tuple[str, ...]

    def bind(self, values: Mapping[str, Value]) -> tuple[Value, ...]:
        """The values by their places; those that the statement does not name are left out."""
        return tuple(values[name] for name in self.names)


_FILE = Path(__file__).with_name("statements.json")
_COMPILED = {name: Statement(sql, tuple(names)) for name, (sql, names) in json.loads(_FILE.read_text()).items()}

ADD_JOB = _COMPILED["ADD_JOB"]
UPDATE_JOB = _COMPILED["UPDATE_JOB"]
DELETE_JOB = _COMPILED["DELETE_JOB"]
ADD_BLOB = _COMPILED["ADD_BLOB"]
DELETE_BLOBS = _COMPILED["DELETE_BLOBS"]
ADD_OPERATION = _COMPILED["ADD_OPERATION"]
DELETE_OPERATIONS = _COMPILED["DELETE_OPERATIONS"]
ADD_PROJECT = _COMPILED["ADD_PROJECT"]
VIEW_JOB = _COMPILED["VIEW_JOB"]
GET_JOB = _COMPILED["GET_JOB"]
PAGE = _COMPILED["PAGE"]
PAGE_BY_STATUS = _COMPILED["PAGE_BY_STATUS"]
JOBS_LIVE = _COMPILED["JOBS_LIVE"]
JOBS_IN = _COMPILED["JOBS_IN"]
EXPIRED_JOBS = _COMPILED["EXPIRED_JOBS"]
JOBS_WITH_DATA = _COMPILED["JOBS_WITH_DATA"]
REFERS = _COMPILED["REFERS"]
GET_OPERATION = _COMPILED["GET_OPERATION"]
GET_PROJECT = _COMPILED["GET_PROJECT"]
LIST_PROJECTS = _COMPILED["LIST_PROJECTS"]
LIST_PROJECTS_OF = _COMPILED["LIST_PROJECTS_OF"]
ADD_RESOURCE = _COMPILED["ADD_RESOURCE"]
UPDATE_RESOURCE = _COMPILED["UPDATE_RESOURCE"]
DELETE_RESOURCE = _COMPILED["DELETE_RESOURCE"]
GET_RESOURCE = _COMPILED["GET_RESOURCE"]
FIND_RESOURCE = _COMPILED["FIND_RESOURCE"]
LIST_RESOURCES_OF = _COMPILED["LIST_RESOURCES_OF"]
LIST_RESOURCES = _COMPILED["LIST_RESOURCES"]
