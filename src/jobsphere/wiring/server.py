"""A server from its settings: what is started in which order, and stopped in the opposite one."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
from aiohttp.web import Application

from jobsphere.api.audit import Origins
from jobsphere.api.proxy import Proxy
from jobsphere.api.registrar import Registrar
from jobsphere.api.rest import RestMount, RestSettings
from jobsphere.api.server import GrpcServer
from jobsphere.api.tls import ensure_certificates
from jobsphere.config import Settings
from jobsphere.domain.node_ports import Nodes
from jobsphere.engine.engine import Engine
from jobsphere.engine.upkeep import keep_up
from jobsphere.metrics import CONTENT_TYPE, Gauges, NodeGauges
from jobsphere.private import keep_private
from jobsphere.runner import cgroups
from jobsphere.serverfile import ServerInfo, only_server, publish
from jobsphere.service.jobs import Jobs
from jobsphere.web.app import build_app, serve
from jobsphere.web.metrics import MetricsMount
from jobsphere.web.pages import Leader, token_of
from jobsphere.wiring.adapters import Adapters, open_adapters
from jobsphere.wiring.desk import local_subject
from jobsphere.wiring.environments import keep_environments, keep_images
from jobsphere.wiring.leading import Turn, claim_shared
from jobsphere.wiring.pages import pages_of
from jobsphere.wiring.ray import check_ray
from jobsphere.wiring.usecases import UseCases, use_cases

_UPKEEP_S = 300.0
_STOP_GRACE_S = 3.0
log = structlog.get_logger()


class Server:
    """A running server: entering starts it and binds its ports, leaving stops it. Attempts run on.

    Raises:
        AlreadyExistsError: another server holds the data directory.
        OSError, UnavailableError: a port cannot be bound.
    """

    info: ServerInfo

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._ready = False
        self._engine: Engine | None = None
        self._jobs: Jobs | None = None
        self._grpc: GrpcServer | None = None
        self._turn: Turn | None = None

    @property
    def running_jobs(self) -> int:
        """How many jobs are under way; they go on when the server stops."""
        return self._engine.running if self._engine else 0

    @property
    def leads(self) -> bool:
        """Whether this is the one server of its database that moves jobs on."""
        return self._turn is not None and self._turn.leads()

    async def _leader(self) -> Leader | None:
        return await self._turn.leader() if self._turn is not None else None

    async def __aenter__(self) -> Server:
        """Start: adapters first, then the engine, then what clients can reach."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop in the opposite order: streams end so that their readers come back to the next server."""
        await self._drain()
        await self._stack.aclose()

    async def _drain(self) -> None:
        """Take no new jobs, say so to whoever asks, and give them the time to hear it; others may lead from now on."""
        self._ready = False
        if self._turn is not None and self._turn.shared:
            await self._turn.give_up()
        if self._grpc is not None and self._jobs is not None:
            self._jobs.drain()
            await self._grpc.set_serving(False)
            await asyncio.sleep(self._settings.drain_s)

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        data_dir = settings.data_dir.expanduser().absolute()
        check_ray(settings)
        for folder in (data_dir, settings.shared):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(only_server(data_dir))
        for path in (*keep_private(data_dir), *keep_private(settings.shared)):
            log.warning("others could read this; from now on they cannot", path=str(path))
        http = stack.enter_context(socket.create_server((settings.host, settings.http_port), family=_family(settings)))
        http_url = f"http://{_in_url(settings.client_host)}:{http.getsockname()[1]}"
        adapters = await open_adapters(settings, data_dir, http_url, stack)
        if reason := cgroups.why_not():
            log.warning("nothing holds jobs to the CPUs, memory and processes of their instance type", reason=reason)
        self._turn = turn = Turn(settings, adapters)
        cases = use_cases(settings, adapters, turn.leads)
        first = await cases.desk.projects.ensure_default(local_subject())
        await claim_shared(settings, data_dir, adapters.store)
        await self._start_engine(data_dir, adapters, cases, turn)
        grpc_port, proxy_port = await self._serve(data_dir, adapters, cases, http, http_url)
        self.info = ServerInfo(
            os.getpid(),
            settings.client_host,
            grpc_port,
            proxy_port,
            http.getsockname()[1],
            settings.tokens_required,
            first.id,
        )
        publish(data_dir, self.info)
        self._ready = True

    async def _start_engine(self, data_dir: Path, adapters: Adapters, cases: UseCases, turn: Turn) -> None:
        """From here on jobs move, by this server or another; what is unused here is removed by and by."""
        settings, hints = self._settings, adapters.store.hints
        await adapters.blob_parts.claim()
        self._stack.push_async_callback(turn.give_up)
        await turn.take(cases)
        hints.subscribe(cases.changed_elsewhere, cases.engine.look_at_everything, cases.readers.heard)
        self._engine = cases.engine
        upkeep = [
            keep_up(lambda: asyncio.to_thread(keep_environments, settings.node_dir, settings), _UPKEEP_S),
            keep_up(lambda: asyncio.to_thread(keep_images, data_dir, settings), _UPKEEP_S),
            keep_up(lambda: asyncio.to_thread(adapters.blob_parts.trim), _UPKEEP_S),
        ]
        for work in upkeep:
            self._stack.callback(asyncio.create_task(work).cancel)

    async def _serve(
        self, data_dir: Path, adapters: Adapters, cases: UseCases, http: socket.socket, http_url: str
    ) -> tuple[int, int]:
        """Let clients in; the ports of gRPC and of the proxy."""
        settings, stack, services = self._settings, self._stack, cases.services
        hosts = (settings.host, settings.public_host) if settings.public_host else (settings.host,)
        tls = ensure_certificates(settings.shared / "tls", hosts, own=data_dir / "tls")
        origins = Origins()
        grpc = GrpcServer(services, origins, adapters.meter, tracer=adapters.tracer)
        self._jobs, self._grpc = services.jobs, grpc
        grpc_port = await grpc.start(settings.host, settings.grpc_port, tls, settings.client_host)
        stack.push_async_callback(grpc.stop, _STOP_GRACE_S)
        web = await serve(self._app(data_dir, adapters, cases, grpc.registrar), http)
        stack.push_async_callback(web.cleanup)
        # Before the web server stops: its streams of logs must end by themselves.
        stack.callback(services.logs.shut_down)
        proxy = Proxy((_reachable(settings.host), grpc_port), tls, origins=origins, pages=http_url)
        proxy_port = await proxy.start(settings.host, settings.proxy_port)
        stack.push_async_callback(proxy.stop)
        return grpc_port, proxy_port

    def _app(self, data_dir: Path, adapters: Adapters, cases: UseCases, registrar: Registrar) -> Application:
        settings, services, meter = self._settings, cases.services, adapters.meter
        rest = RestMount(registrar, RestSettings(cases.changes.wait, token_of, settings.tokens_required))
        pages = pages_of(settings, data_dir, adapters, cases, registrar, self._leader)
        metrics = MetricsMount(
            lambda: meter.exposition(_gauges(cases.engine, adapters.nodes, data_dir, leads=self.leads)),
            CONTENT_TYPE,
            services.identity.authenticate,
        )
        return build_app(
            adapters.signer,
            adapters.blobs,
            lambda: self._ready,
            lambda: self.leads,
            known=adapters.store.get_project,
            admit=cases.quotas.uploading,
            settle=cases.data.settle,
            parts=(rest, metrics, pages),
            names=_host_names(settings),
            meter=meter,
        )


def _gauges(engine: Engine, nodes: Nodes, data_dir: Path, *, leads: bool) -> Gauges:
    free, known = engine.free(), nodes.all().values()
    return Gauges(
        running=engine.running,
        waiting=engine.waiting,
        nodes=[NodeGauges(node, free.get(node.name, node.capacity)) for node in known],
        disk_free=shutil.disk_usage(data_dir).free,
        leads=leads,
    )


def _family(settings: Settings) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in settings.host else socket.AF_INET


def _reachable(host: str) -> str:
    """The address by which this process reaches its own port on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _host_names(settings: Settings) -> frozenset[str] | None:
    """The names by which browsers may call a server that asks for no tokens."""
    return None if settings.tokens_required else frozenset({settings.host, settings.client_host, platform.node()})


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
