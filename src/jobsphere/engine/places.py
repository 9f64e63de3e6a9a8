"""The nodes as the dispatcher sees them: what each has left, in an order that finds the best one at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field

from jobsphere.domain.capacity import InstanceTypes, Limits, Need, NodeCapacity
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.node_ports import Condition, Node

_EPSILON = 1e-6
_LOOKED_AT = 4
"""How many of the emptiest nodes of each kind are compared for who waits longest."""
_NOTHING = -1.0
Sizes = tuple[tuple[str, float, int, int], ...]
Group = tuple[int, int, int]
"""Nodes that are compared by their CPUs and memory alone: as many GPUs, as many of them free, and types of equal sizes
(a number for those)."""


@dataclass(slots=True, eq=False)
class Place:
    """A node, and what is left of it."""

    node: Node
    types: InstanceTypes
    kind: int
    """The same for nodes whose types have equal sizes."""
    free: NodeCapacity
    given: dict[str, Limits] = field(default_factory=dict[str, Limits])
    """What jobs hold of it, by their ids."""
    indexed: tuple[Group, tuple[float, int, str]] | None = None

    @property
    def name(self) -> str:
        """The node's."""
        return self.node.name

    @property
    def ready(self) -> bool:
        """Whether it takes jobs."""
        return self.node.condition is Condition.READY

    def fitting(self, names: tuple[str, ...], storage_bytes: int, room: NodeCapacity) -> Need | None:
        """The first of the types that fits into ``room``, which is a part of what is free here."""
        for name in names:
            need = self.types.need(name, storage_bytes)
            if need is not None and room.fits(need):
                return need
        return None


