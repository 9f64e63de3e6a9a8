"""What a server's use cases stand on: the adapters of its ports, as its settings choose them."""

from __future__ import annotations

import platform
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from jobsphere.blob.datasets import FOLDER as DATASETS
from jobsphere.blob.datasets import GRACE_S, LocalDatasets
from jobsphere.blob.signing import HmacUrlSigner
from jobsphere.config import Settings
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.node_ports import Nodes, OneNode
from jobsphere.domain.tracing import Tracer
from jobsphere.machine import capacity_of, cluster_types_of
from jobsphere.metrics import Metrics
from jobsphere.runner.directories import Takers
from jobsphere.secretbox import Keys
from jobsphere.store.jobs import SqlJobStore
from jobsphere.system import RandomIds, SystemClock
from jobsphere.wiring import parts
from jobsphere.wiring.blobs import BlobParts, Blobs, blobs_of
from jobsphere.wiring.cluster import is_cluster, open_nodes
from jobsphere.wiring.database import open_store
from jobsphere.wiring.keys import secret_key
from jobsphere.wiring.node_runner import open_local_runner
from jobsphere.wiring.slurm import slurm_nodes


@dataclass(frozen=True, slots=True)
class Adapters:
    """The real versions of the ports. ``key`` is what this server signs with, as all of its database."""

    clock: SystemClock
    ids: RandomIds
    meter: Metrics
    tracer: Tracer
    store: SqlJobStore
    blob_parts: BlobParts
    nodes: Nodes
    signer: HmacUrlSigner
    dataset_files: LocalDatasets
    keys: Keys
    key: bytes
    types: ClusterTypes

    @property
    def blobs(self) -> Blobs:
        """Where files of jobs are."""
        return self.blob_parts.store


async def open_adapters(settings: Settings, data_dir: Path, http_url: str, stack: AsyncExitStack) -> Adapters:
    """Open them; ``stack`` closes them. ``http_url``: where clients reach the blobs.

    Raises:
        FailedPreconditionError: a setting that this host cannot meet, or a newer jobsphere's database.
        UnavailableError, CorruptedError, ResourceExhaustedError: the database cannot be opened.
    """
    clock, meter, key = SystemClock(), Metrics(), secret_key(settings.shared)
    tracer = parts.tracer_of(settings, stack)
    store = await open_store(settings, data_dir, meter)
    stack.push_async_callback(store.close)
    keys = parts.keys_of(settings)
    keys.box()  # a key that is none is told now
    blobs = blobs_of(settings, settings.node_dir, store)
    told = keys.for_node() | blobs.for_node
    datasets = LocalDatasets(settings.shared / DATASETS, 0 if settings.shared == data_dir else GRACE_S)
    takers = Takers(blobs.store, datasets)
    nodes: Nodes
    if settings.slurm_partition:
        nodes, types = await slurm_nodes(settings, takers, told, stack)
    else:
        volume = parts.storage_of(settings, data_dir)
        if is_cluster(settings):
            nodes = await open_nodes(settings, stack)
        else:
            runner = await open_local_runner(
                settings, data_dir, platform.node() or "local", volume, takers, told, stack
            )
            nodes = OneNode(runner, capacity_of(settings, volume))
        types = cluster_types_of(settings, nodes)
    return Adapters(
        clock,
        RandomIds(),
        meter,
        tracer,
        store,
        blobs,
        nodes,
        HmacUrlSigner(key, http_url, clock),
        datasets,
        keys,
        key,
        types,
    )
