"""Nodes in memory, whose condition a test sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jobsphere.domain.attempt_ports import KeepingRunner
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.errors import UnavailableError
from jobsphere.domain.node_ports import Condition, Node, unknown


class MemoryNodes:
    """:class:`jobsphere.domain.node_ports.Nodes` of these runners, each with this capacity at first."""

    def __init__(self, capacity: NodeCapacity, *runners: KeepingRunner) -> None:
        self.held = {runner.node: Node(runner.node, capacity) for runner in runners}
        self.runners = {runner.node: runner for runner in runners}
        self._changed: list[Callable[[], None]] = []

    def all(self) -> Mapping[str, Node]:
        return dict(self.held)

    def runner(self, name: str) -> KeepingRunner:
        if name not in self.held:
            raise unknown(name)
        if self.held[name].condition in {Condition.AWAY, Condition.LOST}:
            raise UnavailableError(f"node {name} cannot be reached")
        return self.runners[name]

    def subscribe(self, changed: Callable[[], None], hint: Callable[[str], None]) -> None:
        self._changed.append(changed)
        for runner in self.runners.values():
            runner.subscribe(hint)

    def add(self, runner: KeepingRunner, capacity: NodeCapacity) -> None:
        """A node comes."""
        self.held[runner.node] = Node(runner.node, capacity)
        self.runners[runner.node] = runner

    def become(self, name: str, condition: Condition, why: str = "") -> None:
        """Something happens to a node."""
        node = self.held[name]
        self.held[name] = Node(name, node.capacity, condition, why)
        for changed in self._changed:
            changed()
