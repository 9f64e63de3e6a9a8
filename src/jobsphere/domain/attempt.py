"""What one attempt is told (the plan) and what its run directory tells back (the records and the observation).

The plan goes to the node as it is here; the records come back as the supervisor wrote them. Both sides speak these
values only, whatever lies between them: a directory on this disk or an agent on another machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from jobsphere.domain.artifact import ArtifactKind, File, FileError
from jobsphere.domain.capacity import Limits
from jobsphere.domain.command import DatasetPlace, OutputPlace, Placement
from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.job import OutputDatasetDesc, Phase
from jobsphere.domain.spark import SparkPlan


@dataclass(frozen=True, slots=True)
class SandboxPlan:
    """The fence around the program.

    ``read_only``: more folders of the node that it may read. ``hidden``: those that it may not see, wherever they lie,
    beside the data directory.
    """

    network: bool = True
    read_only: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()


class EngineKind(StrEnum):
    """Which program runs containers."""

    PODMAN = "podman"
    DOCKER = "docker"


@dataclass(frozen=True, slots=True)
class ContainerEngine:
    """A container engine of the node, as it was found and set.

    ``args`` come before the subcommand of every call, ``run_args`` among the options of ``run``. ``own_users``: the
    engine maps the container's users to users of this host without rights (rootless, or a remapped daemon).
    """

    kind: EngineKind
    program: str
    args: tuple[str, ...] = ()
    run_args: tuple[str, ...] = ()
    own_users: bool = False


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """The image that the program runs in. ``reference`` is complete: registry, name, and a tag or digest.

    ``password_sealed`` is opened by the node for the pull only. ``pull_always``: also when the image is there.
    """

    reference: str
    engine: ContainerEngine
    username: str = ""
    password_sealed: str = field(default="", repr=False)
    pull_always: bool = False
    pull_timeout_s: float = 1800.0
    network: bool = True


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the node that the program sees at ``target``, relative to the job's root.

    Without a fence it sees the folder itself, under the folder's own path. ``names``: what ``cmd`` calls the place;
    ``variable``: the environment variable that holds it (empty: none).
    """

    source: str
    target: str
    names: tuple[str, ...] = ()
    variable: str = ""
    read_only: bool = True


class S3Mode(StrEnum):
    """How a program gets at a bucket."""

    AUTO = "auto"
    """Mounted where the node can, else staged."""
    FUSE = "fuse"
    """Mounted by a program of the node, or not at all."""
    STAGING = "staging"
    """Brought before the program starts, and what it changed written back."""


@dataclass(frozen=True, slots=True)
class S3Mount:
    """A bucket that the program finds at ``location``, relative to the job's root. The keys are opened by the node."""

    connector_id: str
    name: str
    location: str
    bucket: str
    endpoint: str = ""
    region: str = ""
    prefix: str = ""
    access_key_sealed: str = field(default="", repr=False)
    secret_key_sealed: str = field(default="", repr=False)
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class AttemptPlan:
    """Everything that a supervisor needs to carry one attempt through.

    ``cmd`` is unresolved: ``literals`` and ``locations`` say what its variables stand for (see
    :class:`jobsphere.domain.command.Layout`). ``variables`` are the job's own environment variables.
    ``secrets`` are more of them, by name, each sealed until the program starts; ``mask_secrets``: their values do not
    show in the log.
    """

    attempt_id: str
    job_id: str
    project_id: str
    cmd: str
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    literals: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    locations: tuple[tuple[str, str], ...] = ()
    inputs: tuple[Placement, ...] = ()
    outputs: tuple[OutputPlace, ...] = ()
    environment: PythonEnvironment | None = None
    limits: Limits | None = None
    sandbox: SandboxPlan | None = None
    image: ImagePlan | None = None
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    mask_secrets: bool = False
    mounts: tuple[Mount, ...] = ()
    s3_mounts: tuple[S3Mount, ...] = ()
    s3_mode: S3Mode = S3Mode.AUTO
    datasets: tuple[DatasetPlace, ...] = ()
    spark: SparkPlan | None = None


class EndReason(StrEnum):
    """How an attempt ended."""

    EXITED = "exited"
    """The program ran and ended by itself."""
    FAILED = "failed"
    """The program was never started, for staging or environment failed; or what it wrote could not be brought away."""
    STOPPED = "stopped"
    """A stop was asked for, and no process is left."""
    LOST = "lost"
    """The supervisor is gone without having written an end: proven by its free lock."""


@dataclass(frozen=True, slots=True)
class Started:
    """The ``started`` record: durable before the program's first instruction."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Entered:
    """When an attempt came into a phase."""

    phase: Phase
    at: datetime


@dataclass(frozen=True, slots=True)
class Ended:
    """The ``exit`` record. ``code`` is the program's return code (128 + N for signal N) when it ran.

    ``phase`` and ``message`` say where and why, for everything but a clean exit. ``entered``: the phases up to the end,
    in their order; none if their supervisor could not tell any more.
    """

    at: datetime
    reason: EndReason
    code: int | None = None
    phase: Phase | None = None
    message: str = ""
    entered: tuple[Entered, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectedFile:
    """A file in the outbox: ``name`` is its path relative to the run directory's outbox."""

    kind: ArtifactKind
    file: File
    name: str


@dataclass(frozen=True, slots=True)
class CollectedDataset:
    """A folder in the outbox that is to become the ``number``-th output dataset of the job."""

    number: int
    desc: OutputDatasetDesc
    name: str
    size_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Collected:
    """The ``collected`` record: the outbox is complete, and ``logs`` has reached ``log_bytes``, its last size."""

    at: datetime
    files: tuple[CollectedFile, ...] = ()
    errors: tuple[FileError, ...] = ()
    log_bytes: int = 0
    datasets: tuple[CollectedDataset, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """What the supervisor is doing: a sentence and how far it is, 0 to 100. Not durable: it only informs."""

    message: str
    percent: int


@dataclass(frozen=True, slots=True)
class Observation:
    """What is true about an attempt now, as far as its node can tell.

    ``known``: the run directory exists. ``alive``: its lock is held. A record is there once it is durable.
    """

    known: bool
    alive: bool = False
    step: Step | None = None
    started: Started | None = None
    ended: Ended | None = None
    collected: Collected | None = None


@dataclass(frozen=True, slots=True)
class StopOrder:
    """How to end an attempt: ``signal`` to the program (0: none), then SIGKILL to all of it at ``deadline``."""

    signal: int = 0
    deadline: datetime | None = None


class LogStream(StrEnum):
    """Where a log frame comes from."""

    OUT = "out"
    ERR = "err"
    FILE = "file"


SYSTEM_LOG = ".system.log"
DOCKER_STATS = ".docker_stats.tsv"
GPU_STATS = ".gpu_stats.tsv"


@dataclass(frozen=True, slots=True)
class LogFrame:
    """A piece of log: whole lines where the program wrote whole lines, never half a character.

    ``path`` names the file for :attr:`LogStream.FILE`. ``time_ns`` is nanoseconds since the epoch.
    """

    stream: LogStream
    time_ns: int
    content: bytes
    path: str = ""


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Some frames in the order of writing and the offset that follows them.

    ``complete``: the attempt has ended and nothing follows ``offset``.
    """

    frames: tuple[LogFrame, ...]
    offset: int
    complete: bool


def attempt_id(job_id: str, number: int = 1) -> str:
    """The id of a job's attempt: it names the job, so that a hint about one leads to the other."""
    return f"{job_id}-{number}"


def job_id_of(attempt: str) -> str:
    """The job that an attempt id belongs to."""
    return attempt.rpartition("-")[0]
