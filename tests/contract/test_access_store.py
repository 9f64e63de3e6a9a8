"""What the stores of access control promise, asked of all of them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from jobsphere.domain.access import Level, Role, Scope
from jobsphere.domain.access_ports import AccountStore, AuditStore, TeamStore
from jobsphere.domain.accounts import Account, AccountKind, Binding, Credential, Holder
from jobsphere.domain.audit import AuditQuery, AuditRow
from jobsphere.domain.errors import AlreadyExistsError, NotFoundError
from jobsphere.domain.job import Attempt, Job, JobSpec, JobStatus
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import JobStore
from jobsphere.domain.resource import Community, Project
from jobsphere.store.access import SqlAccounts, SqlAudit, SqlTeams
from jobsphere.store.failing_access import Failing
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.memory_access import MemoryAccounts, MemoryTeams
from jobsphere.store.postgres import PostgresJobStore
from jobsphere.store.sqlite import SqliteJobStore

NOW = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
VIEWER = Role(Scope.PROJECT, Level.VIEWER).id
ADMIN = Role(Scope.PROJECT, Level.ADMIN).id
_numbers = count()


@dataclass
class Stores:
    jobs: JobStore
    accounts: AccountStore
    teams: TeamStore
    audit: AuditStore
    path: Path


@pytest.fixture(params=["sqlite", "postgres", "memory", "failing"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    path = tmp_path / "jobsphere.db"
    if request.param in {"sqlite", "postgres"}:
        jobs: SqlJobStore
        if request.param == "sqlite":
            jobs = SqliteJobStore.open(path, lambda job: job.id.encode())
        else:
            jobs = await PostgresJobStore.open(request.getfixturevalue("address"), lambda job: job.id.encode())
        opened = Stores(jobs, jobs.beside(SqlAccounts), jobs.beside(SqlTeams), jobs.beside(SqlAudit), path)
    else:
        memory = MemoryJobStore()
        accounts = MemoryAccounts(memory)
        opened = Stores(memory, accounts, MemoryTeams(memory, accounts), memory.audit, path)
        if request.param == "failing":
            a, t, u = Failing(opened.accounts).store, Failing(opened.teams).store, Failing(opened.audit).store
            opened = Stores(memory, a, t, u, path)
    yield opened
    await opened.jobs.close()


def an_account(name: str = "ann", external_id: str = "", **fields: object) -> Account:
    values: dict[str, object] = {"id": f"id-{name}", "kind": AccountKind.USER, **fields}
    return Account(name=name, created_at=NOW, created_by_id="me", external_id=external_id, **values)  # type: ignore[arg-type]


def a_credential(account: Account, name: str = "laptop") -> tuple[Credential, str]:
    credential = Credential(f"{account.id}-{name}", account.id, name, NOW, NOW + HOUR)
    return credential, hashlib.sha256(credential.id.encode()).hexdigest()


def an_operation(kind: OperationKind, project_id: str = "", community_id: str = "") -> Operation:
    return Operation(f"op{next(_numbers)}", kind, project_id, "", NOW, "me", community_id)


def a_community(name: str = "team") -> Community:
    return Community(f"c-{name}", name, NOW, "me", "what for", (("a", "1"), ("b", "2")), "org", "zone")


def a_project(name: str = "one", community_id: str = "c-team") -> Project:
    labels = (("k", "v"),)
    return Project(f"p-{name}", name, community_id, NOW, "me", "what for", labels, b"\x00settings", b"\xfflimits")


def a_job(status: JobStatus, project_id: str) -> Job:
    job_id = f"job{next(_numbers)}"
    return Job(
        job_id, project_id, "me", NOW, JobSpec(cmd="true"), status=status, attempt=Attempt(f"{job_id}-1", "n", NOW)
    )


async def a_team(stores: Stores) -> tuple[Community, Project, Account]:
    """A community with one project, and an account without roles."""
    community, project, account = a_community(), a_project(), an_account()
    await stores.teams.add_community(community, None)
    await stores.teams.create_project(project, None, None)
    await stores.accounts.add_account(account)
    return community, project, account


# Accounts and tokens.


async def test_an_account_comes_back(stores: Stores) -> None:
    ann, bot = an_account("ann", "sub-1"), an_account("bot", kind=AccountKind.SERVICE_ACCOUNT)
    for account in (ann, bot):
        await stores.accounts.add_account(account)
    assert await stores.accounts.get_account(bot.id) == bot
    assert await stores.accounts.list_accounts() == [ann, bot]
    assert await stores.accounts.account_of("sub-1") == ann
    assert await stores.accounts.account_of("") is None
    assert await stores.accounts.account_of("sub-2") is None
    with pytest.raises(NotFoundError):
        await stores.accounts.get_account("nobody")


async def test_accounts_have_names_of_their_own(stores: Stores) -> None:
    ann = an_account("ann", "sub-1")
    await stores.accounts.add_account(ann)
    for other in (an_account("ann", id="x"), an_account("bob", "sub-1"), an_account("bob", id=ann.id)):
        with pytest.raises(AlreadyExistsError):
            await stores.accounts.add_account(other)
    await stores.accounts.add_account(an_account("bob"))
    await stores.accounts.add_account(an_account("cat"))


async def test_a_token_is_found_by_its_hash_and_its_id_until_it_is_revoked(stores: Stores) -> None:
    ann = an_account()
    await stores.accounts.add_account(ann)
    credential, sha256 = a_credential(ann)
    await stores.accounts.add_credential(credential, sha256)
    assert await stores.accounts.holder(sha256) == Holder(ann, credential)
    assert await stores.accounts.holder_of(credential.id) == Holder(ann, credential)
    assert await stores.accounts.holder("0" * 64) is None
    assert await stores.accounts.remove_credential(credential.id)
    assert await stores.accounts.holder(sha256) is None
    assert await stores.accounts.holder_of(credential.id) is None
    assert not await stores.accounts.remove_credential(credential.id)


async def test_tokens_of_one_account_have_names_of_their_own(stores: Stores) -> None:
    ann, bob = an_account(), an_account("bob")
    for account in (ann, bob):
        await stores.accounts.add_account(account)
        await stores.accounts.add_credential(*a_credential(account))
    with pytest.raises(AlreadyExistsError):
        await stores.accounts.add_credential(replace(a_credential(ann)[0], id="other"), "1" * 64)
    with pytest.raises(NotFoundError):
        await stores.accounts.add_credential(*a_credential(an_account("nobody")))
    assert await stores.accounts.list_credentials(ann.id) == [a_credential(ann)[0]]
    assert len(await stores.accounts.list_credentials()) == 2


async def test_with_an_account_go_its_tokens_and_its_roles(stores: Stores) -> None:
    _, project, ann = await a_team(stores)
    credential, sha256 = a_credential(ann)
    await stores.accounts.add_credential(credential, sha256)
    await stores.accounts.change_bindings(project.id, [Binding(project.id, ann.id, VIEWER)], (), None)
    assert await stores.accounts.remove_account(ann.id)
    assert await stores.accounts.holder(sha256) is None
    assert await stores.accounts.list_accounts() == []
    assert await stores.accounts.bindings_on(project.id) == []
    assert not await stores.accounts.remove_account(ann.id)


# Roles.


async def test_roles_are_given_and_taken(stores: Stores) -> None:
    _, project, ann = await a_team(stores)
    viewer, admin = Binding(project.id, ann.id, VIEWER), Binding(project.id, ann.id, ADMIN)
    operation = an_operation(OperationKind.SET_PROJECT_ACCESS, project.id)
    await stores.accounts.change_bindings(project.id, [viewer, admin, viewer], (), operation)
    assert await stores.accounts.bindings_on(project.id) == [admin, viewer]
    assert await stores.accounts.bindings_of(ann.id) == [admin, viewer]
    assert await stores.jobs.get_operation(operation.id) == operation
    await stores.accounts.change_bindings(project.id, [viewer], [admin, viewer], None)
    assert await stores.accounts.bindings_on(project.id) == [viewer]
    await stores.accounts.change_bindings(project.id, [admin], None, None)
    assert await stores.accounts.bindings_on(project.id) == [admin]


async def test_a_role_for_nobody_changes_nothing(stores: Stores) -> None:
    _, project, ann = await a_team(stores)
    viewer = Binding(project.id, ann.id, VIEWER)
    await stores.accounts.change_bindings(project.id, [viewer], (), None)
    operation = an_operation(OperationKind.SET_PROJECT_ACCESS, project.id)
    with pytest.raises(NotFoundError):
        await stores.accounts.change_bindings(
            project.id, [Binding(project.id, ann.id, ADMIN), Binding(project.id, "nobody", VIEWER)], None, operation
        )
    assert await stores.accounts.bindings_on(project.id) == [viewer]
    with pytest.raises(NotFoundError):
        await stores.jobs.get_operation(operation.id)


# Communities.


async def test_a_community_comes_back_with_its_operation(stores: Stores) -> None:
    first, second = a_community(), replace(a_community("plain"), labels=(), organization_id="", zone_id="")
    operation = an_operation(OperationKind.CREATE_COMMUNITY, community_id=first.id)
    await stores.teams.add_community(first, operation)
    await stores.teams.add_community(second, None)
    assert await stores.teams.get_community(first.id) == first
    assert await stores.teams.list_communities() == [first, second]
    assert await stores.jobs.get_operation(operation.id) == operation
    with pytest.raises(NotFoundError):
        await stores.teams.get_community("none")
    for taken in (replace(first, id="x"), replace(first, name="x")):
        with pytest.raises(AlreadyExistsError):
            await stores.teams.add_community(taken, None)


async def test_a_community_is_changed_if_nobody_was_first(stores: Stores) -> None:
    community = a_community()
    await stores.teams.add_community(community, None)
    await stores.teams.add_community(a_community("other"), None)
    new = replace(community, name="new", labels=())
    operation = an_operation(OperationKind.UPDATE_COMMUNITY, community_id=community.id)
    assert await stores.teams.update_community(new, community, operation)
    assert await stores.teams.get_community(community.id) == new
    assert await stores.jobs.get_operation(operation.id) == operation
    late = an_operation(OperationKind.UPDATE_COMMUNITY, community_id=community.id)
    assert not await stores.teams.update_community(replace(community, name="late"), community, late)
    with pytest.raises(NotFoundError):
        await stores.jobs.get_operation(late.id)
    with pytest.raises(AlreadyExistsError):
        await stores.teams.update_community(replace(new, name="other"), new, late)


async def test_a_community_with_projects_stays(stores: Stores) -> None:
    community, project, ann = await a_team(stores)
    await stores.accounts.change_bindings(community.id, [Binding(community.id, ann.id, VIEWER)], (), None)
    old = an_operation(OperationKind.UPDATE_COMMUNITY, community_id=community.id)
    await stores.jobs.add_operation(old)
    delete = an_operation(OperationKind.DELETE_COMMUNITY, community_id=community.id)
    assert list(await stores.teams.delete_community(community.id, delete)) == [project.name]
    assert await stores.teams.get_community(community.id) == community
    await stores.teams.delete_project(project.id, an_operation(OperationKind.DELETE_PROJECT, project.id))
    assert list(await stores.teams.delete_community(community.id, delete)) == []
    with pytest.raises(NotFoundError):
        await stores.teams.get_community(community.id)
    with pytest.raises(NotFoundError):
        await stores.jobs.get_operation(old.id)
    assert await stores.jobs.get_operation(delete.id) == delete
    assert await stores.accounts.bindings_on(community.id) == []
    with pytest.raises(NotFoundError):
        await stores.teams.delete_community(community.id, an_operation(OperationKind.DELETE_COMMUNITY))


# Projects.


async def test_a_project_is_made_in_a_community_that_is_there(stores: Stores) -> None:
    community, project, ann = await a_team(stores)
    assert await stores.jobs.get_project(project.id) == project
    second = a_project("two")
    operation = an_operation(OperationKind.CREATE_PROJECT, second.id)
    await stores.teams.create_project(second, Binding(second.id, ann.id, ADMIN), operation)
    assert await stores.jobs.list_projects(community.id) == [project, second]
    assert await stores.accounts.bindings_of(ann.id) == [Binding(second.id, ann.id, ADMIN)]
    assert await stores.jobs.get_operation(operation.id) == operation
    with pytest.raises(NotFoundError, match="community"):
        await stores.teams.create_project(a_project("three", "c-none"), None, None)
    with pytest.raises(AlreadyExistsError):
        await stores.teams.create_project(replace(a_project("two"), id="x"), None, None)
    with pytest.raises(NotFoundError):
        await stores.teams.create_project(a_project("four"), Binding("p-four", "nobody", ADMIN), None)
    assert len(await stores.jobs.list_projects()) == 2


async def test_a_project_is_changed_if_nobody_was_first(stores: Stores) -> None:
    _, project, _ = await a_team(stores)
    await stores.teams.create_project(a_project("two"), None, None)
    new = replace(project, name="new", description="", labels=(), settings=b"", limits=b"")
    operation = an_operation(OperationKind.UPDATE_PROJECT, project.id)
    assert await stores.teams.update_project(new, project, operation)
    assert await stores.jobs.get_project(project.id) == new
    assert not await stores.teams.update_project(project, project, an_operation(OperationKind.UPDATE_PROJECT))
    with pytest.raises(AlreadyExistsError):
        await stores.teams.update_project(replace(new, name="two"), new, an_operation(OperationKind.UPDATE_PROJECT))


async def test_a_project_with_live_jobs_stays_and_they_are_named(stores: Stores) -> None:
    _, project, _ = await a_team(stores)
    live, ended = a_job(JobStatus.EXECUTING, project.id), a_job(JobStatus.SUCCESS, project.id)
    for job in (live, ended):
        await stores.jobs.add_job(job, Operation(f"o-{job.id}", OperationKind.CREATE, project.id, job.id, NOW, "me"))
    delete = an_operation(OperationKind.DELETE_PROJECT, project.id)
    removal = await stores.teams.delete_project(project.id, delete)
    assert (removal.live, removal.attempts) == ((live.id,), ())
    assert await stores.jobs.get_job(ended.id) == ended
    with pytest.raises(NotFoundError):
        await stores.jobs.get_operation(delete.id)


async def test_with_a_project_go_its_jobs_operations_references_and_roles(stores: Stores) -> None:
    community, project, ann = await a_team(stores)
    other = a_project("two")
    await stores.teams.create_project(other, None, None)
    gone, stays = a_job(JobStatus.SUCCESS, project.id), a_job(JobStatus.EXECUTING, other.id)
    for job in (gone, stays):
        await stores.jobs.add_job(
            job, Operation(f"o-{job.id}", OperationKind.CREATE, job.project_id, job.id, NOW, "me")
        )
    await stores.accounts.change_bindings(project.id, [Binding(project.id, ann.id, VIEWER)], (), None)
    delete = an_operation(OperationKind.DELETE_PROJECT, project.id)
    removal = await stores.teams.delete_project(project.id, delete)
    assert (removal.live, removal.attempts) == ((), (f"{gone.id}-1",))
    for read in (
        stores.jobs.get_project(project.id), stores.jobs.get_job(gone.id), stores.jobs.get_operation(f"o-{gone.id}")
    ):  # fmt: skip
        with pytest.raises(NotFoundError):
            await read
    assert await stores.accounts.bindings_of(ann.id) == []
    assert await stores.jobs.get_operation(delete.id) == delete
    assert await stores.jobs.get_job(stays.id) == stays
    assert await stores.jobs.list_projects(community.id) == [other]
    with pytest.raises(NotFoundError):
        await stores.teams.delete_project(project.id, an_operation(OperationKind.DELETE_PROJECT, project.id))


# The audit log.


def a_row(action: str, subject: str = "ann", project_id: str = "p1", hours: int = 0) -> AuditRow:
    at = NOW + hours * HOUR
    return AuditRow(at, f"id-{subject}", subject, action, project_id, "job_id=j", "127.0.0.1:1", "OK", "r1")


async def test_rows_come_back_newest_first_with_their_numbers(stores: Stores) -> None:
    rows = [a_row("ProjectJobService/Create"), a_row("ProjectJobService/Cancel", hours=1)]
    for row in rows:
        await stores.audit.append(row)
    assert await stores.audit.find(AuditQuery()) == [replace(rows[1], number=2), replace(rows[0], number=1)]


async def test_a_row_is_stored_with_what_it_tells_of_or_not_at_all(stores: Stores) -> None:
    _, project, _ = await a_team(stores)
    job = a_job(JobStatus.CREATING, project.id)
    await stores.jobs.add_job(job, an_operation(OperationKind.CREATE, project.id), a_row("S/Create"))
    with pytest.raises(AlreadyExistsError):
        await stores.jobs.add_job(job, an_operation(OperationKind.CREATE, project.id), a_row("S/Create"))
    moved = replace(job, version=job.version + 1, status=JobStatus.PREPARING)
    assert await stores.jobs.update_job(moved, job, an_operation(OperationKind.EXECUTE, project.id), a_row("S/Execute"))
    assert not await stores.jobs.update_job(moved, job, None, a_row("S/Cancel"))
    assert [row.action for row in await stores.audit.find(AuditQuery())] == ["S/Execute", "S/Create"]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        (AuditQuery(), [4, 3, 2, 1]),
        (AuditQuery(limit=2), [4, 3]),
        (AuditQuery(project_id="p1"), [3, 2, 1]),
        (AuditQuery(subject="ann"), [4, 2, 1]),
        (AuditQuery(subject="id-bob"), [3]),
        (AuditQuery(since=NOW + HOUR), [4, 3]),
        (AuditQuery(action="*/cancel"), [3, 2]),
        (AuditQuery(project_id="p1", action="*Cancel", limit=1), [3]),
        (AuditQuery(project_id="p1", subject="ann", since=NOW + HOUR), []),
    ],
)
async def test_rows_are_found_by_what_is_asked(stores: Stores, query: AuditQuery, numbers: list[int]) -> None:
    for row in (
        a_row("S/Create"), a_row("S/Cancel"), a_row("S/Cancel", "bob", hours=1), a_row("S/Get", project_id="", hours=2)
    ):  # fmt: skip
        await stores.audit.append(row)
    assert [row.number for row in await stores.audit.find(query)] == numbers


async def test_the_log_is_cut_at_its_old_end_only(stores: Stores) -> None:
    for hours in (0, 1, 5, 2):  # a clock that was set back
        await stores.audit.append(a_row("S/Create", hours=hours))
    assert await stores.audit.cut(NOW) == 0
    assert await stores.audit.cut(NOW + 3 * HOUR) == 2
    assert await stores.audit.cut(NOW + 3 * HOUR) == 0
    await stores.audit.append(a_row("S/Create", hours=9))
    assert [row.number for row in await stores.audit.find(AuditQuery())] == [5, 4, 3]
    while await stores.audit.cut(NOW + 10 * HOUR):
        pass
    await stores.audit.append(a_row("S/Create", hours=9))
    assert len(await stores.audit.find(AuditQuery())) == 1


async def test_the_database_lets_nobody_change_a_row(stores: Stores) -> None:
    await stores.audit.append(a_row("S/Create"))
    await stores.audit.append(replace(a_row("S/Create"), at=datetime.now(UTC)))
    if not stores.path.exists():
        return
    with closing(sqlite3.connect(stores.path)) as connection:
        for statement in (
            "UPDATE audit SET result = 'x'",
            "DELETE FROM audit WHERE seq = 2",
            "DELETE FROM audit",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="only ever added to"):
                connection.execute(statement)
            connection.rollback()
