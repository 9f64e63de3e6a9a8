"""Resources in the store: in a database beside the jobs, in memory, and the form in which they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from jobsphere.domain.errors import AlreadyExistsError, CorruptedError, NotFoundError
from jobsphere.domain.resources import B, Resource
from jobsphere.store import statements as sql
from jobsphere.store.database import Change, Database, Steps, Work
from jobsphere.store.records import Row, from_micros, to_micros
from jobsphere.store.statements import Statement
from jobsphere.store.writes import add_row


class SqlResourceStore:
    """:class:`jobsphere.domain.resource_ports.ResourceStore` in the database of the store of jobs.

    Opened and closed with that one: see :attr:`jobsphere.store.jobs.SqlJobStore.resources`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_resource(self, resource: Resource[B]) -> None:
        """See the port."""
        await self._database.write(_add(_row(resource), _taken(resource)))

    async def update_resource(self, new: Resource[B], was: Resource[B]) -> bool:
        """See the port."""
        return await self._database.write(_change(sql.UPDATE_RESOURCE, _row(new) | _guard(was)))

    async def delete_resource(self, was: Resource[B]) -> bool:
        """See the port."""
        return await self._database.write(_change(sql.DELETE_RESOURCE, _guard(was)))

    async def get_resource(self, kind: type[B], resource_id: str) -> Resource[B]:
        """See the port."""
        for row in await self._database.all(sql.GET_RESOURCE, {"id": resource_id, "kind": kind.KIND}):
            return load_resource(kind, row)
        raise _no_id(kind, resource_id)

    async def find_resource(self, kind: type[B], project_id: str, name: str) -> Resource[B]:
        """See the port."""
        for row in await self._database.all(
            sql.FIND_RESOURCE, {"project_id": project_id, "kind": kind.KIND, "name": name}
        ):
            return load_resource(kind, row)
        raise _no_name(kind, project_id, name)

    async def list_resources(self, kind: type[B], project_id: str | None = None) -> Sequence[Resource[B]]:
        """See the port."""
        if project_id is None:
            rows = await self._database.all(sql.LIST_RESOURCES, {"kind": kind.KIND})
        else:
            rows = await self._database.all(sql.LIST_RESOURCES_OF, {"kind": kind.KIND, "project_id": project_id})
        return [load_resource(kind, row) for row in rows]


class MemoryResourceStore:
    """:class:`jobsphere.domain.resource_ports.ResourceStore` that forgets."""

    def __init__(self) -> None:
        self._resources: dict[str, Resource[Any]] = {}

    async def add_resource(self, resource: Resource[B]) -> None:
        """See the port."""
        if resource.id in self._resources or any(_key(r) == _key(resource) for r in self._resources.values()):
            raise AlreadyExistsError(_taken(resource))
        self._resources[resource.id] = resource

    async def update_resource(self, new: Resource[B], was: Resource[B]) -> bool:
        """See the port."""
        if not self._is_same(was):
            return False
        self._resources[was.id] = new
        return True

    async def delete_resource(self, was: Resource[B]) -> bool:
        """See the port."""
        if not self._is_same(was):
            return False
        del self._resources[was.id]
        return True

    async def get_resource(self, kind: type[B], resource_id: str) -> Resource[B]:
        """See the port."""
        found = self._resources.get(resource_id)
        if found is None or not isinstance(found.body, kind):
            raise _no_id(kind, resource_id)
        return found

    async def find_resource(self, kind: type[B], project_id: str, name: str) -> Resource[B]:
        """See the port."""
        for resource in await self.list_resources(kind, project_id):
            if resource.name == name:
                return resource
        raise _no_name(kind, project_id, name)

    async def list_resources(self, kind: type[B], project_id: str | None = None) -> Sequence[Resource[B]]:
        """See the port."""
        of_kind = [r for r in self._resources.values() if isinstance(r.body, kind)]
        return [r for r in of_kind if project_id in {None, r.project_id}]

    def _is_same(self, was: Resource[B]) -> bool:
        stored = self._resources.get(was.id)
        return stored is not None and (_key(stored), stored.version) == (_key(was), was.version)


def _key(resource: Resource[Any]) -> tuple[str, str, str]:
    return resource.project_id, resource.body.KIND, resource.name


def _row(resource: Resource[B]) -> Row:
    return {
        "id": resource.id,
        "project_id": resource.project_id,
        "kind": resource.body.KIND,
        "name": resource.name,
        "created_at": to_micros(resource.created_at),
        "created_by_id": resource.created_by_id,
        "version": resource.version,
        "body": _adapter(type(resource.body)).dump_json(resource.body),
    }


def _guard(was: Resource[B]) -> Row:
    return {"was_id": was.id, "was_kind": was.body.KIND, "was_version": was.version}


def load_resource(kind: type[B], row: Sequence[Any]) -> Resource[B]:
    """The resource of a row.

    Raises:
        CorruptedError: its body is none. The text does not show it: it may hold a secret.
    """
    resource_id, project_id, name, created_at, created_by_id, version, body = row
    try:
        value = _adapter(kind).validate_json(body)
    except ValidationError as error:
        where = [".".join(map(str, detail["loc"])) for detail in error.errors(include_input=False)]
    else:
        return Resource(resource_id, project_id, name, from_micros(created_at), created_by_id, value, version)
    raise CorruptedError(f"the stored record of {kind.KIND} {resource_id} cannot be read", fields=where)


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _add(row: Row, taken: str) -> Work[None]:
    return lambda: add_row(sql.ADD_RESOURCE, row, taken, only=True)


def _change(statement: Statement, values: Row) -> Work[bool]:
    def work() -> Steps[bool]:
        return (yield Change(statement, values, only=True)) > 0

    return work


def _taken(resource: Resource[B]) -> str:
    return f"the project has the {resource.body.KIND} {resource.name!r} already"


def _no_id(kind: type[B], resource_id: str) -> NotFoundError:
    return NotFoundError(f"there is no {kind.KIND} {resource_id!r}")


def _no_name(kind: type[B], project_id: str, name: str) -> NotFoundError:
    return NotFoundError(f"the project {project_id} has no {kind.KIND} {name!r}")
