"""Servers on every kind of database, blob store and node: what the main job's tests are run on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from itertools import product
from pathlib import Path

from tests.acceptance.test_bucket import settings as in_bucket
from tests.agents import LiveAgent
from tests.integration.s3_server import s3_service
from tests.live import LiveServer, wait_for
from tests.postgres import PASSWORD, postgres_server
from tests.ray_cluster import START_S, ray_cluster

PLACES = ["+".join(parts) for parts in product(("sqlite", "postgres"), ("local", "s3"), ("local", "ray"))]
NODE = "one"


@contextmanager
def live_place(name: str, folder: Path) -> Generator[LiveServer]:
    """A started server with all that it needs; ended with all of that.

    Args:
        name: One of :data:`PLACES`; ``agents`` in the place of ``ray`` is a node with an agent and without Ray.
        folder: An empty folder.
    """
    database, blobs, nodes = name.split("+")
    with ExitStack() as stack:
        environ: dict[str, str] = {}
        if database == "postgres":
            postgres = stack.enter_context(postgres_server())
            environ["JOBSPHERE_DATABASE_URL"] = postgres.url(postgres.new_database())
            environ["JOBSPHERE_DATABASE_PASSWORD"] = PASSWORD
        service = stack.enter_context(s3_service()) if blobs == "s3" else None
        if service is not None:
            environ |= in_bucket(folder, service)
        on_nodes, node_dir = _NODES[nodes](folder, environ, stack)
        server = LiveServer(folder / "data", environ=environ | on_nodes, node_dir=node_dir, service=service)
        stack.callback(server.end_all)
        server.start()
        if node_dir is not None:
            wait_for((server.shared / "nodes" / f"{NODE}.json").exists, "the node has its agent", START_S)
        yield server


def _no_node(_folder: Path, _environ: dict[str, str], _stack: ExitStack) -> tuple[dict[str, str], None]:
    return {}, None


def _agent(folder: Path, environ: dict[str, str], stack: ExitStack) -> tuple[dict[str, str], Path]:
    agent = LiveAgent(folder / NODE, folder / "shared", NODE, environ)
    stack.callback(agent.end_all)
    agent.start()
    return {"JOBSPHERE_SHARED_DIR": str(folder / "shared")}, agent.data_dir


def _ray(folder: Path, _environ: dict[str, str], stack: ExitStack) -> tuple[dict[str, str], Path]:
    cluster = stack.enter_context(ray_cluster())
    cluster.start_node(NODE)
    environ = {name: value for name, value in cluster.environ.items() if name.startswith("RAY_")}
    environ |= {
        "JOBSPHERE_SHARED_DIR": str(folder / "shared"),
        "JOBSPHERE_RAY_ADDRESS": cluster.address,
        "JOBSPHERE_RAY_DATA_DIR": str(cluster.folder / "nodes"),
    }
    return environ, cluster.folder / "nodes" / NODE


_NODES = {"local": _no_node, "agents": _agent, "ray": _ray}
