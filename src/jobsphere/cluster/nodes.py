"""The nodes of a cluster, as a server sees them: who is registered, who answers, who is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
import structlog

from jobsphere.cluster.registry import Entry, Registration, Registry
from jobsphere.domain.attempt_ports import KeepingRunner
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.errors import UnavailableError
from jobsphere.domain.node_ports import Condition, Node, unknown
from jobsphere.runner.remote import CONNECT_S, RemoteRunner

LOOK_S = 1.0
"""How often the folder is read: network file systems tell nobody of changes."""
_NOTHING = NodeCapacity(0, 0)
log = structlog.get_logger()


@dataclass(slots=True)
class _Link:
    """What a server has to do with one agent. ``why``: why it is out of reach; empty if it is not."""

    agent: Registration
    runner: RemoteRunner
    why: str
    told: asyncio.Event = field(default_factory=asyncio.Event)
    listening: asyncio.Task[None] | None = None


class ClusterNodes:
    """:class:`jobsphere.domain.node_ports.Nodes` of the agents that the registry names.

    Args:
        registry: Where they are named.
        session: What they are asked by; see :func:`jobsphere.runner.remote.open_session`.
        look_s: How often the registry is read.
    """

    def __init__(self, registry: Registry, session: aiohttp.ClientSession, look_s: float = LOOK_S) -> None:
        self._registry = registry
        self._session = session
        self._look_s = look_s
        self._entries: Mapping[str, Entry] = {}
        self._links: dict[str, _Link] = {}
        self._nodes: Mapping[str, Node] = {}
        self._changed: list[Callable[[], None]] = []
        self._hints: list[Callable[[str], None]] = []
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to watch. Returns when every agent has answered or could not be reached, or after some seconds."""
        await self._look()
        first = [asyncio.create_task(link.told.wait()) for link in self._links.values()]
        if first:
            await asyncio.wait(first, timeout=CONNECT_S)
        for task in first:
            task.cancel()
        self._looking = asyncio.create_task(self._look_again())

    async def close(self) -> None:
        """Watch no longer. The nodes carry on."""
        tasks = [link.listening for link in self._links.values()] + [self._looking]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)

    def all(self) -> Mapping[str, Node]:
        """See :meth:`jobsphere.domain.node_ports.Nodes.all`."""
        return self._nodes

    def runner(self, name: str) -> KeepingRunner:
        """See :meth:`jobsphere.domain.node_ports.Nodes.runner`. It stays the same when its agent starts again."""
        node = self._nodes.get(name)
        if node is None:
            raise unknown(name)
        if node.condition is Condition.LOST:
            raise UnavailableError(f"node {name} is lost: {node.why}", node=name)
        if node.condition is Condition.AWAY:
            raise UnavailableError(node.why, node=name)
        return self._links[name].runner

    def subscribe(self, changed: Callable[[], None], hint: Callable[[str], None]) -> None:
        """See :meth:`jobsphere.domain.node_ports.Nodes.subscribe`."""
        self._changed.append(changed)
        self._hints.append(hint)

    async def _look_again(self) -> None:
        failed = False
        while True:
            await asyncio.sleep(self._look_s)
            try:
                await self._look()
                failed = False
            except OSError as error:  # what is known stays true until the folder can be read again
                if not failed:
                    log.error("the folder of the nodes cannot be read", reason=str(error))
                failed = True

    async def _look(self) -> None:
        self._entries = await asyncio.to_thread(self._registry.read)
        agents = {name: entry.agent for name, entry in self._entries.items() if entry.agent is not None}
        for name in self._links.keys() - agents.keys():
            self._unlink(name)
        for name, agent in agents.items():
            link = self._links.get(name)
            if link is None or link.agent != agent:
                self._link(agent, link)
        self._tell()

    def _link(self, agent: Registration, was: _Link | None) -> None:
        """An agent has come, or has started again, perhaps at another place."""
        if was is not None:
            self._unlink(agent.name)
            runner = was.runner
            runner.url = agent.url
        else:
            runner = RemoteRunner(agent.name, agent.url, self._session)
            runner.subscribe(self._hint)
        link = self._links[agent.name] = _Link(agent, runner, f"node {agent.name} was not reached yet")

        def reached(why: str) -> None:
            link.told.set()
            if why != link.why:
                link.why = why
                self._tell()

        link.listening = asyncio.create_task(runner.listen(reached))

    def _unlink(self, name: str) -> None:
        link = self._links.pop(name)
        if link.listening is not None:
            link.listening.cancel()

    def _hint(self, attempt_id: str) -> None:
        for hint in self._hints:
            hint(attempt_id)

    def _tell(self) -> None:
        found = {name: node for name, entry in self._entries.items() if (node := self._node(name, entry)) is not None}
        if found == self._nodes:
            return
        was, self._nodes = self._nodes, found
        if self._looking is not None:  # what is found at the start is no news
            _report(was, found)
        for changed in self._changed:
            changed()

    def _node(self, name: str, entry: Entry) -> Node | None:
        link = self._links.get(name)
        if entry.lost is not None:
            return Node(name, link.agent.capacity if link else _NOTHING, Condition.LOST, entry.lost)
        if link is None:
            return None
        if link.why:
            return Node(name, link.agent.capacity, Condition.AWAY, link.why)
        if entry.drain is not None:
            return Node(name, link.agent.capacity, Condition.DRAINING, entry.drain)
        return Node(name, link.agent.capacity)


def _report(was: Mapping[str, Node], now: Mapping[str, Node]) -> None:
    for name, node in now.items():
        if name not in was or was[name].condition is not node.condition:
            log.info("node", node=name, condition=node.condition.value, reason=node.why)
    for name in was.keys() - now.keys():
        log.info("node is gone", node=name)
