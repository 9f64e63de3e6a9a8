"""Sees to it that each node of Ray has its agent, and says which nodes are lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from jobsphere.cluster.registry import Registry
from jobsphere.domain.capacity import GIB
from jobsphere.ray_nodes.intentions import Intentions
from jobsphere.ray_nodes.plan import RayNode, plan

AGENT_S = 60.0
"""How long an agent may take until something is said about it."""


class Cluster(Protocol):
    """What is asked of Ray; see :class:`jobsphere.ray_nodes.cluster.RayCluster`."""

    def nodes(self) -> Sequence[RayNode]:
        """All nodes that the head knows, also dead ones."""
        ...

    def agents(self) -> Collection[str]:
        """Ray's ids of the nodes that have an agent's actor."""
        ...

    def start(self, node: RayNode, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        """Have an agent on the node, unless there is one."""
        ...


class Say(Protocol):
    """Takes a line for the server's log."""

    def __call__(self, level: str, event: str, **facts: str) -> None:
        """``level``: as in logging, in small letters."""
        ...


class Keeper:
    """Remembers nothing that counts: every look begins with what Ray says and what is stored.

    Args:
        cluster: Ray.
        shared: The folder that servers and nodes share.
        data_dir: The folder of agents on every node; each has one below it.
        say: Takes lines for the server's log, each once as long as it is true.
        clock: Seconds that only go up.
    """

    def __init__(
        self, cluster: Cluster, shared: Path, data_dir: Path, say: Say, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._cluster = cluster
        self._shared = shared
        self._data_dir = data_dir
        self._say = say
        self._clock = clock
        self._registry = Registry(shared)
        self._intentions = Intentions(shared)
        self._said: set[str] = set()
        self._waited: dict[str, float] = {}

    def look(self) -> None:
        """Look once, and do what there is to do. Blocks, and raises whatever Ray raises."""
        nodes = self._cluster.nodes()
        if any(node.marked for node in nodes):
            self._intentions.mark()
        agents, only_marked = self._cluster.agents(), self._intentions.only_marked
        todo = plan(nodes, self._intentions.all(), agents, only_marked=only_marked)
        for loss in todo.lose:
            self._registry.lose(loss.name, loss.reason)
            self._say("error", "node is lost", node=loss.name, ray_node=loss.ray_id, reason=loss.reason)
            self._intentions.drop(loss.ray_id)
        for ray_id in todo.drop:
            self._intentions.drop(ray_id)
        for node in todo.start:
            self._intentions.intend(node.id, node.node_name)
            self._cluster.start(node, self._arguments(node), _variables(node))
            self._say("info", "agent for a node of Ray", node=node.node_name, ray_node=node.id)
        self._remark([*todo.remarks, *self._without_agent(nodes)])

    def _arguments(self, node: RayNode) -> list[str]:
        data_dir = self._data_dir / node.node_name
        return [
            "agent", "--name", node.node_name, "--data-dir", str(data_dir), "--shared-dir", str(self._shared),
            "--host", node.address, "--config", str(self._intentions.settings),
        ]  # fmt: skip

    def _without_agent(self, nodes: Sequence[RayNode]) -> Iterator[str]:
        """Of nodes that ought to have one for some time now."""
        alive, intended, entries = (
            {node.id for node in nodes if node.alive},
            self._intentions.all(),
            self._registry.read(),
        )
        waiting = {
            ray_id: name
            for ray_id, name in intended.items()
            if ray_id in alive and (name not in entries or entries[name].agent is None)
        }
        now = self._clock()
        self._waited = {ray_id: self._waited.get(ray_id, now) for ray_id in waiting}
        for ray_id, since in self._waited.items():
            if now - since > AGENT_S:
                yield (
                    f"node {waiting[ray_id]} of Ray has no agent yet: other work of Ray may hold its resources (see "
                    "`ray status`), or jobsphere is not installed there (see the logs of Ray's workers on that node)"
                )

    def _remark(self, remarks: Collection[str]) -> None:
        for remark in remarks:
            if remark not in self._said:
                self._say("warning", remark)
        self._said = set(remarks)


def _variables(node: RayNode) -> dict[str, str]:
    """What the node has for jobs: settings that are its own."""
    found = {"JOBSPHERE_NODE_CPUS": str(node.resources["CPU"])}
    if memory := node.resources.get("memory"):
        found["JOBSPHERE_NODE_MEMORY_GB"] = str(memory / GIB)
    if not node.resources.get("GPU"):  # which ones, only the node knows
        found["JOBSPHERE_NODE_GPUS"] = "[]"
    return found
