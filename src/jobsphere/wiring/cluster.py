"""A cluster from a server's settings: its registry, its nodes, and what an operator sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from jobsphere.api.tls import ensure_authority
from jobsphere.cluster.nodes import ClusterNodes
from jobsphere.cluster.registry import Registry
from jobsphere.cluster.trust import agent_token, asking_context
from jobsphere.config import Settings, load
from jobsphere.domain.errors import UnavailableError
from jobsphere.runner.remote import open_session
from jobsphere.wiring.keys import secret_key


@dataclass(frozen=True, slots=True)
class SeenNode:
    """A node as an operator sees it. ``attempts``: how many it has that are not over; None if it cannot be asked."""

    name: str
    condition: str
    cpus: float
    memory_bytes: int
    gpus: tuple[int, ...]
    attempts: int | None
    url: str
    why: str


def is_cluster(settings: Settings) -> bool:
    """Whether jobs run on nodes with agents, and not on the server's machine by itself."""
    return settings.shared != settings.data_dir.expanduser().absolute()


def registry_of(data_dir: Path) -> Registry:
    """The registry of the cluster that a server's data directory belongs to."""
    return Registry(load({"data_dir": data_dir}).shared)


async def open_nodes(settings: Settings, stack: AsyncExitStack) -> ClusterNodes:
    """The nodes of the cluster, watched from now on; ``stack`` ends that."""
    ca_pem = ensure_authority(settings.shared / "tls")
    session = open_session(agent_token(secret_key(settings.shared)), asking_context(ca_pem))
    stack.push_async_callback(session.close)
    nodes = ClusterNodes(Registry(settings.shared), session)
    stack.push_async_callback(nodes.close)
    await nodes.open()
    return nodes


async def list_nodes(data_dir: Path) -> Sequence[SeenNode]:
    """All of them, by their names, each asked from here."""
    settings = load({"data_dir": data_dir})
    async with AsyncExitStack() as stack:
        nodes = await open_nodes(settings, stack)
        entries = Registry(settings.shared).read()
        found: list[SeenNode] = []
        for name, node in sorted(nodes.all().items()):
            try:
                attempts = len(await nodes.runner(name).attempts())
            except UnavailableError:
                attempts = None
            agent = entries[name].agent if name in entries else None
            url = agent.url if agent else ""
            has = node.capacity
            found.append(
                SeenNode(name, node.condition.value, has.cpus, has.memory_bytes, has.gpus, attempts, url, node.why)
            )
        return found
