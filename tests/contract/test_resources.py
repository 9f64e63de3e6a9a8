"""What every ResourceStore promises, asked of all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from jobsphere.domain.errors import AlreadyExistsError, CorruptedError, NotFoundError
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.resource import Community, Project
from jobsphere.domain.resource_ports import ResourceStore
from jobsphere.domain.resources import Resource, Secret
from jobsphere.store.access import SqlTeams
from jobsphere.store.failing import FailingResourceStore
from jobsphere.store.postgres import PostgresJobStore
from jobsphere.store.resources import MemoryResourceStore
from jobsphere.store.sqlite import SqliteJobStore

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
_numbers = count()


@pytest.fixture(params=["sqlite", "postgres", "memory", "failing"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ResourceStore]:
    match request.param:
        case "sqlite":
            opened = SqliteJobStore.open(tmp_path / "jobsphere.db", lambda _: b"")
            yield opened.resources
            await opened.close()
        case "postgres":
            other = await PostgresJobStore.open(request.getfixturevalue("address"), lambda _: b"")
            yield other.resources
            await other.close()
        case "memory":
            yield MemoryResourceStore()
        case _:
            yield FailingResourceStore(MemoryResourceStore())


def a_secret(name: str = "TOKEN", project_id: str = "p1", **fields: object) -> Resource[Secret]:
    body = Secret(sealed=f"sealed {next(_numbers)}", updated_at=NOW)
    return Resource(**{"id": f"r{next(_numbers)}", "project_id": project_id, "name": name, "created_at": NOW,
                       "created_by_id": "me", "body": body, **fields})  # fmt: skip


def moved(resource: Resource[Secret], sealed: str) -> Resource[Secret]:
    body = replace(resource.body, sealed=sealed, updated_at=NOW + timedelta(hours=1))
    return replace(resource, body=body, version=resource.version + 1)


async def test_a_resource_comes_back_by_id_and_by_name(store: ResourceStore) -> None:
    secret = a_secret()
    await store.add_resource(secret)
    assert await store.get_resource(Secret, secret.id) == secret
    assert await store.find_resource(Secret, "p1", "TOKEN") == secret


async def test_what_is_not_there_is_not_found(store: ResourceStore) -> None:
    await store.add_resource(a_secret())
    with pytest.raises(NotFoundError, match="there is no secret 'nothing'"):
        await store.get_resource(Secret, "nothing")
    for project, name in (("p1", "OTHER"), ("p2", "TOKEN")):
        with pytest.raises(NotFoundError, match=f"{project} has no secret '{name}'"):
            await store.find_resource(Secret, project, name)


async def test_lists_are_of_one_project_or_of_all_oldest_first(store: ResourceStore) -> None:
    secrets = [a_secret("Z"), a_secret("A"), a_secret("A", "p2")]
    for secret in secrets:
        await store.add_resource(secret)
    assert await store.list_resources(Secret, "p1") == secrets[:2]
    assert await store.list_resources(Secret, "p3") == []
    assert await store.list_resources(Secret) == secrets


async def test_a_project_has_one_of_a_name_and_an_id_is_taken_once(store: ResourceStore) -> None:
    first = a_secret()
    await store.add_resource(first)
    for second in (a_secret(), a_secret("OTHER", id=first.id)):
        with pytest.raises(AlreadyExistsError):
            await store.add_resource(second)
    assert await store.list_resources(Secret) == [first]


async def test_a_change_is_guarded_by_the_version(store: ResourceStore) -> None:
    first = a_secret()
    await store.add_resource(first)
    second = moved(first, "new")
    assert await store.update_resource(second, first)
    assert not await store.update_resource(moved(first, "late"), first)
    assert not await store.delete_resource(first)
    assert await store.get_resource(Secret, first.id) == second
    assert await store.delete_resource(second)
    assert not await store.delete_resource(second)
    assert not await store.update_resource(moved(second, "late"), second)
    assert await store.list_resources(Secret) == []
    await store.add_resource(a_secret())


async def test_of_many_changes_of_one_state_exactly_one_wins(store: ResourceStore) -> None:
    first = a_secret()
    await store.add_resource(first)
    candidates = [moved(first, f"by {i}") for i in range(50)]
    won = await asyncio.gather(*(store.update_resource(new, first) for new in candidates))
    assert sum(won) == 1
    assert await store.get_resource(Secret, first.id) == candidates[won.index(True)]


async def test_a_record_that_cannot_be_read_is_told_without_its_content(tmp_path: Path) -> None:
    opened = SqliteJobStore.open(tmp_path / "jobsphere.db", lambda _: b"")
    secret = a_secret()
    await opened.resources.add_resource(secret)

    def spoil(connection) -> None:
        connection.execute("""UPDATE resources SET body = '{"sealed": ["planted"]}'""")

    await opened._writer.write(spoil)
    with pytest.raises(CorruptedError) as caught:
        await opened.resources.get_resource(Secret, secret.id)
    assert "planted" not in f"{caught.value} {caught.value.context} {caught.value.__context__}"
    await opened.close()


async def test_a_deleted_project_takes_its_resources_along(tmp_path: Path) -> None:
    opened = SqliteJobStore.open(tmp_path / "jobsphere.db", lambda _: b"")
    teams = opened.beside(SqlTeams)
    await teams.add_community(Community("c1", "default", NOW, "me"), None)
    for project_id in ("p1", "p2"):
        await teams.create_project(Project(project_id, project_id, "c1", NOW, "me"), None, None)
        await opened.resources.add_resource(a_secret(project_id=project_id))
    await teams.delete_project("p1", Operation("op", OperationKind.DELETE_PROJECT, "p1", "", NOW, "me"))
    assert [secret.project_id for secret in await opened.resources.list_resources(Secret)] == ["p2"]
    await opened.close()
