"""Projects and communities, and who has which role on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.world import COMMUNITY, NOW, PROJECT, WHO, World, a_file, a_spec, attempt, chunks

from jobsphere.domain.access import Scope
from jobsphere.domain.accounts import Account, AccountKind
from jobsphere.domain.attempt import LogFrame, LogStream, Started
from jobsphere.domain.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from jobsphere.domain.job import JobStatus
from jobsphere.domain.operation import OperationKind
from jobsphere.domain.resource import Subject
from jobsphere.service.grants import Grant

LABELS = (("team", "vision"),)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


async def a_member(world: World, name: str = "bob", role: str = "", scope: Scope = Scope.PROJECT) -> Subject:
    """A new user, perhaps with a role on the project or its community."""
    account = Account(f"id-{name}", name, AccountKind.USER, NOW, WHO.id)
    await world.accounts.add_account(account)
    if role:
        resource_id = PROJECT if scope is Scope.PROJECT else COMMUNITY
        await world.grants.update(WHO, scope, resource_id, [Grant(role, account.id)], [])
    return Subject(account.id, name)


async def test_projects_are_paged_and_filtered(world: World) -> None:
    for name in ("alpha", "beta", "alphabet"):
        await world.projects.create(WHO, name)

    first, token = await world.projects.page(WHO, COMMUNITY, page_size=3)
    rest, end = await world.projects.page(WHO, COMMUNITY, page_size=3, page_token=token)
    assert [p.name for p in [*first, *rest]] == ["default", "alpha", "beta", "alphabet"]
    assert end == ""
    named, _ = await world.projects.page(WHO, COMMUNITY, name_pattern="alpha*")
    assert [p.name for p in named] == ["alpha", "alphabet"]
    assert (await world.projects.page(WHO, COMMUNITY, owned_by_id="bob"))[0] == []
    for bad in ({"community_id": ""}, {"community_id": "c", "page_size": -1}, {"community_id": "c", "page_token": "x"}):
        with pytest.raises(InvalidArgumentError):
            await world.projects.page(WHO, **bad)  # type: ignore[arg-type]


async def test_a_project_has_a_name_of_its_own(world: World) -> None:
    await world.projects.create(WHO, "one")

    with pytest.raises(AlreadyExistsError):
        await world.projects.create(WHO, "one")
    for bad in ("", "Big", "-x", "x-", "a" * 64, "sp ace"):
        with pytest.raises(InvalidArgumentError):
            await world.projects.create(WHO, bad)
    assert (await world.projects.ensure_default(WHO)).name == "default"


async def test_a_new_server_has_a_community_with_a_project(tmp_path: Path) -> None:
    world = World(tmp_path)
    project = await world.projects.ensure_default(WHO)
    assert (await world.communities.get(WHO, project.community_id)).name == "default"
    assert await world.projects.ensure_default(WHO) == project


async def test_who_makes_a_project_is_its_admin_at_once(world: World) -> None:
    bob = await a_member(world, role="developer", scope=Scope.COMMUNITY)
    assert [p.id for p in (await world.projects.page(bob, COMMUNITY))[0]] == [PROJECT]
    project, operation = await world.projects.create(bob, "mine", "what for", COMMUNITY, LABELS, b"s", b"l")
    assert (operation.kind, operation.project_id, operation.created_by) == (
        OperationKind.CREATE_PROJECT, project.id, bob.id
    )  # fmt: skip
    assert await world.projects.get(bob, project.id) == project
    assert (project.labels, project.settings, project.limits) == (LABELS, b"s", b"l")
    ((binding, account),) = (await world.grants.page(bob, Scope.PROJECT, project.id))[0]
    assert (binding.role_id, account.id) == ("datasphere.community-projects.admin", bob.id)
    await world.projects.update(bob, project.id, lambda p: replace(p, description="of bob"))
    with pytest.raises(PermissionDeniedError, match=r"datasphere\.community-projects\.editor"):
        await world.projects.delete(bob, PROJECT)
    with pytest.raises(InvalidArgumentError, match="community_id"):
        await world.projects.create(bob, "other")


async def test_a_change_is_made_on_what_is_stored(world: World) -> None:
    before = await world.projects.get(WHO, PROJECT)
    edits: list[str] = []

    def edit(project):  # type: ignore[no-untyped-def]
        edits.append(project.description)
        return replace(project, description=f"{project.description}+", labels=LABELS)

    world.failing_teams.fail("update_project")
    with pytest.raises(Exception, match="before it took effect"):
        await world.projects.update(WHO, PROJECT, edit)
    project, operation = await world.projects.update(WHO, PROJECT, edit)
    assert edits == ["", ""]
    assert (project.description, project.labels, project.created_at) == ("+", LABELS, before.created_at)
    assert operation.kind is OperationKind.UPDATE_PROJECT
    for bad in (
        {"name": "Not One"},
        {"description": "x" * 1001},
        {"labels": (("", "x"),)},
        {"settings": b"x" * 70_000},
    ):
        with pytest.raises(InvalidArgumentError):
            await world.projects.update(WHO, PROJECT, lambda p, bad=bad: replace(p, **bad))  # type: ignore[misc]


async def test_a_project_with_live_jobs_is_not_deleted_and_they_are_named(world: World) -> None:
    job = await world.running()
    with pytest.raises(FailedPreconditionError, match=job.id):
        await world.projects.delete(WHO, PROJECT)
    assert await world.projects.get(WHO, PROJECT)


async def test_with_a_project_go_its_jobs_and_their_files(world: World) -> None:
    content = b"input"
    file = a_file("in", content)
    job = await world.created(a_spec(input_files=(file,)))
    await world.blobs.receive(PROJECT, file.sha256, len(content), chunks(content))
    await world.jobs.execute(WHO, job.id)
    await world.reconcile(job)
    await world.runner.become(attempt(job), Started(world.clock.now()))
    await world.reconcile(job)
    await world.ends(job)
    assert (await world.reconcile(job)).status is JobStatus.SUCCESS
    left = await world.created()
    operation = await world.projects.delete(WHO, PROJECT)
    for gone in (job, left):
        with pytest.raises(NotFoundError):
            await world.store.get_job(gone.id)
    assert await world.blobs.projects() == []
    assert not (await world.runner.observe(attempt(job))).known
    assert (await world.jobs.operations.get(WHO, operation.id)).done
    with pytest.raises(NotFoundError):
        await world.projects.get(WHO, PROJECT)


async def test_a_job_that_is_stored_while_its_project_goes_goes_too(world: World) -> None:
    add_job = world.store.add_job

    async def late(*what):  # type: ignore[no-untyped-def]
        await world.projects.delete(WHO, PROJECT)
        await add_job(*what)

    world.store.add_job = late  # type: ignore[method-assign]
    with pytest.raises(NotFoundError, match="project"):
        await world.created()
    assert (await world.store.page_jobs(PROJECT, None, 10, "")).views == ()


async def test_bytes_of_projects_that_are_gone_are_swept(world: World) -> None:
    content = b"late"
    file = a_file("in", content)
    await world.blobs.receive("g" * 20, file.sha256, len(content), chunks(content))
    await world.data.sweep()
    assert await world.blobs.projects() == []


async def test_communities_are_the_operators_to_make(world: World) -> None:
    bob = await a_member(world, role="admin", scope=Scope.COMMUNITY)
    with pytest.raises(PermissionDeniedError, match="jobsphere community create"):
        await world.communities.create(bob, "mine")
    community, operation = await world.communities.create(WHO, "Cat lovers", "of cats", LABELS, "org", "zone")
    assert (operation.kind, operation.community_id) == (OperationKind.CREATE_COMMUNITY, community.id)
    assert await world.communities.get(WHO, community.id) == community
    with pytest.raises(NotFoundError):
        await world.communities.get(bob, community.id)
    assert [c.name for c in (await world.communities.page(WHO))[0]] == ["default", "Cat lovers"]
    assert [c.name for c in (await world.communities.page(bob))[0]] == ["default"]
    assert [c.name for c in (await world.communities.page(WHO, pattern="of*"))[0]] == ["Cat lovers"]
    assert [c.name for c in (await world.communities.page(WHO, organization_id="org"))[0]] == ["Cat lovers"]
    for bad in ("", " x", "x" * 64, "a\nb"):
        with pytest.raises(InvalidArgumentError, match="name"):
            await world.communities.create(WHO, bad)


async def test_a_community_is_changed_and_deleted_without_projects(world: World) -> None:
    ed = await a_member(world, "ed", "editor", Scope.COMMUNITY)
    community, _ = await world.communities.update(ed, COMMUNITY, lambda c: replace(c, name="renamed"))
    assert community.name == "renamed"
    with pytest.raises(FailedPreconditionError, match="default"):
        await world.communities.delete(ed, COMMUNITY)
    await world.projects.delete(ed, PROJECT)
    operation = await world.communities.delete(ed, COMMUNITY)
    assert (await world.jobs.operations.get(ed, operation.id)).done
    with pytest.raises(NotFoundError):
        await world.jobs.operations.get(await a_member(world, "eve"), operation.id)


async def test_roles_count_at_once_where_they_are_given_and_taken(world: World) -> None:
    bob = await a_member(world)
    for scope, resource_id in ((Scope.PROJECT, PROJECT), (Scope.COMMUNITY, COMMUNITY)):
        with pytest.raises(NotFoundError):
            await world.projects.get(bob, PROJECT)
        await world.grants.update(WHO, scope, resource_id, [Grant("viewer", bob.id)], [])
        assert await world.projects.get(bob, PROJECT)
        await world.grants.replace(WHO, scope, resource_id, [])
    with pytest.raises(NotFoundError):
        await world.projects.get(bob, PROJECT)


async def test_a_log_that_is_followed_ends_with_the_role(world: World) -> None:
    job = await world.running()
    bob = await a_member(world, role="viewer")
    await world.runner.write(attempt(job), LogFrame(LogStream.OUT, 1, b"one\n"))
    stream = world.logs.stream(bob, job.id, 0)
    assert (await anext(stream)).frames[0].content == b"one\n"
    await world.grants.replace(WHO, Scope.PROJECT, PROJECT, [])
    await world.runner.write(attempt(job), LogFrame(LogStream.OUT, 1, b"two\n"))
    with pytest.raises(NotFoundError, match=f"there is no job '{job.id}'"):
        await anext(stream)


async def test_a_change_by_another_process_counts_within_a_second(world: World) -> None:
    bob = await a_member(world, role="viewer")
    assert await world.projects.get(bob, PROJECT)
    await world.accounts.change_bindings(PROJECT, [], None, None)
    assert await world.projects.get(bob, PROJECT)
    world.seconds += 1
    with pytest.raises(NotFoundError):
        await world.projects.get(bob, PROJECT)


@pytest.mark.parametrize(
    ("grant", "scope", "words"),
    [
        (Grant("owner", "id-bob"), Scope.PROJECT, "developer"),
        (Grant("datasphere.communities.viewer", "id-bob"), Scope.PROJECT, "community-projects.viewer"),
        (Grant("viewer", "nobody"), Scope.PROJECT, "jobsphere user list"),
        (Grant("viewer", "id-bob", "serviceAccount"), Scope.PROJECT, "no serviceAccount"),
        (Grant("viewer", "allUsers", "system"), Scope.COMMUNITY, "federatedUser"),
    ],
)
async def test_a_role_that_cannot_be_is_refused(world: World, grant: Grant, scope: Scope, words: str) -> None:
    await a_member(world)
    resource_id = PROJECT if scope is Scope.PROJECT else COMMUNITY
    with pytest.raises(InvalidArgumentError, match=words):
        await world.grants.update(WHO, scope, resource_id, [grant], [])


async def test_the_hot_read_looks_up_nothing_more_for_the_operator_and_little_for_others(world: World) -> None:
    job = await world.created()
    bob = await a_member(world, role="viewer")
    await world.jobs.get_view(bob, job.id)
    world.store.calls.clear()
    for who in (WHO, bob):
        await world.jobs.get_view(who, job.id)
    assert world.store.calls == {"view_job": 2}
