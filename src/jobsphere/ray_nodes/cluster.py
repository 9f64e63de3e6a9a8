"""The Ray cluster itself. The only module that imports ``ray``."""

# Ray is an extra: types are checked where it is not installed, too.
# pyright: reportMissingImports=false

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from jobsphere.domain.errors import FailedPreconditionError, UnavailableError
from jobsphere.ray_nodes.actor import AgentActor
from jobsphere.ray_nodes.plan import RayNode

NAMESPACE = "jobsphere"
_ACTOR = "jobsphere-agent-"
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # A head that is being restarted is waited for; by default Ray's library ends the process after a minute.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "3600",
}


class RayCluster:
    """A connection to the cluster. Everything here blocks, and for as long as Ray's head is away.

    Args:
        address: ``auto`` for the cluster that this host is a node of, or host:port of its head.

    Raises:
        FailedPreconditionError: Ray is not installed here, or this host is no node of that cluster.
        UnavailableError: the head cannot be reached.
    """

    def __init__(self, address: str) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ModuleNotFoundError as error:
            raise FailedPreconditionError(
                f"setting ray_address: the package {error.name} is not installed; install jobsphere[ray]"
            ) from error
        self._ray: Any = ray
        try:
            ray.init(
                address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="error", configure_logging=True
            )
        except ConnectionError as error:
            raise UnavailableError(f"setting ray_address: no Ray cluster answers at {address!r}: {error}") from error
        except (RuntimeError, ValueError, OSError) as error:
            raise FailedPreconditionError(
                f"setting ray_address: Ray cannot be joined at {address!r}. The host of a server must be a node of "
                f"the cluster, one that offers nothing will do: `ray start --address=HEAD:PORT --num-cpus=0 "
                f"--num-gpus=0`. Ray says: {error}"
            ) from error

    def nodes(self) -> Sequence[RayNode]:
        """All nodes that the head knows, also dead ones."""
        return [_node(found) for found in self._ray.nodes()]

    def agents(self) -> Collection[str]:
        """Ray's ids of the nodes that have an agent's actor: one that runs, starts again, or waits for room."""
        from ray.util import list_named_actors

        actors: Any = list_named_actors(all_namespaces=True)
        names = (actor["name"] for actor in actors if actor["namespace"] == NAMESPACE)
        return {name.removeprefix(_ACTOR) for name in names if name.startswith(_ACTOR)}

    def start(self, node: RayNode, arguments: Sequence[str], variables: Mapping[str, str]) -> None:
        """Have an agent on the node, unless there is one. It gets all that the node has, in Ray's own books.

        Returns at once: Ray places it as soon as the node has nothing else to do.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        has = node.resources
        self._ray.remote(AgentActor).options(
            name=f"{_ACTOR}{node.id}",
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
            num_cpus=has.get("CPU", 0),
            num_gpus=has.get("GPU", 0),
            memory=int(has.get("memory", 0)) or None,
        ).remote(list(arguments), dict(variables))

    def close(self) -> None:
        """Leave; the agents stay."""
        self._ray.shutdown()


def _node(found: Mapping[str, Any]) -> RayNode:
    why = str(found.get("DeathReasonMessage") or "")
    return RayNode(
        id=str(found["NodeID"]),
        name=str(found.get("NodeName") or found["NodeManagerAddress"]),
        alive=bool(found["Alive"]),
        resources={str(k): float(v) for k, v in found["Resources"].items()},
        why=why,
        address=str(found["NodeManagerAddress"]),
    )
