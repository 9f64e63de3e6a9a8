"""The runner of this machine, as settings choose it: for a server that is its own node, and for an agent."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from jobsphere.blob.datasets import LocalDatasets
from jobsphere.config import Settings
from jobsphere.domain.ports import BlobStore
from jobsphere.runner.generation import generation_of
from jobsphere.runner.local import LocalRunner, Takers
from jobsphere.wiring import parts


async def open_local_runner(
    settings: Settings,
    data_dir: Path,
    name: str,
    volume: Path,
    blobs: BlobStore,
    datasets: LocalDatasets,
    told: dict[str, str],
    stack: AsyncExitStack,
) -> LocalRunner:
    """Open it; ``stack`` closes it. ``told``: variables for its supervisors; they may be secret."""
    command = parts.node_command(data_dir, settings, volume)
    generation = generation_of(command)
    command += ["--generation", generation]
    runner = LocalRunner(data_dir, name, command, Takers(blobs, datasets), told, generation)
    stack.push_async_callback(runner.close)
    return runner
