"""The statements of the store as the drivers take them, text for each database, compiled from ``queries.py``.

Running ready text on the driver itself is an order of magnitude faster than going through an engine each time; what a
query says is still defined in one place and in no dialect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobsphere.store.records import Value


@dataclass(frozen=True, slots=True)
class Text:
    """Text with places (``?`` or ``$1``) and the names of their values, in order."""

    sql: str
    names: tuple[str, ...]

    def bind(self, values: Mapping[str, Value]) -> tuple[Value, ...]:
        """The values by their places; those that the text does not name are left out."""
        return tuple(values[name] for name in self.names)


@dataclass(frozen=True, slots=True)
class Statement(Text):
    """The text for SQLite, and the one for PostgreSQL."""

    postgresql: Text


def _read() -> Iterator[tuple[str, Statement]]:
    for name, of in json.loads(Path(__file__).with_name("statements.json").read_text()).items():
        (sql, names), (other, other_names) = of["sqlite"], of["postgresql"]
        yield name, Statement(sql, tuple(names), Text(other, tuple(other_names)))


COMPILED = dict(_read())

ADD_JOB = COMPILED["ADD_JOB"]
UPDATE_JOB = COMPILED["UPDATE_JOB"]
DELETE_JOB = COMPILED["DELETE_JOB"]
ADD_BLOB = COMPILED["ADD_BLOB"]
DELETE_BLOBS = COMPILED["DELETE_BLOBS"]
ADD_OPERATION = COMPILED["ADD_OPERATION"]
DELETE_OPERATIONS = COMPILED["DELETE_OPERATIONS"]
ADD_PROJECT = COMPILED["ADD_PROJECT"]
HOLD_LEASE = COMPILED["HOLD_LEASE"]
ADD_LEASE = COMPILED["ADD_LEASE"]
LEASE_HOLDER = COMPILED["LEASE_HOLDER"]
RELEASE_LEASE = COMPILED["RELEASE_LEASE"]
VIEW_JOB = COMPILED["VIEW_JOB"]
GET_JOB = COMPILED["GET_JOB"]
PAGE = COMPILED["PAGE"]
PAGE_BY_STATUS = COMPILED["PAGE_BY_STATUS"]
JOBS_LIVE = COMPILED["JOBS_LIVE"]
JOBS_IN = COMPILED["JOBS_IN"]
LIVE_IDS = COMPILED["LIVE_IDS"]
LIVE_PAGE = COMPILED["LIVE_PAGE"]
FIND_JOBS = COMPILED["FIND_JOBS"]
FIND_JOBS_BY_STATUS = COMPILED["FIND_JOBS_BY_STATUS"]
FORKS = COMPILED["FORKS"]
EXPIRED_JOBS = COMPILED["EXPIRED_JOBS"]
JOBS_WITH_DATA = COMPILED["JOBS_WITH_DATA"]
REFERS = COMPILED["REFERS"]
GET_OPERATION = COMPILED["GET_OPERATION"]
GET_PROJECT = COMPILED["GET_PROJECT"]
LIST_PROJECTS = COMPILED["LIST_PROJECTS"]
LIST_PROJECTS_OF = COMPILED["LIST_PROJECTS_OF"]
ADD_RESOURCE = COMPILED["ADD_RESOURCE"]
UPDATE_RESOURCE = COMPILED["UPDATE_RESOURCE"]
DELETE_RESOURCE = COMPILED["DELETE_RESOURCE"]
GET_RESOURCE = COMPILED["GET_RESOURCE"]
FIND_RESOURCE = COMPILED["FIND_RESOURCE"]
LIST_RESOURCES_OF = COMPILED["LIST_RESOURCES_OF"]
LIST_RESOURCES = COMPILED["LIST_RESOURCES"]
COUNT_JOBS = COMPILED["COUNT_JOBS"]
COUNT_QUEUED = COMPILED["COUNT_QUEUED"]
ALL_JOBS = COMPILED["ALL_JOBS"]
ALL_REFERENCES = COMPILED["ALL_REFERENCES"]
ALL_RECORDS = COMPILED["ALL_RECORDS"]
ALL_OF_KIND = COMPILED["ALL_OF_KIND"]
