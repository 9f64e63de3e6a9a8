"""What a server's use cases stand on: the adapters of its ports, as its settings choose them."""

from __future__ import annotations

import platform
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from jobsphere.blob.datasets import FOLDER as DATASETS
from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.signing import HmacUrlSigner
from jobsphere.config import Settings
from jobsphere.domain.capacity import InstanceTypes
from jobsphere.domain.node_ports import Nodes, OneNode
from jobsphere.domain.tracing import Tracer
from jobsphere.machine import instance_types_of
from jobsphere.metrics import Metrics
from jobsphere.secretbox import Keys
from jobsphere.store.jobs import SqlJobStore
from jobsphere.system import RandomIds, SystemClock
from jobsphere.wiring import parts
from jobsphere.wiring.blobs import BlobParts, Blobs, blobs_of
from jobsphere.wiring.cluster import is_cluster, open_nodes
from jobsphere.wiring.database import open_store
from jobsphere.wiring.keys import secret_key
from jobsphere.wiring.node_runner import open_local_runner


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
    types: InstanceTypes

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
    volume = parts.storage_of(settings, data_dir)
    blobs = blobs_of(settings, data_dir, store)
    datasets = LocalDatasets(settings.shared / DATASETS)
    types = instance_types_of(settings, volume)
    nodes: Nodes
    if is_cluster(settings):
        nodes = await open_nodes(settings, stack)
    else:
        told = keys.for_node() | blobs.for_node
        name = platform.node() or "local"
        runner = await open_local_runner(settings, data_dir, name, volume, blobs.store, datasets, told, stack)
        nodes = OneNode(runner, types.node)
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
