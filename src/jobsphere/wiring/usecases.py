"""A server's use cases and its engine, put together over its adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobsphere.api.server import Services
from jobsphere.blob.project_disk import ProjectDisk
from jobsphere.blob.usage import WalkedDiskBytes
from jobsphere.config import Settings
from jobsphere.engine.engine import Engine
from jobsphere.engine.products import Products
from jobsphere.engine.provisions import Provisioner
from jobsphere.engine.reconciler import always
from jobsphere.engine.retention import Retention
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
from jobsphere.store.usage import SqlJobCounts
from jobsphere.wiring import parts
from jobsphere.wiring.adapters import Adapters
from jobsphere.wiring.desk import Desk, desk_of, drop_files, local_subject

_LOOK_AGAIN_S = 5.0
_RETENTION_S = 60.0


@dataclass(frozen=True, slots=True)
class UseCases:
    """What a server can do: ``services`` for clients, the others for itself."""

    services: Services
    desk: Desk
    engine: Engine
    data: JobData
    quotas: Quotas
    changes: Changes
    readers: Readers

    def changed_elsewhere(self, job_id: str) -> None:
        """Another server has stored this job anew."""
        self.changes.publish(job_id)
        self.engine.wake(job_id)


def use_cases(settings: Settings, adapters: Adapters, leads: Callable[[], bool] = always) -> UseCases:
    """Nothing of them is under way yet. ``leads``: whether this server may move jobs on now.

    Raises:
        FailedPreconditionError: a setting that this host cannot meet.
    """
    store, blobs, nodes, clock = adapters.store, adapters.blobs, adapters.nodes, adapters.clock
    changes, readers = Changes(), Readers(clock, told=store.hints.tell_reading)
    data = JobData(store, blobs, nodes, clock)

    async def drop(project_id: str, attempts: Sequence[str]) -> None:
        await drop_files(data, settings.shared, project_id, attempts)

    desk = desk_of(store, drop)
    quotas = Quotas(
        parts.quota_of(settings),
        store,
        store.beside(SqlJobCounts),
        blobs,
        store.resources,
        WalkedDiskBytes(settings.shared),
    )
    images = ProjectImages(parts.images_of(settings, adapters.keys), store.resources)
    engine = _engine(
        settings, adapters, images, quotas, Retention(store, clock, data.clear, _RETENTION_S), changes, leads
    )
    jobs = Jobs(
        store,
        Artifacts(blobs, adapters.blob_parts.transfers(adapters.signer, clock, quotas, data), clock),
        data,
        desk.access,
        changes,
        readers,
        clock,
        adapters.ids,
        engine.wake,
        images,
        adapters.types,
        store.resources,
        quotas,
    )
    provider = parts.provider_of(settings)
    tokens = Tokens(adapters.key, clock)
    backing = Backing(store.resources, store, desk.access, clock, adapters.ids)
    services = Services(
        jobs,
        jobs.operations,
        Logs(store, nodes, desk.access, changes, readers),
        desk.projects,
        desk.communities,
        desk.grants,
        Identity(tokens, settings.tokens_required, local_subject().id, desk.account_store, clock, provider),
        desk.audit,
        Datasets(backing, adapters.dataset_files, quotas),
        Connectors(backing),
        ImageResources(backing, adapters.keys),
    )
    return UseCases(services, desk, engine, data, quotas, changes, readers)


def _engine(
    settings: Settings,
    adapters: Adapters,
    images: ProjectImages,
    quotas: Quotas,
    retention: Retention,
    changes: Changes,
    leads: Callable[[], bool],
) -> Engine:
    store, clock = adapters.store, adapters.clock
    provisioner = Provisioner(
        store.resources,
        images,
        lambda project_id: ProjectDisk(settings.shared, project_id).folder(),
        adapters.dataset_files,
        settings.mask_secrets,
        parts.s3_mode_of(settings),
    )
    return Engine(
        store,
        adapters.nodes,
        adapters.blobs,
        clock,
        retention,
        changes.publish,
        adapters.types,
        _LOOK_AGAIN_S,
        provisioner,
        Products(store.resources, adapters.dataset_files, adapters.nodes, clock),
        parts.sandbox_of(settings),
        running_at_once=quotas.running,
        tracer=adapters.tracer,
        leads=leads,
    )
