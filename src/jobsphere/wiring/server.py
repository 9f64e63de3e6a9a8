"""A server from its settings: which port has which adapter."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from jobsphere.api.audit import Origins
from jobsphere.api.codec import encode_job
from jobsphere.api.proxy import Proxy
from jobsphere.api.rest import RestMount, RestSettings
from jobsphere.api.server import GrpcServer, Services
from jobsphere.api.tls import TlsFiles, ensure_certificates
from jobsphere.blob.datasets import FOLDER as DATASETS
from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.project_disk import ProjectDisk, remove_disks
from jobsphere.blob.signing import HmacUrlSigner
from jobsphere.config import Settings
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.engine.engine import Engine
from jobsphere.engine.products import Products
from jobsphere.engine.provisions import Provisioner
from jobsphere.engine.retention import Retention
from jobsphere.engine.upkeep import keep_up
from jobsphere.machine import instance_types_of
from jobsphere.metrics import CONTENT_TYPE, Metrics, NodeGauges
from jobsphere.private import keep_private
from jobsphere.runner import cgroups
from jobsphere.runner.generation import generation_of
from jobsphere.runner.local import LocalRunner
from jobsphere.serverfile import ServerInfo, only_server, publish
from jobsphere.service.artifacts import Artifacts
from jobsphere.service.changes import Changes
from jobsphere.service.connectors import Connectors
from jobsphere.service.data import JobData
from jobsphere.service.datasets import Datasets
from jobsphere.service.identity import Identity
from jobsphere.service.images import ImageResources, ProjectImages
from jobsphere.service.jobs import Jobs
from jobsphere.service.logs import Logs, Readers
from jobsphere.service.quotas import Quotas
from jobsphere.service.resources import Backing
from jobsphere.service.tokens import Tokens
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.store.usage import SqliteJobCounts
from jobsphere.system import RandomIds, SystemClock
from jobsphere.web.app import build_app, serve
from jobsphere.web.metrics import MetricsMount
from jobsphere.web.pages import token_of
from jobsphere.wiring import parts
from jobsphere.wiring.blobs import SWEEP_S, blobs_of
from jobsphere.wiring.desk import desk_of, drop_files, local_subject
from jobsphere.wiring.environments import keep_to_budget
from jobsphere.wiring.keys import secret_key
from jobsphere.wiring.pages import pages_of

_LOOK_AGAIN_S = 5.0
_RETENTION_S = 60.0
_UPKEEP_S = 300.0
_EXPIRY_S = 3600.0
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

    @property
    def running_jobs(self) -> int:
        """How many jobs are under way; they go on when the server stops."""
        return self._engine.running if self._engine else 0

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
        """Take no new jobs, say so to whoever asks, and give them the time to hear it."""
        self._ready = False
        if self._grpc is not None and self._jobs is not None:
            self._jobs.drain()
            await self._grpc.set_serving(False)
            await asyncio.sleep(self._settings.drain_s)

    async def _start(self) -> None:
        settings, stack = self._settings, self._stack
        data_dir = settings.data_dir.expanduser().absolute()
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        stack.enter_context(only_server(data_dir))
        for path in keep_private(data_dir):
            log.warning("others could read this; from now on they cannot", path=str(path))
        clock, ids, changes = SystemClock(), RandomIds(), Changes()
        readers = Readers(clock)
        key = secret_key(data_dir)

        meter = Metrics()
        store = SqliteJobStore.open(data_dir / "jobsphere.db", encode_job, meter=meter)
        stack.push_async_callback(store.close)
        blob_parts = blobs_of(settings, data_dir, store)
        blobs = blob_parts.store
        keys = parts.keys_of(settings, data_dir)
        keys.box()  # a key that is none is told now
        volume = parts.storage_of(settings, data_dir)
        command = parts.node_command(data_dir, settings, volume)
        generation = generation_of(command)
        command += ["--generation", generation]
        told = keys.for_node() | blob_parts.for_node
        runner = LocalRunner(data_dir, platform.node() or "local", command, told, generation)
        stack.push_async_callback(runner.close)
        http = stack.enter_context(socket.create_server((settings.host, settings.http_port), family=_family(settings)))
        http_port = http.getsockname()[1]
        http_url = f"http://{_in_url(settings.client_host)}:{http_port}"
        signer = HmacUrlSigner(key, http_url, clock)

        data = JobData(store, blobs, runner, clock)
        desk = desk_of(store, lambda project_id, attempts: drop_files(data, data_dir, project_id, attempts))
        access = desk.access
        tokens, provider = Tokens(key, clock), parts.provider_of(settings)
        identity = Identity(tokens, settings.tokens_required, local_subject().id, desk.account_store, clock, provider)
        retention = Retention(store, clock, data.clear, _RETENTION_S)
        dataset_files = LocalDatasets(data_dir / DATASETS)
        images = ProjectImages(parts.images_of(settings, keys), store.resources)
        types = instance_types_of(settings, volume)
        if reason := cgroups.why_not():
            log.warning("nothing holds jobs to the CPUs, memory and processes of their instance type", reason=reason)
        quotas = Quotas(parts.quota_of(settings), store, store.beside(SqliteJobCounts), blobs, store.resources)
        artifacts = Artifacts(blobs, blob_parts.transfers(signer, clock, quotas, data), clock)
        engine = Engine(
            store,
            runner,
            blobs,
            clock,
            retention,
            changes.publish,
            types,
            _LOOK_AGAIN_S,
            Provisioner(
                store.resources,
                images,
                lambda p: ProjectDisk(data_dir, p).folder(),
                dataset_files,
                settings.mask_secrets,
                parts.s3_mode_of(settings),
            ),
            Products(store.resources, dataset_files, runner, clock),
            parts.sandbox_of(settings),
            running_at_once=quotas.running,
        )
        jobs = Jobs(
            store,
            artifacts,
            data,
            access,
            changes,
            readers,
            clock,
            ids,
            engine.wake,
            images,
            types,
            store.resources,
            quotas,
        )
        logs = Logs(store, runner, access, changes, readers)
        first = await desk.projects.ensure_default(local_subject())
        await blob_parts.claim()
        backing = Backing(store.resources, store, access, clock, ids)
        datasets = Datasets(backing, dataset_files)
        await datasets.sweep()
        remove_disks(data_dir, {project.id for project in await store.list_projects()})
        await engine.start()
        stack.push_async_callback(engine.stop)
        self._engine = engine
        upkeep = [
            asyncio.create_task(keep_up(lambda: asyncio.to_thread(keep_to_budget, data_dir, settings), _UPKEEP_S)),
            asyncio.create_task(keep_up(lambda: asyncio.to_thread(blob_parts.trim), _UPKEEP_S)),
            asyncio.create_task(keep_up(lambda: blob_parts.sweep(data), SWEEP_S)),
        ]
        if (days := settings.audit_days) is not None:
            upkeep.append(asyncio.create_task(keep_up(lambda: desk.audit.expire(days), _EXPIRY_S)))
        for task in upkeep:
            stack.callback(task.cancel)

        hosts = (settings.host, settings.public_host) if settings.public_host else (settings.host,)
        tls = ensure_certificates(data_dir / "tls", hosts)
        services = Services(
            jobs,
            jobs.operations,
            logs,
            desk.projects,
            desk.communities,
            desk.grants,
            identity,
            desk.audit,
            datasets,
            Connectors(backing),
            ImageResources(backing, keys),
        )
        origins = Origins()
        grpc = GrpcServer(services, origins, meter)
        self._jobs, self._grpc = jobs, grpc
        grpc_port = await self._serve_grpc(grpc, tls)
        rest = RestMount(grpc.registrar, RestSettings(changes.wait, token_of, settings.tokens_required))
        pages = pages_of(settings, data_dir, store, desk, services, keys, types, grpc.registrar, key)
        metrics = MetricsMount(
            lambda: meter.exposition(_gauges(engine, types.node, data_dir)), CONTENT_TYPE, identity.authenticate
        )
        mounts, names = (rest, metrics, pages), _host_names(settings)
        app = build_app(
            signer,
            blobs,
            lambda: self._ready,
            known=store.get_project,
            admit=quotas.uploading,
            settle=data.settle,
            parts=mounts,
            names=names,
            meter=meter,
        )
        web = await serve(app, http)
        stack.push_async_callback(web.cleanup)
        # Before the web server stops: its streams of logs must end by themselves.
        stack.callback(logs.shut_down)
        proxy = Proxy((_reachable(settings.host), grpc_port), tls, origins=origins, pages=http_url)
        proxy_port = await proxy.start(settings.host, settings.proxy_port)
        stack.push_async_callback(proxy.stop)

        self.info = ServerInfo(
            os.getpid(), settings.client_host, grpc_port, proxy_port, http_port, settings.tokens_required, first.id
        )
        publish(data_dir, self.info)
        self._ready = True

    async def _serve_grpc(self, server: GrpcServer, tls: TlsFiles) -> int:
        settings = self._settings
        port = await server.start(settings.host, settings.grpc_port, tls, settings.client_host)
        self._stack.push_async_callback(server.stop, _STOP_GRACE_S)
        return port


def _gauges(engine: Engine, node: NodeCapacity, data_dir: Path) -> NodeGauges:
    free = engine.free
    return NodeGauges(
        running=engine.running,
        waiting=engine.waiting,
        cpus=node.cpus,
        cpus_free=free.cpus,
        memory=node.memory_bytes,
        memory_free=free.memory_bytes,
        gpus=len(node.gpus),
        gpus_free=len(free.gpus),
        disk_free=shutil.disk_usage(data_dir).free,
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
