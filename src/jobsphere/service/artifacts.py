"""Files on their way to and from the client: which to bring, and a signed URL for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from jobsphere.domain.artifact import File
from jobsphere.domain.blob_ports import Transfers
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError
from jobsphere.domain.job import Job
from jobsphere.domain.ports import BlobGrant, BlobStore, Clock

URL_LIFE = timedelta(hours=24)
"""How long an upload or download may be begun; one that has begun is never cut off by it."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file and the URL for one plain HTTP request (PUT or GET)."""

    file: File
    url: str


class Artifacts:
    """Uploads and downloads of jobs' files."""

    def __init__(self, blobs: BlobStore, transfers: Transfers, clock: Clock) -> None:
        self._blobs = blobs
        self._transfers = transfers
        self._clock = clock

    async def uploads(self, project_id: str, files: tuple[File, ...]) -> tuple[StoredFile, ...]:
        """The files whose bytes the project lacks, each content once, in the order of the spec."""
        missing = await self._blobs.missing(project_id, {f.sha256 for f in files})
        wanted = {f.sha256: f for f in reversed(files) if f.sha256 in missing}
        return await self._stored(project_id, [f for f in files if wanted.get(f.sha256) is f], "PUT")

    async def new_bytes(self, project_id: str, files: tuple[File, ...]) -> int:
        """How much the project lacks of them, each content once."""
        sizes = {f.sha256: f.size_bytes for f in files}
        return sum(sizes[sha256] for sha256 in await self._blobs.missing(project_id, sizes))

    async def absent(self, job: Job) -> list[str]:
        """Paths of the job's uploads whose bytes are not here, each with what is wrong with those that came.

        Raises:
            ResourceExhaustedError: the project would have more bytes than it may.
        """
        files = job.spec.uploads()
        missing = await self._blobs.missing(job.project_id, {f.sha256 for f in files})
        sizes = {f.sha256: f.size_bytes for f in files if f.sha256 in missing}
        problems = await self._transfers.take_in(job.project_id, sizes) if sizes else {}
        return [_told(f, problems[f.sha256]) for f in files if f.sha256 in problems]

    async def downloads(self, project_id: str, files: Iterable[File]) -> tuple[StoredFile, ...]:
        """Download URLs for files that the caller is known to own."""
        return await self._stored(project_id, list(files), "GET")

    async def _stored(self, project_id: str, files: Sequence[File], method: str) -> tuple[StoredFile, ...]:
        until = self._clock.now() + URL_LIFE
        grants = [BlobGrant(method, project_id, f.sha256, f.size_bytes, until, _name(f)) for f in files]
        return tuple(StoredFile(f, url) for f, url in zip(files, await self._transfers.urls(grants), strict=True))


def _name(file: File) -> str:
    return file.desc.path.rstrip("/").rpartition("/")[2]


def _told(file: File, problem: str) -> str:
    return f"{file.desc.path} (what came is another file: {problem})" if problem else file.desc.path


def own_file(job: Job, wanted: File) -> File:
    """The job's own entry for a file that a client names, by path and hash, else by hash alone.

    Raises:
        NotFoundError: no file of the job has that hash.
    """
    same = [f for f in job.artifacts.files() + job.spec.uploads() if f.sha256 == wanted.sha256]
    exact = [f for f in same if f.desc == wanted.desc]
    if not same:
        raise NotFoundError(f"the job has no file {wanted.desc.path!r} with sha256 {wanted.sha256!r}")
    return (exact or same)[0]


def check_one_size(files: tuple[File, ...]) -> None:
    """Refuse two sizes for one hash.

    Raises:
        InvalidArgumentError: naming the path.
    """
    sizes: dict[str, int] = {}
    for file in files:
        if sizes.setdefault(file.sha256, file.size_bytes) != file.size_bytes:
            raise InvalidArgumentError(f"file {file.desc.path!r}: another file has the same sha256 and another size")
