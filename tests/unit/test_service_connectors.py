"""S3 connectors of projects: what is accepted, what jobs get of them, and when one may go."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.world import NOW, PROJECT, WHO, World, a_spec, attempt

from jobsphere.domain.attempt import S3Mount
from jobsphere.domain.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError, NotFoundError
from jobsphere.domain.job import JobStatus, Phase
from jobsphere.domain.resource import Project
from jobsphere.domain.resources import S3Connector

OTHER = "q" * 20
BODY = S3Connector("team-data", "http://127.0.0.1:9", "r1", "a/b", "AK", "SK", read_only=False)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = await World(tmp_path).open()
    for name in ("AK", "SK"):
        await world.secrets.set(WHO, PROJECT, name, f"value-of-{name}")
    return world


async def test_a_job_gets_its_keys_sealed_and_finds_it_by_its_id(world: World) -> None:
    connector = await world.connectors.add(WHO, PROJECT, "team", BODY)
    assert connector.body == BODY
    job = await world.reconcile(await world.executed(a_spec(s3_mount_ids=(connector.id,))))
    plan = world.runner.held[attempt(job)].plan
    place = f"s3/{connector.id}"
    assert plan.locations == ((connector.id, place),)
    (mount,) = plan.s3_mounts
    keys = mount.access_key_sealed, mount.secret_key_sealed
    assert [world.sealer.open(PROJECT, key) for key in keys] == ["value-of-AK", "value-of-SK"]
    assert mount == S3Mount(
        connector.id, "team", place, "team-data", "http://127.0.0.1:9", "r1", "a/b", *keys, read_only=False
    )
    assert keys[1] not in repr(mount)


async def test_without_keys_there_are_none(world: World) -> None:
    connector = await world.connectors.add(WHO, PROJECT, "open", S3Connector("public"))
    job = await world.reconcile(await world.executed(a_spec(s3_mount_ids=(connector.id,))))
    (mount,) = world.runner.held[attempt(job)].plan.s3_mounts
    assert (mount.access_key_sealed, mount.read_only) == ("", True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"bucket": "a/b"}, "bucket: 'a/b' is not the name of one"),
        ({"endpoint": "127.0.0.1:9"}, "endpoint: is not written as"),
        ({"endpoint": "http://user:planted@host"}, "endpoint: is not written as"),
        ({"prefix": "/a"}, "prefix: is not written as"),
        ({"prefix": "a/../b"}, "prefix: is not written as"),
        ({"secret_key_secret": ""}, "go together"),
    ],
)
async def test_what_cannot_be_is_refused(world: World, change: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        await world.connectors.add(WHO, PROJECT, "team", replace(BODY, **change))
    assert "planted" not in str(caught.value)


async def test_keys_and_names_must_fit(world: World) -> None:
    await world.connectors.add(WHO, PROJECT, "team", BODY)
    with pytest.raises(AlreadyExistsError, match="has the S3 connector 'team' already"):
        await world.connectors.add(WHO, PROJECT, "team", BODY)
    with pytest.raises(InvalidArgumentError, match="name: 'a b'"):
        await world.connectors.add(WHO, PROJECT, "a b", BODY)
    with pytest.raises(FailedPreconditionError, match="secret_key_secret: the project has no secret 'X'; set it"):
        await world.connectors.add(WHO, PROJECT, "other", replace(BODY, secret_key_secret="X"))
    with pytest.raises(FailedPreconditionError, match="secret 'SK' is named by the S3 connector 'team'; delete that"):
        await world.secrets.delete(WHO, PROJECT, "SK")


async def test_one_of_another_project_or_none_is_refused_at_create(world: World) -> None:
    await world.teams.create_project(Project(OTHER, "other", "c" * 20, NOW, WHO.id), None, None)
    theirs = await world.connectors.add(WHO, OTHER, "theirs", S3Connector("public"))
    for connector_id in (theirs.id, "d" * 20):
        with pytest.raises(FailedPreconditionError, match=f"no S3 connector '{connector_id}'; `jobsphere s3 list`"):
            await world.created(a_spec(s3_mount_ids=(connector_id,)))


async def test_a_used_one_stays_and_one_that_is_gone_at_the_launch_fails_the_job(world: World) -> None:
    connector = await world.connectors.add(WHO, PROJECT, "team", BODY)
    spec = a_spec(s3_mount_ids=(connector.id,))
    waiting = await world.created(spec)
    running = await world.running(spec)
    with pytest.raises(FailedPreconditionError, match=rf"S3 connector 'team' is in use by: job \({running.id}\)"):
        await world.connectors.delete(WHO, PROJECT, "team")
    await world.ends(running)
    await world.reconcile(running)
    await world.connectors.delete(WHO, PROJECT, "team")
    await world.jobs.execute(WHO, waiting.id)
    waiting = await world.reconcile(waiting)
    assert (waiting.status, waiting.failure and waiting.failure.phase) == (JobStatus.ERROR, Phase.STAGE)


async def test_one_that_is_not_active_is_given_to_no_job(world: World) -> None:
    connector = await world.connectors.add(WHO, PROJECT, "team", BODY)
    for _ in range(2):
        operation = await world.connectors.deactivate(WHO, PROJECT, connector.id)
        assert (await world.jobs.operations.get(WHO, operation.id)).done
    with pytest.raises(
        FailedPreconditionError, match=r"'team' is not active; `jobsphere s3 activate team --project p+`"
    ):
        await world.executed(a_spec(s3_mount_ids=(connector.id,)))
    changed = await world.connectors.set(WHO, PROJECT, "team", replace(BODY, prefix="c"))
    assert (changed.id, changed.body.active) == (connector.id, False)
    await world.connectors.activate(WHO, PROJECT, "team")
    assert (await world.connectors.find(WHO, PROJECT, "team")).body == replace(BODY, prefix="c")
    job = await world.executed(a_spec(s3_mount_ids=(connector.id,)))
    with pytest.raises(FailedPreconditionError, match=f"in use by: .*{job.id}"):
        await world.connectors.deactivate(WHO, PROJECT, "team")
    with pytest.raises(NotFoundError, match="has no S3 connector 'x'"):
        await world.connectors.activate(WHO, PROJECT, "x")


async def test_of_two_that_change_it_at_once_both_are_heeded(world: World) -> None:
    connector = await world.connectors.add(WHO, PROJECT, "team", BODY)
    stale = await world.connectors.find(WHO, PROJECT, "team")
    await world.connectors.set(WHO, PROJECT, "team", replace(BODY, prefix="c"))
    await world.connectors._be_active(stale, active=False)
    found = await world.connectors.find(WHO, PROJECT, connector.id)
    assert (found.body.active, found.body.prefix) == (False, "c")
