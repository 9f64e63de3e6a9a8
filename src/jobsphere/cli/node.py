"""``jobsphere node``: the nodes of a cluster, whether its servers run or not."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from jobsphere.cli.listing import show_all
from jobsphere.cli.options import DataDir, Json, data_dir_of
from jobsphere.domain.capacity import gib

if TYPE_CHECKING:
    from jobsphere.wiring.cluster import SeenNode

app = App(name="node", help="See and care for the nodes of a cluster.")


@app.command(name="list")
def list_(*, data_dir: DataDir = None, json_: Annotated[Json, Parameter(name="--json")] = False) -> None:
    """List the nodes, each with how it is as seen from here: ready, draining, away or lost.

    Parameters
    ----------
    data_dir
        The data directory of a server of the cluster.
    json_
        Print a JSON array instead of a table.
    """
    from jobsphere.wiring import cluster

    show_all(
        asyncio.run(cluster.list_nodes(data_dir_of(data_dir))),
        lambda node: asdict(node),
        ("Name", "Condition", "CPUs", "Memory", "GPUs", "Attempts", "Where", "Why"),
        _row,
        as_json=json_,
    )


@app.command
def drain(name: str, *, reason: str = "drained by an operator", data_dir: DataDir = None) -> None:
    """Give a node no new jobs. Those that it has go on.

    Parameters
    ----------
    name
        The name of the node.
    reason
        Why, for whoever lists the nodes.
    data_dir
        The data directory of a server of the cluster.
    """
    from jobsphere.wiring import cluster

    cluster.registry_of(data_dir_of(data_dir)).drain(name, reason)


@app.command
def undrain(name: str, *, data_dir: DataDir = None) -> None:
    """Let a node take jobs again: one that was drained, or one that was told to be lost and is not.

    Parameters
    ----------
    name
        The name of the node.
    data_dir
        The data directory of a server of the cluster.
    """
    from jobsphere.wiring import cluster

    cluster.registry_of(data_dir_of(data_dir)).restore(name)


@app.command
def lost(name: str, *, reason: str = "given up by an operator", data_dir: DataDir = None) -> None:
    """Give up a node that is gone for good: its jobs end with an error. If it comes back all the same, it stops them.

    Parameters
    ----------
    name
        The name of the node; also of one that is not listed any more.
    reason
        What happened; whoever waits for a job of that node reads it.
    data_dir
        The data directory of a server of the cluster.
    """
    from jobsphere.wiring import cluster

    cluster.registry_of(data_dir_of(data_dir)).lose(name, reason)


@app.command
def forget(name: str, *, data_dir: DataDir = None) -> None:
    """List a node no longer whose agent has ended for good. First give it up (`lost`), if jobs may still be on it.

    Parameters
    ----------
    name
        The name of the node.
    data_dir
        The data directory of a server of the cluster.
    """
    from jobsphere.wiring import cluster

    cluster.registry_of(data_dir_of(data_dir)).forget(name)


def _row(node: SeenNode) -> tuple[str, ...]:
    attempts = "" if node.attempts is None else str(node.attempts)
    gpus = str(len(node.gpus))
    return (node.name, node.condition, f"{node.cpus:g}", gib(node.memory_bytes), gpus, attempts, node.url, node.why)
