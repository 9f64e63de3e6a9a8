"""Instance types and what a node has of them: what a job may ask for, what it is given, and what is left.

The vendor's types are the sizes of virtual machines. An operator may give a table of types, which are then given in
full or not at all; without one, the vendor's types are scaled down to the machine, so that any job can be tried here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

GIB = 1 << 30
DEFAULT_JOBS_AT_ONCE = 4
DEFAULT_PIDS = 4096
_ROUNDING = 1e-6
_GRAIN = GIB // 16
"""Memory is scaled in steps of it: machines of one make, whose memory differs by a little, give types of one size."""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """A named machine shape: CPUs, bytes of memory, whole GPUs."""

    name: str
    cpus: float
    memory_bytes: int
    gpus: int = 0


VENDOR_TYPES: tuple[InstanceType, ...] = (
    InstanceType("c1.4", 4, 32 * GIB),
    InstanceType("c1.8", 8, 64 * GIB),
    InstanceType("c1.32", 32, 128 * GIB),
    InstanceType("c1.80", 80, 160 * GIB),
    InstanceType("g1.1", 8, 96 * GIB, 1),
    InstanceType("g1.2", 16, 192 * GIB, 2),
    InstanceType("g1.4", 32, 384 * GIB, 4),
    InstanceType("g2.mig", 4, 18 * GIB, 1),
    InstanceType("g2.1", 28, 119 * GIB, 1),
    InstanceType("g2.2", 56, 238 * GIB, 2),
    InstanceType("g2.4", 112, 476 * GIB, 4),
    InstanceType("g2.8", 224, 952 * GIB, 8),
)
"""The vendor's published names with their nominal sizes; the first is the smallest and the default."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the program may use of its node.

    ``gpus``: the indices of the node's GPUs that are its own. ``cpu_burst``: ``cpus`` is its share when all are busy,
    and it may use more while others leave theirs idle. ``storage_bytes``: the quota of its working directory, if it
    asked for extended working storage; else 0, for none.
    """

    cpus: float
    memory_bytes: int
    pids: int = DEFAULT_PIDS
    gpus: tuple[int, ...] = ()
    cpu_burst: bool = False
    storage_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Need:
    """One of the shapes that would do for a job. ``note`` tells how it differs from what was asked for."""

    instance_type: str
    cpus: float
    memory_bytes: int
    gpus: int = 0
    storage_bytes: int = 0
    note: str = ""

    def words(self) -> str:
        """``c1.8 (8 CPUs, 64 GiB of memory)``."""
        gpus = f", {self.gpus} GPU{'s' * (self.gpus != 1)}" if self.gpus else ""
        storage = f", {gib(self.storage_bytes)} of working storage" if self.storage_bytes else ""
        return f"{self.instance_type} ({_cpus(self.cpus)}, {gib(self.memory_bytes)} of memory{gpus}{storage})"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a job was given: the type's name, the limits, how these differ from what the name promises, and where."""

    instance_type: str
    limits: Limits
    note: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """What a node has for jobs, or has left of it.

    ``gpus``: their indices; ``storage_bytes``: the room for extended working storage.
    """

    cpus: float
    memory_bytes: int
    gpus: tuple[int, ...] = ()
    storage_bytes: int = 0

    def fits(self, need: Need) -> bool:
        """Whether all of ``need`` is there."""
        return (
            need.cpus <= self.cpus + _ROUNDING
            and need.memory_bytes <= self.memory_bytes
            and need.gpus <= len(self.gpus)
            and need.storage_bytes <= self.storage_bytes
        )

    def without(self, limits: Limits) -> NodeCapacity:
        """What is left when they are given, never less than nothing."""
        return NodeCapacity(
            max(self.cpus - limits.cpus, 0.0),
            max(self.memory_bytes - limits.memory_bytes, 0),
            tuple(gpu for gpu in self.gpus if gpu not in limits.gpus),
            max(self.storage_bytes - limits.storage_bytes, 0),
        )

    def reserving(self, need: Need) -> NodeCapacity:
        """What others may have while ``need`` waits for the rest of it."""
        return self.without(
            Limits(need.cpus, need.memory_bytes, gpus=self.gpus[: need.gpus], storage_bytes=need.storage_bytes)
        )

    @property
    def exhausted(self) -> bool:
        """Whether nothing can fit any more."""
        return self.cpus <= _ROUNDING or self.memory_bytes <= 0


