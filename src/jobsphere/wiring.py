"""Where the server's objects are built and put together: the only place that knows which port has which adapter."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import shutil
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
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
from jobsphere.blob.local import LocalBlobStore
from jobsphere.blob.project_disk import ProjectDisk, remove_disks
from jobsphere.blob.signing import HmacUrlSigner
from jobsphere.config import Settings, load
from jobsphere.desk import desk_of, drop_files, local_subject
from jobsphere.domain.access_ports import IdentityProvider
from jobsphere.domain.attempt import S3Mode, SandboxPlan
from jobsphere.domain.capacity import GIB, NodeCapacity
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.quota import Quota
from jobsphere.engine.engine import Engine
from jobsphere.engine.products import Products
from jobsphere.engine.provisions import Provisioner
from jobsphere.engine.retention import Retention
from jobsphere.engine.upkeep import keep_up
from jobsphere.environments.eviction import StoredEnvironment, Trimmed, stored_environments, trim
from jobsphere.machine import instance_types_of
from jobsphere.metrics import CONTENT_TYPE, Metrics, NodeGauges
from jobsphere.private import keep_private
from jobsphere.runner import cgroups, fuse, sandbox
from jobsphere.runner.generation import generation_of
from jobsphere.runner.images import EngineImages, EngineSettings
from jobsphere.runner.local import LocalRunner
from jobsphere.secretbox import Keys
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
from jobsphere.wiring_pages import pages_of

_LOOK_AGAIN_S = 5.0
_RETENTION_S = 60.0
_UPKEEP_S = 300.0
_EXPIRY_S = 3600.0
_STOP_GRACE_S = 3.0
_KEY_BYTES = 32
log = structlog.get_logger()


def ca_file(data_dir: Path) -> Path:
    """The local certificate authority that clients of this data directory's server trust."""
    return data_dir / "tls" / "ca.pem"


def secret_key(data_dir: Path) -> bytes:
    """The 32 secret bytes that sign tokens and URLs; made at the first call, readable by the owner only."""
    path = data_dir / "key"
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        # Written aside and linked: of two that start at once one wins, and nobody ever reads a half-written key.
        aside = data_dir / f"key.{secrets.token_hex(8)}"
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    return path.read_bytes()


