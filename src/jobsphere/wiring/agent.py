"""An agent from its settings: this machine as a node of a cluster."""

from __future__ import annotations

import asyncio
import platform
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import structlog

from jobsphere.api.tls import ensure_certificates
from jobsphere.blob.datasets import FOLDER as DATASETS
from jobsphere.blob.datasets import LocalDatasets
from jobsphere.cluster.registry import Registration, Registry, checked_name
from jobsphere.cluster.serving import build_agent_app, serve_agent
from jobsphere.cluster.trust import agent_token, answering_context
from jobsphere.config import Settings
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.engine.upkeep import keep_up
from jobsphere.machine import capacity_of
from jobsphere.private import keep_private
from jobsphere.runner import cgroups
from jobsphere.runner.local import LocalRunner
from jobsphere.serverfile import only_server
from jobsphere.wiring import parts
from jobsphere.wiring.blobs import NodeBlobs, blobs_of_node
from jobsphere.wiring.environments import keep_environments, keep_images
from jobsphere.wiring.keys import secret_key
from jobsphere.wiring.node_runner import open_local_runner

_UPKEEP_S = 300.0
_REGISTERED_S = 5.0
_CERTIFICATE_S = 24 * 3600.0
_EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104
log = structlog.get_logger()


class Agent:
    """A running agent: entering starts it, leaving stops it. Attempts run on, and the next start takes them up.

    Args:
        settings: ``shared_dir`` is another folder than ``data_dir``; ``host`` is where servers reach this node.
        name: The name of the node; by default that of the host.
        port: Where it answers; 0 picks a free port.

    Raises:
        AlreadyExistsError: another process holds the data directory, or another agent the name.
        FailedPreconditionError: a setting that this host cannot meet.
        OSError: the port cannot be bound.
    """

    registration: Registration

    def __init__(self, settings: Settings, name: str = "", port: int = 0) -> None:
        self._settings = settings
        self._name = checked_name(name or platform.node() or "local")
        self._port = port
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Agent:
        """Start: the runner first, then what servers can reach, and last they are told of it."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop in the opposite order."""
        await self._stack.aclose()

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        data_dir = settings.data_dir.expanduser().absolute()
        if data_dir == settings.shared:
            raise FailedPreconditionError(
                "setting shared_dir: it is to be the folder that all servers and nodes share, and not this node's own "
                "--data-dir; name it by --shared-dir"
            )
        for folder in (data_dir, settings.shared):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(only_server(data_dir))
        for path in (*keep_private(data_dir), *keep_private(settings.shared)):
            log.warning("others could read this; from now on they cannot", path=str(path))
        if reason := cgroups.why_not():
            log.warning("nothing holds jobs to the CPUs, memory and processes of their instance type", reason=reason)
        blobs, volume = blobs_of_node(settings, data_dir), parts.storage_of(settings, data_dir)
        runner = await self._open_runner(data_dir, volume, blobs)
        port = await self._serve(data_dir, runner)
        url = f"https://{_in_url(_reached_at(settings))}:{port}"
        capacity = capacity_of(settings, volume)
        self.registration = Registration(self._name, url, capacity, datetime.now(UTC))
        registry = Registry(settings.shared)
        stack.enter_context(registry.register(self.registration))
        self._keep_up(data_dir, blobs, registry)

    async def _open_runner(self, data_dir: Path, volume: Path, blobs: NodeBlobs) -> LocalRunner:
        settings = self._settings
        keys = parts.keys_of(settings)
        secret_key(settings.shared)  # made if it is not there
        keys.box()  # a key that is none is told now
        datasets = LocalDatasets(settings.shared / DATASETS)
        told = keys.for_node() | blobs.for_node
        return await open_local_runner(settings, data_dir, self._name, volume, blobs.store, datasets, told, self._stack)

    async def _serve(self, data_dir: Path, runner: LocalRunner) -> int:
        """Let servers in; the port."""
        settings, stack = self._settings, self._stack

        def certified() -> Path:
            tls = ensure_certificates(settings.shared / "tls", (_reached_at(settings),), own=data_dir / "tls")
            return tls.server_pem

        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = stack.enter_context(socket.create_server((settings.host, self._port), family=family))
        context = answering_context(certified())
        served = await serve_agent(
            build_agent_app(runner, agent_token(secret_key(settings.shared))), listening, context
        )
        stack.push_async_callback(served.cleanup)

        async def renew() -> None:
            context.load_cert_chain(await asyncio.to_thread(certified))

        self._often(renew, _CERTIFICATE_S)
        return listening.getsockname()[1]

    def _keep_up(self, data_dir: Path, blobs: NodeBlobs, registry: Registry) -> None:
        """What is unused is removed by and by; and whoever removes what is said of this node has it said again."""
        settings = self._settings

        async def stay_registered() -> None:
            if not await asyncio.to_thread(registry.keep, self.registration):
                log.warning("this node was not registered any more; it is again", node=self._name)

        self._often(lambda: asyncio.to_thread(keep_environments, data_dir, settings), _UPKEEP_S)
        self._often(lambda: asyncio.to_thread(keep_images, data_dir, settings), _UPKEEP_S)
        self._often(lambda: asyncio.to_thread(blobs.trim), _UPKEEP_S)
        self._often(stay_registered, _REGISTERED_S)

    def _often(self, work: Callable[[], Awaitable[object]], interval_s: float) -> None:
        self._stack.callback(asyncio.create_task(keep_up(work, interval_s)).cancel)


def _reached_at(settings: Settings) -> str:
    """The host by which servers reach this node: as set, else the host's own name where it listens everywhere."""
    if settings.host in _EVERYWHERE and not settings.public_host:
        return platform.node()
    return settings.client_host


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
