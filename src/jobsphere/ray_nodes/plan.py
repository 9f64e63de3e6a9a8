"""What there is to do, of what Ray says and what was intended: pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

MARK = "jobsphere"
"""The custom resource of nodes that are meant for jobs, where not all are."""
_UNFIT = re.compile(r"[^0-9A-Za-z._-]")
_NAME_CHARACTERS = 63


@dataclass(frozen=True, slots=True)
class RayNode:
    """A node as Ray knows it.

    Args:
        id: Ray's own id; a node that comes back has another.
        name: As ``ray start --node-name`` gives it; by default the address.
        alive: Whether Ray's head holds it for alive.
        resources: What it has in all, as Ray counts: memory in bytes.
        why: What Ray says of its death.
        address: Where others reach it.
    """

    id: str
    name: str
    alive: bool
    resources: Mapping[str, float]
    why: str = ""
    address: str = ""

    @property
    def marked(self) -> bool:
        """Whether it is meant for jobs by the custom resource."""
        return bool(self.resources.get(MARK))

    @property
    def node_name(self) -> str:
        """Its name among the nodes of jobs: Ray's name for it (by default its address), as a file may be called."""
        return _UNFIT.sub("-", self.name).lstrip("._-")[:_NAME_CHARACTERS] or self.id[:_NAME_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Loss:
    """A node that Ray holds for dead. ``ray_id``: of the agent that was there."""

    ray_id: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order.

    Args:
        lose: Nodes whose jobs are to be told that it is gone; then the intention is dropped.
        drop: Intentions, by Ray's ids, that count for nothing any more: the node has come back under a new id.
        start: Nodes that are to have an agent and have none.
        remarks: What an operator should know; the same as long as nothing changes.
    """

    lose: Sequence[Loss] = ()
    drop: Sequence[str] = ()
    start: Sequence[RayNode] = ()
    remarks: Sequence[str] = ()


def plan(
    nodes: Collection[RayNode], intended: Mapping[str, str], agents: Collection[str], *, only_marked: bool = False
) -> Plan:
    """What to do next.

    Only what Ray itself holds for dead is lost: not a node that it does not know, for a head that was restarted
    without its memory knows none.

    Args:
        nodes: All that Ray tells of, also dead ones.
        intended: Names of nodes by Ray's ids: those that an agent was meant for, before it was started.
        agents: Ray's ids of nodes that have an agent, or will have it as soon as Ray can.
        only_marked: Whether there ever was a marked node: Ray forgets what dead ones had.
    """
    chosen, remarks = _chosen(nodes, intended, only_marked or any(node.marked for node in nodes))
    by_id = {node.id: node for node in nodes}
    back = {node.node_name for node in nodes if node.alive}
    lose: list[Loss] = []
    drop: list[str] = []
    for ray_id, name in sorted(intended.items(), key=lambda item: (item[1], item[0])):
        node = by_id.get(ray_id)
        if node is not None and node.alive:
            continue
        if name in back:
            drop.append(ray_id)
        elif node is not None:
            lose.append(Loss(ray_id, name, f"Ray holds it for dead: {node.why or 'it does not say why'}"))
        else:
            remarks.append(
                f"Ray does not know node {name} any more; if it is gone for good, say so: `jobsphere node lost {name}`"
            )
    return Plan(lose, drop, [node for node in chosen if node.id not in agents], remarks)


def _chosen(
    nodes: Collection[RayNode], intended: Mapping[str, str], only_marked: bool
) -> tuple[list[RayNode], list[str]]:
    """The nodes that are to have agents: all with CPUs, or of these the marked ones."""
    offering = [node for node in nodes if node.alive and node.resources.get("CPU")]
    wanted = [node for node in offering if node.marked or not only_marked]
    # Who has its agent keeps it.
    by_name: dict[str, RayNode] = {}
    remarks: list[str] = []
    for node in sorted(wanted, key=lambda node: (node.id not in intended, node.id)):
        if node.node_name in by_name:
            remarks.append(
                f"Ray has more than one node of the name {node.node_name}: only one gets jobs; "
                "give each a name of its own by `ray start --node-name`"
            )
        else:
            by_name[node.node_name] = node
    return list(by_name.values()), remarks