class Places:
    """All nodes, those that are ready ordered by what they have free."""

    def __init__(self, types: ClusterTypes) -> None:
        self._types = types
        self._places: dict[str, Place] = {}
        self._elsewhere: dict[str, dict[str, Limits]] = {}
        """What jobs hold of nodes that are not known (yet, or any more)."""
        self._groups: dict[Group, list[tuple[float, int, str]]] = {}
        self._kinds: dict[Sizes, int] = {}
        self._sizes: list[dict[str, tuple[float, int, int]]] = []
        """By kind and type: CPUs, memory, GPUs."""

    def __iter__(self) -> Iterator[Place]:
        """Every node that is known."""
        return iter(self._places.values())

    def get(self, name: str) -> Place | None:
        """The node of this name."""
        return self._places.get(name)

    def holders(self, name: str) -> list[str]:
        """The ids of all jobs that hold a part of this node."""
        place = self._places.get(name)
        return list(place.given if place else self._elsewhere.get(name, ()))

    def refresh(self) -> tuple[list[Place], list[Place]]:
        """Look at the nodes again: those that are new or changed, and those that are gone."""
        nodes = self._types.nodes()
        gone = [self._places.pop(name) for name in list(self._places) if name not in nodes]
        for place in gone:
            self._take_out(place)
            if place.given:
                self._elsewhere[place.name] = place.given
        changed = [self._put(node) for node in nodes.values() if self._differs(node)]
        return changed, gone

    def hold(self, name: str, job_id: str, limits: Limits) -> None:
        """The job has this of the node from now on."""
        place = self._places.get(name)
        if place is None:
            self._elsewhere.setdefault(name, {})[job_id] = limits
            return
        place.given[job_id] = limits
        place.free = place.free.without(limits)
        self._index(place)

    def give_back(self, name: str, job_id: str) -> Place | None:
        """The job has nothing of it any more; the node, if it is known."""
        place = self._places.get(name)
        if place is None:
            held = self._elsewhere.get(name, {})
            held.pop(job_id, None)
            if not held:
                self._elsewhere.pop(name, None)
            return None
        place.given.pop(job_id, None)
        self._measure(place)
        return place

    def best(self, name: str, storage_bytes: int) -> Iterator[tuple[Place, Need]]:
        """The ready nodes that have room for a job of this type, the best first.

        The best is the one with the fewest GPUs that are no use to it, and then the one with the least left over.
        """
        for group in sorted(self._groups):
            size = self._sizes[group[2]].get(name)
            if size is None or size[2] > group[1]:
                continue
            order = self._groups[group]
            for at in range(bisect_left(order, (size[0] - _EPSILON, 0, "")), len(order)):
                node = order[at][2]
                place = self._places[node]
                need = place.types.need(name, storage_bytes)
                if need is not None and place.free.fits(need):
                    yield place, need

    def likeliest(self, names: tuple[str, ...], storage_bytes: int, taken: set[str]) -> tuple[Place, Need] | None:
        """The ready node that is nearest to having room for the first of these types that some node can give.

        ``taken``: the nodes that others wait for, which come last.
        """
        for name in names:
            near = list(self._emptiest(name, storage_bytes))
            if not near:
                near = [pair for place in self._places.values() if (pair := _able(place, name, storage_bytes))][:1]
            if near:
                return max(near, key=lambda pair: (pair[0].name not in taken, _share(pair[0].free, pair[1])))
        return None

    def _emptiest(self, name: str, storage_bytes: int) -> Iterator[tuple[Place, Need]]:
        for group, order in self._groups.items():
            size = self._sizes[group[2]].get(name)
            if size is not None and size[2] <= group[0]:
                for _, _, node in order[-_LOOKED_AT:]:
                    if pair := _able(self._places[node], name, storage_bytes):
                        yield pair

    def _differs(self, node: Node) -> bool:
        place = self._places.get(node.name)
        return place is None or place.node != node

    def _put(self, node: Node) -> Place:
        place = self._places.get(node.name)
        types = self._types.of(node)
        if place is None:
            given = self._elsewhere.pop(node.name, {})
            place = self._places[node.name] = Place(node, types, 0, node.capacity, given)
        place.node, place.types, place.kind = node, types, self._kind(types)
        self._measure(place)
        return place

    def _measure(self, place: Place) -> None:
        """From what it has and what is given: a sum of differences would drift, and a node's capacity may change."""
        given = place.given.values()
        has = place.node.capacity
        used = {gpu for limits in given for gpu in limits.gpus}
        place.free = NodeCapacity(
            max(has.cpus - sum(limits.cpus for limits in given), 0.0),
            max(has.memory_bytes - sum(limits.memory_bytes for limits in given), 0),
            tuple(gpu for gpu in has.gpus if gpu not in used),
            max(has.storage_bytes - sum(limits.storage_bytes for limits in given), 0),
        )
        self._index(place)

    def _index(self, place: Place) -> None:
        self._take_out(place)
        if not place.ready:
            return
        free, sizes = place.free, self._sizes[place.kind].values()
        cpus, memory = min((s[0] for s in sizes), default=0.0), min((s[1] for s in sizes), default=0)
        # One that has no room for the smallest stands where no search for room comes by.
        empty = free.cpus + _EPSILON < cpus or free.memory_bytes < memory
        key = (_NOTHING if empty else free.cpus, free.memory_bytes, place.name)
        group = (len(place.node.capacity.gpus), len(free.gpus), place.kind)
        insort(self._groups.setdefault(group, []), key)
        place.indexed = group, key

    def _take_out(self, place: Place) -> None:
        if place.indexed is None:
            return
        group, key = place.indexed
        order = self._groups[group]
        del order[bisect_left(order, key)]
        if not order:
            del self._groups[group]
        place.indexed = None

    def _kind(self, types: InstanceTypes) -> int:
        kind = self._kinds.get(types.sizes)
        if kind is None:
            kind = self._kinds[types.sizes] = len(self._sizes)
            self._sizes.append({name: (cpus, memory, gpus) for name, cpus, memory, gpus in types.sizes})
        return kind


def _able(place: Place, name: str, storage_bytes: int) -> tuple[Place, Need] | None:
    need = place.types.need(name, storage_bytes) if place.ready else None
    return (place, need) if need is not None else None


def _share(free: NodeCapacity, need: Need) -> float:
    """How much of ``need`` is there, in parts of it; the scarcest counts."""
    parts = [free.cpus / need.cpus, free.memory_bytes / need.memory_bytes]
    if need.gpus:
        parts.append(len(free.gpus) / need.gpus)
    if need.storage_bytes:
        parts.append(free.storage_bytes / need.storage_bytes)
    return min(1.0, *parts)
