"""Where blobs are: on this machine, or in a bucket."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import structlog

from jobsphere.blob.cache import trim
from jobsphere.blob.local import LocalBlobStore
from jobsphere.blob.paths import BLOBS, BUCKET_VARIABLE, CACHE
from jobsphere.blob.signing import ServerTransfers
from jobsphere.config import Settings
from jobsphere.domain.blob_ports import Transfers
from jobsphere.domain.capacity import GIB
from jobsphere.domain.errors import FailedPreconditionError, UnavailableError
from jobsphere.domain.ports import BlobStore, Clock, JobStore, UrlSigner
from jobsphere.domain.quota_ports import StoredBytes
from jobsphere.service.data import JobData
from jobsphere.service.quotas import Quotas

SWEEP_S = 6 * 3600.0
_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
}
log = structlog.get_logger()


class Blobs(BlobStore, StoredBytes, Protocol):
    """What blobs are to a server."""


class BlobParts(Protocol):
    """The parts of a server that depend on where its blobs are."""

    store: Blobs
    for_node: dict[str, str]
    """Variables that tell the node of them. They may hold keys, and travel in memory only."""

    async def claim(self) -> None:
        """At the start: see that they are ours.

        Raises:
            FailedPreconditionError: they are another database's, or cannot be reached as the settings are.
        """
        ...

    def transfers(self, signer: UrlSigner, clock: Clock, quotas: Quotas, data: JobData) -> Transfers:
        """How clients bring and fetch them."""
        ...

    def trim(self) -> None:
        """Keep copies within their budget. Blocks."""
        ...

    async def sweep(self, data: JobData) -> None:
        """Remove what is nobody's, but for what a job may be about to name."""
        ...


class LocalBlobs:
    """They are in a folder."""

    def __init__(self, shared: Path) -> None:
        self.store: Blobs = LocalBlobStore(shared / BLOBS)
        self.for_node: dict[str, str] = {}

    async def claim(self) -> None:
        """They are those of whoever has the folder."""

    def transfers(self, signer: UrlSigner, clock: Clock, quotas: Quotas, data: JobData) -> Transfers:  # noqa: ARG002
        """By this server."""
        return ServerTransfers(signer)

    def trim(self) -> None:
        """There are none."""

    async def sweep(self, data: JobData) -> None:
        """Remove what a crash left."""
        await data.sweep()


class NodeBlobs(Protocol):
    """The part of :class:`BlobParts` that a node has to do with."""

    store: Blobs
    for_node: dict[str, str]

    def trim(self) -> None:
        """Keep copies within their budget. Blocks."""
        ...


class BucketCopies:
    """They are in a bucket, and copies of those that jobs read are in the data directory.

    ``projects``: the ids of all projects; asked before anything is removed, which no node does.
    """

    def __init__(self, settings: Settings, data_dir: Path, projects: Callable[[], Awaitable[list[str]]]) -> None:
        from jobsphere.blob.bucket import BucketBlobStore
        from jobsphere.blob.objects import Place

        self._cache, self._budget = data_dir / CACHE, int(settings.blob_cache_gb * GIB)
        url = urlsplit(settings.blobs)
        place = Place(url.scheme, url.netloc, url.path.strip("/"), _options(settings, os.environ))
        self.for_node: dict[str, str] = {BUCKET_VARIABLE: place.text()}
        self._objects = place.open()
        self._bucket = BucketBlobStore(self._objects, self._cache, projects)
        self.store: Blobs = self._bucket

    def trim(self) -> None:
        """Those least lately used go first."""
        if freed := trim(self._cache, self._budget):
            log.info("copies of files removed", bytes=freed)


class BucketBlobs(BucketCopies):
    """The bucket is this server's to keep."""

    def __init__(self, settings: Settings, data_dir: Path, store: JobStore) -> None:
        self._jobs = store
        super().__init__(settings, data_dir, self._projects)

    async def claim(self) -> None:
        """One that is away now is asked again before anything is removed."""
        try:
            await self._bucket.claim()
        except UnavailableError as error:
            log.warning("files of jobs can be neither brought nor fetched", reason=error.public, **error.context)

    def transfers(self, signer: UrlSigner, clock: Clock, quotas: Quotas, data: JobData) -> Transfers:  # noqa: ARG002
        """Straight to the bucket."""
        from jobsphere.blob.transfers import BucketTransfers

        self._transfers = BucketTransfers(self._objects, self._bucket, clock, quotas.uploading, data.settle)
        return self._transfers

    async def sweep(self, data: JobData) -> None:
        """Remove what is nobody's: of crashes, of uploads whose job was never executed."""
        await data.sweep()
        await self._transfers.sweep(self._jobs.unreferenced)

    async def _projects(self) -> list[str]:
        return [project.id for project in await self._jobs.list_projects()]


def blobs_of(settings: Settings, data_dir: Path, store: JobStore) -> BlobParts:
    """The blobs of a server, as set.

    Raises:
        FailedPreconditionError: a setting cannot be.
    """
    if not settings.blobs:
        return LocalBlobs(settings.shared)
    return BucketBlobs(settings, data_dir, store)


def blobs_of_node(settings: Settings, data_dir: Path) -> NodeBlobs:
    """The same for a node whose server is elsewhere.

    Raises:
        FailedPreconditionError: a setting cannot be.
    """
    if not settings.blobs:
        return LocalBlobs(settings.shared)

    async def none() -> list[str]:
        return []

    return BucketCopies(settings, data_dir, none)


def _options(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The library's options for the bucket: keys from the file, else from the variables that all such tools know."""
    if settings.blobs_key_file is not None:
        options = _keys_in(settings.blobs_key_file.expanduser())
    else:
        options = {option: environ[name] for name, option in _VARIABLES.items() if environ.get(name)}
        options = options if settings.blobs.startswith("s3:") else {}
    if settings.blobs_endpoint:
        options["endpoint"] = settings.blobs_endpoint
    if settings.blobs_region:
        options["region"] = settings.blobs_region
    return options


def _keys_in(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_mode & 0o077:
            raise FailedPreconditionError(f"setting blobs_key_file: others can read {path}; run `chmod 600 {path}`")
        return {name: str(value) for name, value in tomllib.loads(path.read_text()).items()}
    except OSError as error:
        raise FailedPreconditionError(f"setting blobs_key_file: {path}: {error.strerror}") from error
    except tomllib.TOMLDecodeError:  # its words hold a part of the file
        raise FailedPreconditionError(f"setting blobs_key_file: {path} is no TOML; see docs/operations.md") from None