def issue_token(data_dir: Path, life: timedelta) -> str:
    """A token for the operator, good for ``life`` on every server of this data directory."""
    token, _ = Tokens(secret_key(data_dir), SystemClock()).issue(local_subject().id, life)
    return token


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
        self._ready = False
        await self._stack.aclose()

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
        blobs = LocalBlobStore(data_dir / "blobs")
        keys = keys_of(settings, data_dir)
        keys.box()  # a key that is none is told now
        volume = storage_of(settings, data_dir)
        command = node_command(data_dir, settings, volume)
        generation = generation_of(command)
        command += ["--generation", generation]
        runner = LocalRunner(data_dir, platform.node() or "local", command, keys.for_node(), generation)
        stack.push_async_callback(runner.close)
        http = stack.enter_context(socket.create_server((settings.host, settings.http_port), family=_family(settings)))
        http_port = http.getsockname()[1]
        http_url = f"http://{_in_url(settings.client_host)}:{http_port}"
        signer = HmacUrlSigner(key, http_url, clock)

        artifacts = Artifacts(blobs, signer, clock)
        data = JobData(store, blobs, runner, clock)
        desk = desk_of(store, lambda project_id, attempts: drop_files(data, data_dir, project_id, attempts))
        access = desk.access
        tokens, provider = Tokens(key, clock), provider_of(settings)
        identity = Identity(tokens, settings.tokens_required, local_subject().id, desk.account_store, clock, provider)
        retention = Retention(store, clock, data.clear, _RETENTION_S)
        dataset_files = LocalDatasets(data_dir / DATASETS)
        images = ProjectImages(images_of(settings, keys), store.resources)
        types = instance_types_of(settings, volume)
        if reason := cgroups.why_not():
            log.warning("nothing holds jobs to the CPUs, memory and processes of their instance type", reason=reason)
        quotas = Quotas(quota_of(settings), store, store.beside(SqliteJobCounts), blobs, store.resources)
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
                s3_mode_of(settings),
            ),
            Products(store.resources, dataset_files, runner, clock),
            sandbox_of(settings),
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
        await desk.projects.ensure_default(local_subject())
        await data.sweep()
        backing = Backing(store.resources, store, access, clock, ids)
        datasets = Datasets(backing, dataset_files)
        await datasets.sweep()
        remove_disks(data_dir, {project.id for project in await store.list_projects()})
        await engine.start()
        stack.push_async_callback(engine.stop)
        self._engine = engine
        upkeep = [asyncio.create_task(keep_up(lambda: asyncio.to_thread(_trim, data_dir, settings), _UPKEEP_S))]
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
        grpc_port = await self._serve_grpc(grpc, tls)
        rest = RestMount(grpc.registrar, RestSettings(changes.wait, token_of, settings.tokens_required))
        pages = pages_of(settings, data_dir, store, desk, services, keys, types, grpc.registrar, key)
        metrics = MetricsMount(
            lambda: meter.exposition(_gauges(engine, types.node, data_dir)), CONTENT_TYPE, identity.authenticate
        )
        parts, names = (rest, metrics, pages), _host_names(settings)
        app = build_app(
            signer,
            blobs,
            lambda: self._ready,
            known=store.get_project,
            admit=quotas.uploading,
            settle=data.settle,
            parts=parts,
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
            os.getpid(), settings.client_host, grpc_port, proxy_port, http_port, settings.tokens_required
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


def quota_of(settings: Settings) -> Quota:
    """What projects without a quota of their own may have."""
    size = None if settings.project_gb is None else int(settings.project_gb * GIB)
    return Quota(settings.project_jobs, size, settings.project_running, settings.project_queued)


def provider_of(settings: Settings) -> IdentityProvider | None:
    """Who verifies tokens of the OpenID provider, if one is set.

    Raises:
        FailedPreconditionError: it is not said for whom its tokens must be meant.
    """
    if not settings.oidc_issuer:
        return None
    if not settings.oidc_audience:
        raise FailedPreconditionError(
            "setting oidc_audience: is empty; set it to the client id that oidc_issuer knows this server by"
        )
    from jobsphere.oidc import OidcProvider, OidcSettings

    return OidcProvider(OidcSettings(settings.oidc_issuer, settings.oidc_audience, settings.oidc_subject_claim))


def sandbox_of(settings: Settings) -> SandboxPlan | None:
    """The fence for jobs, as set and as this host can.

    Raises:
        FailedPreconditionError: a sandbox is required, and this host cannot make one.
    """
    if settings.sandbox == "none":
        return None
    for path in settings.sandbox_read_only:
        if not (path.startswith("/") and Path(path).exists()):
            raise FailedPreconditionError(f"setting sandbox_read_only: {path!r} is not an absolute path that exists")
        shown, data = Path(path).resolve(), settings.data_dir.resolve()
        if shown.is_relative_to(data) or shown == Path("/"):
            raise FailedPreconditionError(
                f"setting sandbox_read_only: {path!r} is not for jobs to see; name folders outside of {data}"
            )
        if settings.working_storage and settings.working_storage.resolve().is_relative_to(shown):
            raise FailedPreconditionError(
                f"setting sandbox_read_only: {path!r} would show jobs each other's working_storage; name others"
            )
    reason = sandbox.why_not()
    if not reason:
        return SandboxPlan(settings.network, settings.sandbox_read_only)
    if settings.sandbox == "bubblewrap":
        raise FailedPreconditionError(f"jobs cannot be fenced in: {reason}; `--sandbox none` does without")
    log.warning(
        "JOBS ARE NOT FENCED IN: each can read and change all that this user can",
        reason=reason,
        to_accept_that="sandbox = 'none'",
    )
    return None


def s3_mode_of(settings: Settings) -> S3Mode:
    """How jobs get at buckets.

    Raises:
        FailedPreconditionError: it is to be by FUSE, and this host cannot mount any.
    """
    mode = S3Mode(settings.s3_mounts)
    if mode is S3Mode.FUSE and (reason := fuse.why_not()):
        raise FailedPreconditionError(f"setting s3_mounts: no bucket can be mounted: {reason}; 'auto' stages them then")
    return mode


def keys_of(settings: Settings, data_dir: Path) -> Keys:
    """The keys that seal secrets."""
    file = settings.secret_key_file
    return Keys(data_dir, file.expanduser().absolute() if file else None, os.environ)


def images_of(settings: Settings, keys: Keys) -> EngineImages:
    """The images that jobs may run in: the engine is looked for when the first of them asks."""
    known = {name: setting.image for name, setting in settings.images.items()}
    how = EngineSettings(
        settings.container_engine,
        settings.container_engine_args,
        settings.container_run_args,
        settings.image_pull == "always",
        settings.image_pull_timeout_s,
        settings.network,
    )
    return EngineImages(known, how, keys.seal)


def storage_of(settings: Settings, data_dir: Path) -> Path:
    """The folder of jobs with extended working storage.

    Raises:
        FailedPreconditionError: the one that is set is not there: its volume may not be mounted.
    """
    if settings.working_storage is None:
        folder = data_dir / "storage"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder
    if not settings.working_storage.is_dir():
        raise FailedPreconditionError(f"setting working_storage: there is no folder {str(settings.working_storage)!r}")
    return settings.working_storage.absolute()


def node_command(data_dir: Path, settings: Settings, volume: Path) -> list[str]:
    """The command of this node's spawner."""
    command = [sys.executable, "-I", "-m", "jobsphere.node", "--data-dir", str(data_dir)]
    command += ["--conda-channel-alias", settings.conda_channel_alias]
    command += ["--working-storage", str(volume)]
    for folder in settings.python_search_path:
        command += ["--python-search-path", folder]
    return command


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


def list_environments(data_dir: Path) -> Sequence[StoredEnvironment]:
    """The built environments, the one least lately used first."""
    return stored_environments(data_dir)


def prune_environments(data_dir: Path, max_gib: float | None) -> Trimmed:
    """Remove unused environments until ``max_gib`` (by default: as set) holds what is left."""
    budget = load({"data_dir": data_dir}).environment_cache_gb if max_gib is None else max_gib
    return trim(data_dir, int(budget * GIB))


def _trim(data_dir: Path, settings: Settings) -> None:
    gone = trim(data_dir, int(settings.environment_cache_gb * GIB))
    for environment in gone.environments:
        log.info("environment removed", environment=environment.fingerprint[:12], bytes=environment.size_bytes)
    if gone.cache_bytes:
        log.info("installers' caches removed", bytes=gone.cache_bytes)
