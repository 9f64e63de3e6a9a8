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
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.node_ports import Nodes, OneNode
from jobsphere.domain.tracing import Tracer
from jobsphere.machine import capacity_of, cluster_types_of
from jobsphere.metrics import Metrics
from jobsphere.runner.generation import generation_of
from jobsphere.runner.local import LocalRunner, Takers
from jobsphere.secretbox import Keys
from jobsphere.store.jobs import SqlJobStore
from jobsphere.system import RandomIds, SystemClock
from jobsphere.wiring import parts
from jobsphere.wiring.blobs import BlobParts, Blobs, blobs_of
from jobsphere.wiring.database import open_store
from jobsphere.wiring.keys import secret_key


@dataclass(frozen=True, slots=True)
class Adapters:
    """The real versions of the ports. ``key`` is what this data directory signs with."""

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
    clock, meter, key = SystemClock(), Metrics(), secret_key(data_dir)
    tracer = parts.tracer_of(settings, stack)
    store = await open_store(settings, data_dir, meter)
    stack.push_async_callback(store.close)
    keys = parts.keys_of(settings, data_dir)
    keys.box()  # a key that is none is told now
    volume = parts.storage_of(settings, data_dir)
    command = parts.node_command(data_dir, settings, volume)
    generation = generation_of(command)
    command += ["--generation", generation]
    blobs = blobs_of(settings, data_dir, store)
    told = keys.for_node() | blobs.for_node
    datasets = LocalDatasets(data_dir / DATASETS)
    runner = LocalRunner(data_dir, platform.node() or "local", command, Takers(blobs.store, datasets), told, generation)
    stack.push_async_callback(runner.close)
    nodes = OneNode(runner, capacity_of(settings, volume))
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
        cluster_types_of(settings, nodes),
    )
