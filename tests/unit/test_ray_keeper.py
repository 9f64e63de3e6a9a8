"""The keeper of Ray's nodes: what it stores before it asks Ray, what it says, and that it begins anew at any point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobsphere.cluster.registry import Registration, Registry
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.ray_nodes.intentions import Intentions
from jobsphere.ray_nodes.keeper import AGENT_S, Keeper
from jobsphere.ray_nodes.plan import RayNode

ONE = RayNode("1a", "one", True, {"CPU": 4, "memory": 2 * 2**30}, address="10.0.0.1")
DEAD = replace(ONE, alive=False, resources={}, why="health check failed")


class Ray:
    """A cluster in memory. ``breaks``: before or after an agent is started."""

    def __init__(self, *nodes: RayNode) -> None:
        self.there = list(nodes)
        self.started: list[str] = []
        self.arguments: list[str] = []
        self.variables: dict[str, str] = {}
        self.breaks = ""

    def nodes(self) -> Sequence[RayNode]:
        return self.there

    def agents(self) -> set[str]:
        return set(self.started)

    def start(self, node: RayNode, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        if self.breaks == "before":
            raise ConnectionError
        self.started.append(node.id)
        self.arguments, self.variables = list(arguments), dict(variables)
        if self.breaks == "after":
            raise ConnectionError


class World:
    def __init__(self, shared: Path, ray: Ray) -> None:
        self.shared, self.ray, self.now = shared, ray, 0.0
        self.said: list[tuple[str, str]] = []
        self.keeper = self.anew()

    def anew(self) -> Keeper:
        """The keeper after a crash."""
        self.keeper = Keeper(self.ray, self.shared, Path("/data"), self._say, lambda: self.now)
        return self.keeper

    def _say(self, level: str, event: str, **facts: str) -> None:
        self.said.append((level, event))

    @property
    def intended(self) -> dict[str, str]:
        return dict(Intentions(self.shared).all())

    @property
    def lost(self) -> dict[str, str | None]:
        return {name: entry.lost for name, entry in Registry(self.shared).read().items()}


def test_an_agent_is_started_with_what_its_node_has(tmp_path: Path) -> None:
    world = World(tmp_path, Ray(ONE))
    world.keeper.look()
    world.keeper.look()
    assert world.ray.started == ["1a"]
    assert world.ray.variables == {
        "JOBSPHERE_NODE_CPUS": "4",
        "JOBSPHERE_NODE_MEMORY_GB": "2.0",
        "JOBSPHERE_NODE_GPUS": "[]",
    }
    told = dict(zip(world.ray.arguments[1::2], world.ray.arguments[2::2], strict=True))
    assert told["--name"] == "one"
    assert told["--data-dir"] == "/data/one"
    assert told["--host"] == "10.0.0.1"
    assert told["--shared-dir"] == str(tmp_path)


@pytest.mark.parametrize("breaks", ["before", "after"])
def test_a_crash_beside_the_start_makes_one_agent(tmp_path: Path, breaks: str) -> None:
    world = World(tmp_path, Ray(ONE))
    world.ray.breaks = breaks
    with pytest.raises(ConnectionError):
        world.keeper.look()
    assert world.intended == {"1a": "one"}
    world.ray.breaks = ""
    world.anew().look()
    assert world.ray.started == ["1a"]


def test_a_node_that_died_while_nobody_looked_is_lost(tmp_path: Path) -> None:
    world = World(tmp_path, Ray(ONE))
    world.keeper.look()
    world.ray.there = [DEAD]
    world.anew().look()
    assert "health check failed" in str(world.lost["one"])
    assert world.intended == {}
    Registry(tmp_path).restore("one")
    world.keeper.look()
    assert "one" not in world.lost


def test_a_node_that_is_back_has_an_agent_under_its_old_name(tmp_path: Path) -> None:
    world = World(tmp_path, Ray(ONE))
    world.keeper.look()
    world.ray.there = [DEAD, replace(ONE, id="1b")]
    world.keeper.look()
    assert world.ray.started == ["1a", "1b"]
    assert world.intended == {"1b": "one"}
    assert world.lost == {}


def test_marked_nodes_stay_the_only_ones_when_they_are_gone(tmp_path: Path) -> None:
    marked = replace(ONE, id="2a", name="two", resources={"CPU": 1, "jobsphere": 1})
    world = World(tmp_path, Ray(ONE, marked))
    world.keeper.look()
    world.ray.there = [ONE]
    world.anew().look()
    assert world.ray.started == ["2a"]


def test_an_agent_that_does_not_come_is_told_of_once(tmp_path: Path) -> None:
    world = World(tmp_path, Ray(ONE))
    world.keeper.look()
    world.now += AGENT_S
    world.keeper.look()
    assert "warning" not in dict(world.said)
    world.now += 1
    world.keeper.look()
    world.keeper.look()
    assert [level for level, event in world.said if "has no agent" in event] == ["warning"]


def test_nothing_is_said_of_an_agent_that_came(tmp_path: Path) -> None:
    world = World(tmp_path, Ray(ONE))
    world.keeper.look()
    agent = Registration("one", "https://10.0.0.1:1", NodeCapacity(4, 1), datetime.now(UTC))
    with Registry(tmp_path).register(agent):
        world.now += 2 * AGENT_S
        world.keeper.look()
        world.now += 2 * AGENT_S
        world.keeper.look()
    assert {level for level, _ in world.said} == {"info"}
