"""What is built and pulled for jobs in a data directory: environments and images, within their budgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from jobsphere.config import Settings, load
from jobsphere.domain.capacity import GIB
from jobsphere.environments.eviction import StoredEnvironment, Trimmed, stored_environments, trim
from jobsphere.runner.image_eviction import PulledImage, pulled_images, trim_images

log = structlog.get_logger()


def list_environments(data_dir: Path) -> Sequence[StoredEnvironment]:
    """The built environments, the one least lately used first."""
    return stored_environments(data_dir)


def prune_environments(data_dir: Path, max_gib: float | None) -> Trimmed:
    """Remove unused environments until ``max_gib`` (by default: as set) holds what is left."""
    budget = load({"data_dir": data_dir}).environment_cache_gb if max_gib is None else max_gib
    return trim(data_dir, int(budget * GIB))


def list_images(data_dir: Path) -> Sequence[PulledImage]:
    """The images that jobs pulled, the one least lately used first."""
    return pulled_images(data_dir)


def prune_images(data_dir: Path, max_gib: float | None) -> Sequence[PulledImage]:
    """Remove unused images that jobs pulled until ``max_gib`` (by default: as set) holds what is left.

    Raises:
        OSError: the container engine does not answer.
    """
    budget = load({"data_dir": data_dir}).image_cache_gb if max_gib is None else max_gib
    return trim_images(data_dir, int(budget * GIB))


def keep_environments(data_dir: Path, settings: Settings) -> None:
    """Remove what is unused beyond the budget that is set, and log it."""
    gone = trim(data_dir, int(settings.environment_cache_gb * GIB))
    for environment in gone.environments:
        log.info("environment removed", environment=environment.fingerprint[:12], bytes=environment.size_bytes)
    if gone.cache_bytes:
        log.info("installers' caches removed", bytes=gone.cache_bytes)


def keep_images(data_dir: Path, settings: Settings) -> None:
    """The same for the images that jobs pulled."""
    for image in trim_images(data_dir, int(settings.image_cache_gb * GIB)):
        log.info("image removed", image=image.reference, bytes=image.size_bytes)
