"""What nodes promise to whoever looks at them, one machine's or a cluster's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from ports_memory_nodes import MemoryNodes
from ports_memory_runner import MemoryRunner
from running_agent import RunningAgent
from test_runner import PLAN, takers

from jobsphere.cluster.nodes import ClusterNodes
from jobsphere.cluster.registry import Registration, Registry
from jobsphere.domain.attempt import Started
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.errors import UnavailableError
from jobsphere.domain.node_ports import Condition, Node, Nodes

HANG_S = 60
HAS = NodeCapacity(4, 1 << 30, (0, 1), 1 << 40)
NAMES = ("one", "two")


class MemorySubject:
    def __init__(self, path: Path) -> None:
        self.runners = {name: MemoryRunner(path / name, takers(path), name) for name in NAMES}

    async def open(self) -> Nodes:
        self.nodes = MemoryNodes(HAS, *self.runners.values())
        return self.nodes

    async def become(self, name: str, condition: Condition, why: str) -> None:
        self.nodes.become(name, condition, why)

    async def close(self) -> None:
        pass


class ClusterSubject:
    """Agents on ports of loopback, and a folder."""

    def __init__(self, path: Path) -> None:
        self.runners = {name: MemoryRunner(path / name, takers(path), name) for name in NAMES}
        self.agents = {name: RunningAgent(path, runner) for name, runner in self.runners.items()}
        self.registry = Registry(path)
        self.stack = contextlib.ExitStack()

    async def open(self) -> Nodes:
        for name, agent in self.agents.items():
            await agent.start()
            self.stack.enter_context(
                self.registry.register(Registration(name, agent.url, HAS, datetime(2026, 1, 1, tzinfo=UTC)))
            )
        self.nodes = ClusterNodes(self.registry, self.agents["one"].session(), look_s=0.02)
        await self.nodes.open()
        return self.nodes

    async def become(self, name: str, condition: Condition, why: str) -> None:
        match condition:
            case Condition.READY:
                self.registry.restore(name)
                await self.agents[name].start()
            case Condition.DRAINING:
                self.registry.drain(name, why)
            case Condition.LOST:
                self.registry.lose(name, why)
            case Condition.AWAY:
                await self.agents[name].stop()

    async def close(self) -> None:
        await self.nodes.close()
        for agent in self.agents.values():
            await agent.close()
        self.stack.close()


Subject = MemorySubject | ClusterSubject


@pytest.fixture(params=[MemorySubject, ClusterSubject])
async def subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    made = request.param(tmp_path)
    await made.open()
    yield made
    await made.close()


class Seen:
    """What a subscriber is told."""

    def __init__(self, nodes: Nodes) -> None:
        self.hints: asyncio.Queue[str] = asyncio.Queue()
        self._moved = asyncio.Event()
        self._nodes = nodes
        nodes.subscribe(self._moved.set, self.hints.put_nowait)

    async def until(self, name: str, condition: Callable[[Node | None], bool]) -> None:
        """Looks only when told."""
        async with asyncio.timeout(HANG_S):
            while not condition(self._nodes.all().get(name)):
                await self._moved.wait()
                self._moved.clear()


def is_(condition: Condition) -> Callable[[Node | None], bool]:
    return lambda node: node is not None and node.condition is condition


async def test_all_are_known_with_what_they_have_and_reached(subject: Subject) -> None:
    assert subject.nodes.all() == {name: Node(name, HAS) for name in NAMES}
    for name in NAMES:
        runner = subject.nodes.runner(name)
        assert runner.node == name
        await runner.launch(PLAN)
        assert list(subject.runners[name].held) == ["a1"]
    with pytest.raises(UnavailableError, match="'three'"):
        subject.nodes.runner("three")


@pytest.mark.parametrize("condition", [Condition.AWAY, Condition.LOST])
async def test_one_that_is_away_or_lost_cannot_be_asked_and_comes_back(subject: Subject, condition: Condition) -> None:
    seen = Seen(subject.nodes)
    await subject.become("one", condition, "lightning")
    await seen.until("one", is_(condition))
    with pytest.raises(UnavailableError, match="node one"):
        await subject.nodes.runner("one").attempts()
    assert subject.nodes.all()["two"] == Node("two", HAS)
    assert subject.nodes.all()["one"].capacity == HAS
    await subject.become("one", Condition.READY, "")
    await seen.until("one", is_(Condition.READY))
    assert list(await subject.nodes.runner("one").attempts()) == []
    assert subject.nodes.all()["one"].why == ""


async def test_why_a_node_is_not_ready_is_told(subject: Subject) -> None:
    seen = Seen(subject.nodes)
    for condition in (Condition.DRAINING, Condition.LOST):
        await subject.become("one", condition, "lightning")
        await seen.until("one", is_(condition))
        assert subject.nodes.all()["one"].why == "lightning"


async def test_a_draining_node_carries_on_what_it_has(subject: Subject) -> None:
    seen = Seen(subject.nodes)
    await subject.nodes.runner("one").launch(PLAN)
    await subject.become("one", Condition.DRAINING, "")
    await seen.until("one", is_(Condition.DRAINING))
    assert list(await subject.nodes.runner("one").attempts()) == ["a1"]


async def test_hints_of_every_node_are_given(subject: Subject) -> None:
    seen = Seen(subject.nodes)
    for name in NAMES:
        await subject.nodes.runner(name).launch(PLAN)
        await subject.runners[name].become("a1", Started(datetime.now(UTC)))
        async with asyncio.timeout(HANG_S):
            assert await seen.hints.get() == "a1"
