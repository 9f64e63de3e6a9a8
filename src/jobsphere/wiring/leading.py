"""What of a server's work only one of several may do, and whose the folder is that they share."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from jobsphere.blob.project_disk import disks_in, remove_disks
from jobsphere.config import Settings
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.node_ports import OneNode
from jobsphere.domain.replica_ports import Alone
from jobsphere.durable import Point, locked_file, write_private
from jobsphere.engine.leading import Leading
from jobsphere.engine.upkeep import cancelled, keep_up
from jobsphere.service.audit import OK, SERVER
from jobsphere.service.trail import Trail
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.leases import LIFE_S
from jobsphere.web.pages import Leader
from jobsphere.wiring.adapters import Adapters
from jobsphere.wiring.blobs import SWEEP_S
from jobsphere.wiring.ray import ray_nodes_kept
from jobsphere.wiring.usecases import UseCases

_LEASE = "engine"
_OWNER = "owner.json"
_EXPIRY_S = 3600.0
log = structlog.get_logger()


class Turn:
    """Whether this server leads: always, if no other can share its database.

    Made before the use cases, which ask it; :meth:`take` begins.
    """

    def __init__(self, settings: Settings, adapters: Adapters) -> None:
        self._settings = settings
        self._adapters = adapters
        self._leading: Leading | None = None
        self._task: asyncio.Task[None] | None = None
        self._alone = AsyncExitStack()

    def leads(self) -> bool:
        """Whether this server does now what only one may do."""
        return self._leading is None or self._leading.leads

    @property
    def shared(self) -> bool:
        """Whether other servers may lead."""
        return self._leading is not None

    async def leader(self) -> Leader | None:
        """Who leads now; None for a server that has no others beside it."""
        if self._leading is None:
            return None
        server, _, _ = (await self._adapters.store.leases.holder(_LEASE)).rpartition(":")  # without its id
        return Leader(server, self._leading.leads)

    async def take(self, cases: UseCases) -> None:
        """Lead from now on, or as soon as no other server does.

        Raises:
            FailedPreconditionError: another server leads, and this one's only node is itself: it could take up none of
                the other's jobs.
        """
        leases = self._adapters.store.leases
        if isinstance(leases, Alone):
            await self._alone.enter_async_context(lead(self._settings, self._adapters, cases))
            return
        self._leading = Leading(leases, _LEASE, LIFE_S, lambda: lead(self._settings, self._adapters, cases))
        if isinstance(self._adapters.nodes, OneNode) and not await self._leading.hold():
            raise FailedPreconditionError(
                "another server, with another data directory, works on this database, and each runs jobs on its own "
                f"machine: stop it first; once it is gone it keeps the database for {LIFE_S:.0f} s"
            )
        self._task = asyncio.create_task(self._leading.run())

    async def give_up(self) -> None:
        """Lead no more; another server may, at once. A repeat does nothing."""
        if self._task is not None and self._leading is not None:
            self._leading.stop()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._alone.aclose()


@asynccontextmanager
async def lead(settings: Settings, adapters: Adapters, cases: UseCases) -> AsyncGenerator[None]:
    """Do meanwhile what one server does for all: move jobs on, and remove what is nobody's, at once or by and by."""
    holding = disks_in(settings.shared)  # before the projects: one that is made meanwhile is none that is gone
    projects = {project.id for project in await adapters.store.list_projects()}
    await asyncio.to_thread(remove_disks, settings.shared, set(holding) - projects)
    upkeep: list[asyncio.Task[None]] = []
    try:
        await cases.engine.start()
        upkeep.append(asyncio.create_task(keep_up(lambda: adapters.blob_parts.sweep(cases.data), SWEEP_S)))
        upkeep.append(asyncio.create_task(keep_up(lambda: keep_datasets(settings.dataset_days, cases), _EXPIRY_S)))
        if (days := settings.audit_days) is not None:
            upkeep.append(asyncio.create_task(keep_up(lambda: cases.desk.audit.expire(days), _EXPIRY_S)))
        async with ray_nodes_kept(settings):
            yield
    finally:
        await cases.engine.stop()
        await cancelled(*upkeep)


async def keep_datasets(days: int | None, cases: UseCases) -> None:
    """Remove what crashes left of datasets and, where ``days`` are set, those that were not used for so long.

    Each that goes is a row of the audit log, as one that somebody deletes.
    """
    datasets, audit = cases.services.datasets, cases.desk.audit
    await datasets.sweep()
    if days is None:
        return
    async for gone in datasets.expire(days):
        log.info("unused dataset removed", project=gone.project_id, dataset=gone.id, bytes=gone.body.size_bytes)
        ids = [("project_id", gone.project_id), ("dataset_id", gone.id), ("name", gone.name)]
        await audit.record(SERVER, "jobsphere dataset expiry", ids, Trail(), SERVER.name, OK)


async def claim_shared(settings: Settings, data_dir: Path, store: SqlJobStore) -> None:
    """See that the shared folder is this database's: another's datasets and disks would be taken for nobody's.

    Raises:
        FailedPreconditionError: it is another database's.
    """
    if settings.shared == data_dir:
        return
    path = settings.shared / _OWNER
    with locked_file(settings.shared / f".{_OWNER}.lock"):
        own = sorted([project.id for project in await store.list_projects()])
        known: list[str] = json.loads(path.read_bytes())["projects"] if path.exists() else []
        if known and not set(known) & set(own):
            raise FailedPreconditionError(
                f"setting shared_dir: {settings.shared} is the folder of another database's servers; name another, or "
                f"remove {_OWNER} from it if that database is no more"
            )
        if known != own:
            write_private(path, json.dumps({"projects": own}).encode(), Point.SERVER_DATABASE)
