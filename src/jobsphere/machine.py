"""What this machine has for jobs: measured, unless the operator says otherwise."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from jobsphere.config import Settings
from jobsphere.domain.capacity import GIB, InstanceType, InstanceTypes, NodeCapacity
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.node_ports import Nodes

_FOR_JOBS = 0.9
"""The part of the memory that jobs get; the rest is the server's and the system's."""
_CGROUPS = Path("/sys/fs/cgroup")
_GPU = re.compile(r"nvidia([0-9]+)")


def cluster_types_of(settings: Settings, nodes: Nodes) -> ClusterTypes:
    """The types that jobs may ask for, by what these nodes have."""
    table = [
        InstanceType(name, kind.cpus, int(kind.memory_gb * GIB), kind.gpus)
        for name, kind in settings.instance_types.items()
    ]

    def of(capacity: NodeCapacity) -> InstanceTypes:
        return InstanceTypes(capacity, table or None, settings.jobs_at_once, settings.job_pids)

    return ClusterTypes(nodes.all, of, [kind.name for kind in table])


def capacity_of(settings: Settings, volume: Path) -> NodeCapacity:
    """What this node has, as set or as found. ``volume``: where extended working storage lies, an existing folder."""
    gpus = settings.node_gpus if settings.node_gpus is not None else gpus_of(Path("/dev"))
    memory = settings.node_memory_gb * GIB if settings.node_memory_gb else memory_bytes() * _FOR_JOBS
    return NodeCapacity(settings.node_cpus or cpus(), int(memory), gpus, room(volume))


def cpus() -> float:
    """The CPUs that this process may use, by its affinity and the quota of the container that it may be in."""
    return float(min([len(os.sched_getaffinity(0)), *_quotas()]))


def memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """All memory, or less if the container that this process may be in is limited to less."""
    total = int(re.search(r"MemTotal:\s+([0-9]+) kB", meminfo.read_text())[1]) * 1024  # type: ignore[index]
    limits = (_number(_CGROUPS / name) for name in ("memory.max", "memory/memory.limit_in_bytes"))
    return min([total, *(limit for limit in limits if limit)])


def gpus_of(devices: Path) -> tuple[int, ...]:
    """The indices of the NVIDIA GPUs, by their device nodes."""
    return tuple(sorted(int(m[1]) for name in os.listdir(devices) if (m := _GPU.fullmatch(name))))


def room(volume: Path) -> int:
    """The room for new files on the volume that ``volume`` lies on, in bytes."""
    return shutil.disk_usage(volume).free


def _quotas() -> Iterator[float]:
    try:
        quota, period = (_CGROUPS / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    except (OSError, ValueError):
        quota = _number(_CGROUPS / "cpu/cpu.cfs_quota_us")
        period = _number(_CGROUPS / "cpu/cpu.cfs_period_us")
        if quota and period:
            yield quota / period


def _number(path: Path) -> int | None:
    """A positive number; None for what is no limit."""
    try:
        value = int(path.read_text())
    except (OSError, ValueError):
        return None
    return value if value > 0 else None