class InstanceTypes:
    """The types that a node offers.

    Args:
        node: What it has.
        table: The operator's types, given in full; None: the vendor's, scaled down to the node.
        jobs_at_once: Vendor's types are scaled so that so many jobs of the smallest fit at a time.
        pids: How many processes and threads a job may have.
    """

    def __init__(
        self,
        node: NodeCapacity,
        table: Sequence[InstanceType] | None = None,
        jobs_at_once: int = DEFAULT_JOBS_AT_ONCE,
        pids: int = DEFAULT_PIDS,
    ) -> None:
        self.node = node
        self._scaled = table is None
        self._pids = pids
        every = [_full(kind) for kind in table] if table is not None else _scaled(node, jobs_at_once)
        self.sizes = tuple((n.instance_type, n.cpus, n.memory_bytes, n.gpus) for n in every)
        """What the types are here, whether or not there is so much: nodes of equal ones are compared by their room."""
        self._needs = {n.instance_type: n for n in every if node.fits(n)}

    def offered(self) -> list[Need]:
        """All that some job could be given."""
        return list(self._needs.values())

    def need(self, name: str, storage_bytes: int = 0) -> Need | None:
        """What a job of this type takes here; None if it can never be given."""
        need = self._needs.get(name)
        if need is None or not storage_bytes:
            return need
        need = self._with_storage(need, storage_bytes)
        return need if self.node.fits(need) else None

    def needs(self, names: Sequence[str], storage_bytes: int = 0) -> list[Need]:
        """The shapes that would do for a job, the best first; empty if it can never run here."""
        return [need for name in names if (need := self.need(name, storage_bytes)) is not None]

    def grant(self, free: NodeCapacity, need: Need) -> Grant | None:
        """What ``need`` would be given of what is free; None if it does not fit."""
        if not free.fits(need):
            return None
        burst = self._scaled and need.cpus < self.node.cpus
        gpus = free.gpus[: need.gpus]
        limits = Limits(need.cpus, need.memory_bytes, self._pids, gpus, burst, need.storage_bytes)
        return Grant(need.instance_type, limits, need.note)

    def _with_storage(self, need: Need, asked: int) -> Need:
        if not asked:
            return need
        given = min(asked, self.node.storage_bytes) if self._scaled else asked
        note = need.note
        if given < asked:
            note += f"{'; ' if note else ''}{gib(given)} of working storage instead of {gib(asked)}"
        return replace(need, storage_bytes=given, note=note)


def _full(kind: InstanceType) -> Need:
    return Need(kind.name, kind.cpus, kind.memory_bytes, kind.gpus)


def _scaled(node: NodeCapacity, jobs_at_once: int) -> list[Need]:
    """CPUs and memory each by one factor, the same for all types, and never more than there is."""
    node = replace(node, memory_bytes=node.memory_bytes // _GRAIN * _GRAIN or node.memory_bytes)
    smallest = VENDOR_TYPES[0]
    cpu_factor = min(1.0, node.cpus / jobs_at_once / smallest.cpus)
    memory_factor = min(1.0, node.memory_bytes / jobs_at_once / smallest.memory_bytes)
    return [_scale(kind, node, cpu_factor, memory_factor) for kind in VENDOR_TYPES]


def _scale(kind: InstanceType, node: NodeCapacity, cpu_factor: float, memory_factor: float) -> Need:
    cpus = min(math.floor(kind.cpus * cpu_factor * 1000) / 1000, node.cpus)
    memory = min(int(kind.memory_bytes * memory_factor), node.memory_bytes)
    gpus = min(kind.gpus, len(node.gpus))
    full = cpus == kind.cpus and memory == kind.memory_bytes and gpus == kind.gpus
    return Need(kind.name, cpus, memory, gpus, note="" if full else _note(kind, node, cpus, memory, gpus))


def _note(kind: InstanceType, node: NodeCapacity, cpus: float, memory: int, gpus: int) -> str:
    burst = f" (all {node.cpus:g} while they are idle)" if cpus < node.cpus else ""
    parts = [f"{_cpus(cpus)}{burst}", f"{gib(memory)} of memory"]
    if kind.gpus:
        parts.append(f"{gpus or 'no'} GPU{'s' * (gpus != 1)}")
    return f"scaled down to this machine: {', '.join(parts)}"


def _cpus(cpus: float) -> str:
    return f"{cpus:g} CPU{'s' * (cpus != 1)}"


def gib(size_bytes: int) -> str:
    """``5.4 GiB``."""
    return f"{size_bytes / GIB:.3g} GiB"
