"""Instance types over all nodes: what a job may ask for, whichever node gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jobsphere.domain.capacity import VENDOR_TYPES, InstanceTypes, Need, NodeCapacity, gib
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.node_ports import Condition, Node


class ClusterTypes:
    """What the nodes that are known offer, each by its own capacity.

    A node that is lost offers nothing any more; one that is away or draining still counts, for it may take jobs again.

    Args:
        nodes: The nodes that are known now, by name (:meth:`jobsphere.domain.node_ports.Nodes.all`).
        of: The types of a node with this capacity.
        promised: The names that the operator's table has; empty for the vendor's, scaled to each node.
    """

    def __init__(
        self,
        nodes: Callable[[], Mapping[str, Node]],
        of: Callable[[NodeCapacity], InstanceTypes],
        promised: Sequence[str] = (),
    ) -> None:
        self.nodes = nodes
        self._of = of
        self._promised = tuple(promised) or tuple(kind.name for kind in VENDOR_TYPES)
        self._known: dict[NodeCapacity, InstanceTypes] = {}
        self._looked_at: Mapping[str, Node] = {}
        self._different: list[InstanceTypes] = []

    def of(self, node: Node) -> InstanceTypes:
        """The types that this node offers. Nodes of one capacity share them."""
        types = self._known.get(node.capacity)
        if types is None:
            present = {other.capacity for other in self.nodes().values()}
            self._known = {capacity: t for capacity, t in self._known.items() if capacity in present}
            types = self._known[node.capacity] = self._of(node.capacity)
        return types

    def offered(self) -> list[Need]:
        """All that some job could be given: of each type the shape on the node that has most to give of it."""
        best: dict[str, Need] = {}
        for types in self._each():
            for need in types.offered():
                known = best.get(need.instance_type)
                if known is None or _size(need) > _size(known):
                    best[need.instance_type] = need
        return [best[name] for name in self._promised if name in best]

    def check(self, names: Sequence[str], storage_bytes: int = 0) -> None:
        """Refuse what no node that is known could ever give; with none known yet, what is not promised at all.

        Raises:
            InvalidArgumentError: with the list of what there is.
        """
        each = self._each()
        for name in names:
            if name not in self._promised or (each and not any(types.need(name) for types in each)):
                raise InvalidArgumentError(
                    f"cloud_instance_types: this server has no instance type {name!r} to give; there are: "
                    f"{self._words(each)}"
                )
        if names and each and not any(types.needs(names, storage_bytes) for types in each):
            room = gib(max(types.node.storage_bytes for types in each if types.needs(names)))
            raise InvalidArgumentError(
                f"extended_working_storage: {gib(storage_bytes)} can never be given: the volume for it has {room}"
            )

    def _words(self, each: Sequence[InstanceTypes]) -> str:
        if not each:
            return ", ".join(self._promised)
        return "; ".join(need.words() for need in self.offered()) or "none at all, tell the operator"

    def _each(self) -> list[InstanceTypes]:
        """The types of all nodes that are not lost, once for each capacity; every Create asks."""
        nodes = self.nodes()
        if nodes is not self._looked_at:
            there = (node for node in nodes.values() if node.condition is not Condition.LOST)
            self._different = list({node.capacity: self.of(node) for node in there}.values())
            self._looked_at = nodes
        return self._different


def _size(need: Need) -> tuple[int, float, int]:
    return need.gpus, need.cpus, need.memory_bytes
