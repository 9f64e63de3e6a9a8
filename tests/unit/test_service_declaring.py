"""Files of resources while jobs are under way: what they use is neither made anew nor pruned."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.world import PROJECT, WHO, World, a_spec

from jobsphere.domain.access import Scope
from jobsphere.domain.declared import Declared, Entry, Key, Plan, Reference
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.resource import Subject
from jobsphere.domain.resources import S3Connector, SparkConnector
from jobsphere.domain.spark import SparkMode
from jobsphere.service.accounts import Accounts
from jobsphere.service.declared_resources import DatasetKind, ImageKind, S3Kind, SecretKind, SparkKind
from jobsphere.service.declared_teams import CommunityKind, ProjectKind, Roles, Users
from jobsphere.service.declaring import Declaring, Hand, Places

OPERATOR = Subject("operator", operator=True)
VALUES = {"A": "value-of-A", "B": "value-of-B"}


def declaring(world: World) -> Declaring:
    places, accounts = Places(world.communities, world.projects), Accounts(world.accounts, world.clock, world.ids)

    def read(reference: Reference) -> str | None:
        return VALUES.get(reference.variable)

    hands: list[Hand] = [
        Users(accounts, OPERATOR),
        CommunityKind(world.communities, places),
        Roles(Scope.COMMUNITY, world.grants, accounts, places, world.communities),
        ProjectKind(world.projects, world.store, places),
        Roles(Scope.PROJECT, world.grants, accounts, places, world.communities),
        SecretKind(world.secrets, places, read),
        ImageKind(world.image_resources, world.secrets, places, read),
        DatasetKind(world.datasets, places),
        S3Kind(world.connectors, world.secrets, places),
        SparkKind(world.sparks, world.secrets, places),
    ]
    return Declaring(hands, read)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    world = await World(tmp_path).open()
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "f").write_text("new")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "f").write_text("old")
    return world


async def place(world: World) -> tuple[str, str]:
    """The path of the world's project."""
    found = await Places(world.communities, world.projects).projects(OPERATOR)
    (path,) = [path for path, project in found if project.id == PROJECT]
    return path[0], path[1]


def signs(planned: Plan) -> list[str]:
    return [f"{step.verb.value} {step.entry.key.kind} {step.entry.key.path[-1]}" for step in planned.steps]


async def test_what_a_live_job_uses_is_neither_made_anew_nor_pruned(world: World, tmp_path: Path) -> None:
    used = await world.datasets.create(WHO, PROJECT, "used", [tmp_path / "old"])
    await world.datasets.create(WHO, PROJECT, "free", [tmp_path / "old"])
    job = await world.running(a_spec(dataset_ids=(used.id,)))
    path, declares = await place(world), declaring(world)
    file = Declared((Entry(Key("dataset", (*path, "used")), {"folder": str(tmp_path / "new")}, {"": 3}),))

    planned, problems, _ = await declares.plan(OPERATOR, file, prune=False)
    assert planned == Plan()
    assert [p.line for p in problems] == [3]
    assert problems[0].text.endswith(f"/used: it cannot be made anew now: the job {job.id} uses it")

    nothing = Declared((), frozenset({Key("dataset", path), Key("community", ())}))
    planned, problems, _ = await declares.plan(OPERATOR, nothing, prune=True)
    assert (signs(planned), problems) == (["- dataset free"], [])
    reasons = {key.kind: why for key, why in planned.kept}
    assert reasons["dataset"] == f"the job {job.id} uses it"

    await world.ends(job)
    await world.reconcile(job)
    planned, _, _ = await declares.plan(OPERATOR, file, prune=False)
    (step,) = planned.steps
    assert step.verb.value == "±"
    await declares.take(OPERATOR, step)
    assert await declares.plan(OPERATOR, file, prune=False) == (Plan(), [], [])


async def test_a_secret_named_by_its_id_is_shown_by_its_name(world: World) -> None:
    secrets = [await world.secrets.set(WHO, PROJECT, name, "x") for name in ("AK", "SK")]
    body = S3Connector("lake", access_key_secret=secrets[0].id, secret_key_secret=secrets[1].id)
    await world.connectors.add(WHO, PROJECT, "lake", body)
    (lake,) = [e for e in await declaring(world).present(OPERATOR) if e.key.kind == "S3 connector"]
    assert (lake.fields["access-key-secret"], lake.fields["secret-key-secret"]) == ("AK", "SK")


async def test_a_spark_is_declared_with_its_mode_in_either_spelling(world: World) -> None:
    secret = await world.secrets.set(WHO, PROJECT, "PW", "x")
    body = SparkConnector(SparkMode.CONTEXT, "h", (("b", "2"), ("a", "1")), (("p", secret.id),))
    await world.sparks.add(WHO, PROJECT, "calc", body)
    path, declares = await place(world), declaring(world)
    (there,) = [e for e in await declares.present(OPERATOR) if e.key.kind == "Spark connector"]
    assert there.fields == {
        "mode": "context",
        "host": "h",
        "params": (("a", "1"), ("b", "2")),
        "secret-params": (("p", "PW"),),
    }

    def file(mode: str) -> Declared:
        return Declared((Entry(Key("Spark connector", (*path, "calc")), {"mode": mode}, {"": 3, "mode": 4}),))

    for same in ("context", "SPARK_CONTEXT", "Context"):
        assert await declares.plan(OPERATOR, file(same), prune=False) == (Plan(), [], [])
    planned, _, _ = await declares.plan(OPERATOR, file("local"), prune=False)
    (step,) = planned.steps
    assert step.changes() == [("mode", "context", "local")]
    await declares.take(OPERATOR, step)
    assert (await world.sparks.find(WHO, PROJECT, "calc")).body.mode is SparkMode.LOCAL
    _, problems, _ = await declares.plan(OPERATOR, file("yarn"), prune=False)
    assert "mode: there is no 'yarn'; there are: connect, context, local" in problems[0].text


async def test_what_comes_into_use_after_the_plan_stops_the_step(world: World, tmp_path: Path) -> None:
    dataset = await world.datasets.create(WHO, PROJECT, "d", [tmp_path / "old"])
    path, declares = await place(world), declaring(world)
    planned, _, _ = await declares.plan(OPERATOR, Declared((), frozenset({Key("dataset", path)})), prune=True)
    assert signs(planned) == ["- dataset d"]
    await world.running(a_spec(dataset_ids=(dataset.id,)))
    with pytest.raises(FailedPreconditionError, match="dataset 'd' is in use by"):
        await declares.take(OPERATOR, planned.steps[0])
    assert await world.datasets.find(WHO, PROJECT, "d") == dataset


async def test_another_value_is_a_change_and_one_that_is_nowhere_is_not(world: World) -> None:
    await world.secrets.set(WHO, PROJECT, "S", VALUES["A"])
    path, declares = await place(world), declaring(world)

    async def planned_for(variable: str, name: str = "S") -> tuple[list[str], int, int]:
        entry = Entry(Key("secret", (*path, name)), {"value": Reference(variable)})
        planned, problems, notes = await declares.plan(OPERATOR, Declared((entry,)), prune=False)
        return signs(planned), len(problems), len(notes)

    assert await planned_for("A") == ([], 0, 0)
    assert await planned_for("B") == (["~ secret S"], 0, 0)
    assert await planned_for("NOWHERE") == ([], 0, 1)
    assert await planned_for("NOWHERE", "NEW") == ([], 1, 0)
