"""A cluster of Slurm as the node that all jobs run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from jobsphere.config import Settings
from jobsphere.domain.capacity import GIB, InstanceType, InstanceTypes, NodeCapacity
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.errors import FailedPreconditionError, UnavailableError
from jobsphere.domain.node_ports import Nodes
from jobsphere.machine import room
from jobsphere.runner.directories import Takers
from jobsphere.runner.slurm import SlurmNodes, SlurmRunner, SlurmSettings
from jobsphere.runner.slurm_commands import cluster_name, nodes_of, total
from jobsphere.wiring import parts


async def slurm_nodes(
    settings: Settings, takers: Takers, told: Mapping[str, str], stack: AsyncExitStack
) -> tuple[Nodes, ClusterTypes]:
    """The cluster, and what jobs may ask of it; ``stack`` closes it. ``told``: variables of its supervisors.

    Raises:
        FailedPreconditionError: Slurm does not answer, or has no such partition.
    """
    try:
        found, name = await nodes_of(settings.slurm_partition), await cluster_name()
    except UnavailableError as error:
        raise FailedPreconditionError(f"setting slurm_partition: {error.public}") from error
    if not found:
        raise FailedPreconditionError(
            f"setting slurm_partition: Slurm has no partition {settings.slurm_partition!r} with nodes; see `sinfo`"
        )
    shared = settings.node_dir
    volume = parts.storage_of(settings, shared)
    how = SlurmSettings(settings.slurm_partition, settings.slurm_args, settings.slurm_poll_s, settings.slurm_grace_s)
    runner = SlurmRunner(shared, name, takers, parts.node_command(shared, settings, volume), how, told)
    stack.push_async_callback(runner.close)
    capacity = replace(total(found), storage_bytes=room(volume))
    nodes = SlurmNodes(runner, capacity)
    return nodes, types_of(settings, found, nodes)


def types_of(settings: Settings, hosts: Sequence[NodeCapacity], nodes: Nodes) -> ClusterTypes:
    """The types that there are: as set, else the vendor's, scaled down to the largest node, for no job has two.

    ``hosts``: what each of Slurm's nodes has; ``nodes``: all of them as one.
    """
    if settings.instance_types:
        table = [
            InstanceType(name, kind.cpus, int(kind.memory_gb * GIB), kind.gpus)
            for name, kind in settings.instance_types.items()
        ]
    else:
        largest = max(hosts, key=lambda node: (len(node.gpus), node.cpus, node.memory_bytes))
        scaled = InstanceTypes(largest, None, settings.jobs_at_once).offered()
        table = [InstanceType(n.instance_type, n.cpus, n.memory_bytes, n.gpus) for n in scaled]

    def of(capacity: NodeCapacity) -> InstanceTypes:
        return InstanceTypes(capacity, table, settings.jobs_at_once, settings.job_pids)

    return ClusterTypes(nodes.all, of, [kind.name for kind in table])
