"""The nodes that attempts run on: what the engine and the readers of logs need to know of them.

A :class:`jobsphere.domain.ports.Runner` is one node's. A server on one machine has one, itself (:class:`OneNode`); a
cluster has many, which come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from jobsphere.domain.attempt_ports import KeepingRunner
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.errors import UnavailableError


class Condition(StrEnum):
    """How a node is."""

    READY = "ready"
    """It takes attempts."""
    DRAINING = "draining"
    """It carries on what it has, and takes nothing new."""
    AWAY = "away"
    """It cannot be reached now; nothing is known of what runs there, and nothing given up."""
    LOST = "lost"
    """It is gone with all that ran there, by the word of who knows."""


UNREACHABLE = frozenset({Condition.AWAY, Condition.LOST})


@dataclass(frozen=True, slots=True)
class Node:
    """A node. ``capacity``: what it has for jobs, whether or not any of it is given. ``why``: where it is not ready."""

    name: str
    capacity: NodeCapacity
    condition: Condition = Condition.READY
    why: str = ""


class Nodes(Protocol):
    """All nodes of a server. Reading them costs nothing: they are kept up to date behind it."""

    def all(self) -> Mapping[str, Node]:
        """The nodes that are known, by name. What was given stays as it is: when nodes change, another is given."""
        ...

    def runner(self, name: str) -> KeepingRunner:
        """What starts attempts there and tells of them.

        Raises:
            UnavailableError: it cannot be reached now, or is not known (any more, or yet).
        """
        ...

    def subscribe(self, changed: Callable[[], None], hint: Callable[[str], None]) -> None:
        """Have hints given on the event loop; any may be lost.

        ``changed()`` when nodes came, went or have another condition, ``hint(attempt_id)`` when an attempt on one of
        them may have moved on.
        """
        ...


class OneNode:
    """:class:`Nodes` of a server that is its own and only node."""

    def __init__(self, runner: KeepingRunner, capacity: NodeCapacity) -> None:
        self._runner = runner
        self._nodes = {runner.node: Node(runner.node, capacity)}

    def all(self) -> Mapping[str, Node]:
        """The machine itself, always ready."""
        return self._nodes

    def runner(self, name: str) -> KeepingRunner:  # noqa: ARG002
        """Its own, whatever its name was when the attempt was stored: hosts are renamed."""
        return self._runner

    def subscribe(self, changed: Callable[[], None], hint: Callable[[str], None]) -> None:  # noqa: ARG002
        """It neither comes nor goes."""
        self._runner.subscribe(hint)


def unknown(name: str) -> UnavailableError:
    """What :meth:`Nodes.runner` raises for a node that nobody has told of."""
    return UnavailableError(f"node {name!r} is not known to this server (yet)", node=name)
