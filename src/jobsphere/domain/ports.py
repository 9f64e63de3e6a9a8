"""What the service and the engine need from the world: one protocol for each thing outside.

Every port has a real, an in-memory and a failing implementation under one contract suite (``tests/contract``).
Unless a docstring says otherwise a call is idempotent, may be cancelled, and raises only
:class:`jobsphere.domain.errors.JobsphereError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from jobsphere.domain.attempt import AttemptPlan, CollectedFile, ImagePlan, LogChunk, Observation, StopOrder
from jobsphere.domain.audit import AuditRow
from jobsphere.domain.build_ports import InsideImage, Workbench
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.job import Job, JobSpec, JobStatus
from jobsphere.domain.operation import Operation
from jobsphere.domain.resource import Project


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Now, timezone-aware UTC. May jump back: never used to order writes."""
        ...


class Ids(Protocol):
    """New ids."""

    def new(self) -> str:
        """20 characters of 0-9 a-z, as the vendor's ids are; unguessable and never given twice."""
        ...


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as its readers get it: encoded once, when it was stored."""

    project_id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs of a project, newest first; ``next_token`` is empty on the last page."""

    views: tuple[JobView, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class LiveId:
    """A job under way: its number in the order of creation, its id, and whether it has an attempt."""

    seq: int
    id: str
    has_attempt: bool


class JobStore(Protocol):
    """Jobs, operations, projects to read. A write that returned is durable; all of its parts happen or none does."""

    async def add_job(self, job: Job, operation: Operation, audited: AuditRow | None = None) -> None:
        """Store a new job, the hashes that it refers to, and the operation and the audit row of its call.

        Raises:
            AlreadyExistsError: the id is taken.
        """
        ...

    async def get_job(self, job_id: str) -> Job:
        """The job as last stored.

        Raises:
            NotFoundError: no such job.
        """
        ...

    async def view_job(self, job_id: str) -> JobView:
        """The stored encoding of a job: the hot read path.

        Raises:
            NotFoundError: no such job.
        """
        ...

    async def update_job(
        self, new: Job, was: Job, operation: Operation | None = None, audited: AuditRow | None = None
    ) -> bool:
        """Replace ``was`` by ``new`` if the stored id, status and version are still those of ``was``.

        ``operation`` and ``audited`` (the audit row of the call) are stored with it.

        When ``new.data_cleared`` is set, the job's references to blobs go in the same write.

        Returns:
            False if somebody was first (or the job is gone): nothing was written; reload and decide again.
        """
        ...

    async def delete_job(self, job: Job, operation: Operation) -> bool:
        """Remove the job, its references and its other operations; guarded like :meth:`update_job`."""
        ...

    async def page_jobs(self, project_id: str, statuses: Sequence[JobStatus] | None, limit: int, token: str) -> JobPage:
        """One page, newest first. ``token`` is empty or what the page before gave.

        Raises:
            InvalidArgumentError: the token is none of ours.
        """
        ...

    async def jobs_in(self, statuses: Sequence[JobStatus]) -> Sequence[Job]:
        """All jobs in these statuses, oldest first, over all projects. For the engine: live statuses only."""
        ...

    async def live_ids(self, status: JobStatus, after: int, limit: int) -> Sequence[LiveId]:
        """The next ``limit`` jobs in this live status whose numbers are above ``after``, oldest first.

        What the engine looks through at all times: reads no record.
        """
        ...

    async def live_page(self, status: JobStatus, after: int, limit: int) -> tuple[Sequence[Job], int]:
        """The same jobs whole, but for unreadable ones, and the number of the last of them; 0 if there is none."""
        ...

    async def expired_jobs(self, now: datetime, limit: int) -> Sequence[Job]:
        """Jobs whose data is to be cleared: expired, not cleared yet, ended or never executed."""
        ...

    async def jobs_with_data(self, project_id: str) -> Sequence[Job]:
        """Jobs of the project whose data is not cleared and that are ended or never executed."""
        ...

    async def unreferenced(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        """Those of the hashes that no job of the project refers to."""
        ...

    async def add_operation(self, operation: Operation) -> None:
        """Store an operation that changes nothing else."""
        ...

    async def get_operation(self, operation_id: str) -> Operation:
        """The operation.

        Raises:
            NotFoundError: no such operation.
        """
        ...

    async def get_project(self, project_id: str) -> Project:
        """The project.

        Raises:
            NotFoundError: no such project.
        """
        ...

    async def list_projects(self, community_id: str | None = None) -> Sequence[Project]:
        """Projects, oldest first; of one community if it is named."""
        ...

    async def close(self) -> None:
        """Finish what is under way and let go of the storage."""
        ...


@dataclass(frozen=True, slots=True)
class BlobGrant:
    """What a signed URL allows: one method on one blob of one project until ``expires_at``.

    ``size_bytes`` is the exact size for PUT; ``name`` is the file name that a download suggests.
    """

    method: str
    project_id: str
    sha256: str
    size_bytes: int
    expires_at: datetime
    name: str = ""


class UrlSigner(Protocol):
    """Signs and verifies the URLs by which clients bring and fetch blobs over plain HTTP."""

    def sign(self, grant: BlobGrant) -> str:
        """An absolute URL for one plain HTTP request."""
        ...

    def verify(self, method: str, path: str, query: Mapping[str, str]) -> BlobGrant:
        """The grant of a request.

        Raises:
            PermissionDeniedError: forged, expired, or for another method.
        """
        ...


@dataclass(frozen=True, slots=True)
class FinishedFile:
    """A complete, fsynced file of this host and what it is known to hold. One without a byte need not be there."""

    sha256: str
    size_bytes: int
    path: Path


class BlobStore(Protocol):
    """Bytes by project and SHA-256. One project's hash never opens another's bytes."""

    far: bool
    """Whether they are elsewhere: to adopt a file takes its time then, and is worth a status of its own."""

    async def missing(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        """Those of the hashes whose bytes the project does not hold."""
        ...

    async def held(self, project_id: str) -> set[str]:
        """Every hash that the project holds: for sweeps. What a crash or a fault left out of reach comes back."""
        ...

    async def receive(self, project_id: str, sha256: str, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Take the bytes in, hash them on the way, and make them durable under their name at once or not at all.

        Raises:
            InvalidArgumentError: they are not of that size or hash; nothing is kept.
            ResourceExhaustedError: no room.
        """
        ...

    async def adopt(self, project_id: str, files: Sequence[FinishedFile]) -> None:
        """Take over finished files of this host whose hashes are known. They may be gone afterwards or not.

        A repeat after a crash finds the blob there, the file or both; one of them is enough.

        Raises:
            NotFoundError: neither a file nor its blob is there.
        """
        ...

    async def read(self, project_id: str, sha256: str) -> Path:
        """The blob as a read-only file of this host.

        Raises:
            NotFoundError: the project does not hold it.
        """
        ...

    async def projects(self) -> Sequence[str]:
        """The ids of all projects that may hold a blob."""
        ...

    async def drop(self, project_id: str) -> None:
        """Free all bytes of a project that is gone: nobody refers to any of them."""
        ...

    async def remove(
        self, project_id: str, sha256s: Iterable[str], wanted: Callable[[set[str]], Awaitable[set[str]]]
    ) -> None:
        """Free the bytes of blobs that nobody refers to.

        Each is first put out of reach, then ``wanted`` is asked which of them somebody began to refer to meanwhile:
        those are put back, the bytes of the others go. A blob left out of reach by a crash is settled by the next call.
        """
        ...


class Runner(Protocol):
    """Starts attempts somewhere and tells what became of them."""

    node: str
    """The name of the node, as users see it."""

    async def launch(self, plan: AttemptPlan) -> None:
        """See to it that a supervisor carries the attempt through, from wherever it is.

        Called again after a crash of the server or of the supervisor. The program is started at most once, ever: on a
        run directory that was claimed before, a new supervisor only writes down the end and collects.

        Raises:
            UnavailableError: the node cannot start anything now; try again.
        """
        ...

    async def observe(self, attempt_id: str) -> Observation:
        """What is true about the attempt. ``known`` False if it was never launched or was removed."""
        ...

    async def stop(self, attempt_id: str, order: StopOrder) -> None:
        """Ask the supervisor to end the attempt. A later order replaces an earlier one; an ended attempt ignores it."""
        ...

    async def deliver(self, project_id: str, attempt_id: str, files: Sequence[CollectedFile]) -> None:
        """See to it that these collected files are blobs of the project. A repeat finds them there.

        Raises:
            NotFoundError: one of them is neither on the node nor a blob.
        """
        ...

    async def deliver_dataset(self, project_id: str, attempt_id: str, name: str, dataset_id: str) -> None:
        """See to it that a collected folder is the content of this dataset. A repeat finds it there.

        Raises:
            NotFoundError: it is neither on the node nor the dataset's.
        """
        ...

    async def tidy(self, attempt_id: str) -> None:
        """Keep the records and the log, remove the rest: the attempt has ended and its files are blobs.

        From then on :meth:`attempts` does not list it any more; logs and records stay readable.
        """
        ...

    async def remove(self, attempt_id: str) -> None:
        """Remove the run directory and its log. Only for ended attempts."""
        ...

    async def attempts(self) -> Sequence[str]:
        """The ids of all attempts that are not tidied yet: few, however many there were."""
        ...

    def subscribe(self, hint: Callable[[str], None]) -> None:
        """Call ``hint(attempt_id)`` on the event loop when an attempt may have moved on. Hints may be lost."""
        ...

    async def read_logs(self, attempt_id: str, offset: int, limit_bytes: int) -> LogChunk:
        """Frames from ``offset`` on, about ``limit_bytes`` of content at most, and no waiting.

        Raises:
            InvalidArgumentError: the offset is not one that a chunk gave.
        """
        ...

    async def log_size(self, attempt_id: str) -> int:
        """The offset behind the last whole frame now; 0 if there is no log."""
        ...

    async def wait_logs(self, attempt_id: str, offset: int, timeout_s: float) -> None:
        """Return when the log may reach beyond ``offset`` or have become complete, or after ``timeout_s``."""
        ...


class Images(Protocol):
    """The container images that jobs may run in."""

    async def accept(self, project_id: str, spec: JobSpec) -> JobSpec:
        """The spec as it may be stored: its image can be run here, and its password is sealed.

        Raises:
            InvalidArgumentError: there is no image of that id; the text lists those that there are.
            FailedPreconditionError: this host has no container engine that works, or the project lacks the secret.
        """
        ...

    async def plan(self, project_id: str, spec: JobSpec) -> ImagePlan | None:
        """What the node is told of the image of a stored spec; None if it asks for none.

        Raises:
            UnavailableError, FailedPreconditionError: the engine, or the image or its secret, is not there any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuiltEnvironment:
    """A prefix that is complete and shared read-only: ``bin`` goes to the front of PATH."""

    prefix: Path
    hit: bool


class EnvironmentBuildError(Exception):
    """The environment cannot be had. The text is the resolver's own words, masked, and the next step."""


class EnvironmentBuilder(Protocol):
    """Finds or builds the prefix of an environment. Called in a supervisor: synchronous, standard library only."""

    def ensure(
        self, environment: PythonEnvironment, bench: Workbench, inside: InsideImage | None = None
    ) -> BuiltEnvironment:
        """The prefix; built once however many ask at once, durable by a thread which the process has to let end.

        ``inside``: the image that it is for and built in, with its ``python3`` where no version is asked for.

        Raises:
            EnvironmentBuildError: no such interpreter, or the requirements cannot be satisfied.
        """
        ...
