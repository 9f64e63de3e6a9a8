"""The job: an immutable spec and a status.

The shapes follow the published ``Job`` and ``JobParameters`` messages field by field; what only the server knows
(version, attempt, cancel request, failure) stands beside them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from jobsphere.domain.artifact import Artifacts, File, FileDesc
from jobsphere.domain.capacity import GIB, Limits
from jobsphere.domain.trace import TraceContext


class JobStatus(StrEnum):
    """The published statuses of a job."""

    CREATING = "CREATING"
    PREPARING = "PREPARING"
    EXECUTING = "EXECUTING"
    UPLOADING_OUTPUT = "UPLOADING_OUTPUT"
    SUCCESS = "SUCCESS"
    ERROR = "ERROR"
    CANCELLING = "CANCELLING"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether nothing moves the job on any more."""
        return self in _TERMINAL


_TERMINAL = frozenset({JobStatus.SUCCESS, JobStatus.ERROR, JobStatus.CANCELLED})
LIVE_STATUSES = (JobStatus.PREPARING, JobStatus.EXECUTING, JobStatus.UPLOADING_OUTPUT, JobStatus.CANCELLING)
"""The statuses that the engine has something to do for."""


@dataclass(frozen=True, slots=True)
class Argument:
    """A literal value for ``${name}`` in ``cmd``."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class DockerImageSpec:
    """An image by URL. ``password_plain_text`` is never stored: it goes, encrypted, into ``password_sealed`` before."""

    image_url: str
    username: str = ""
    password_plain_text: str = field(default="", repr=False)
    password_ds_secret_name: str = ""
    password_sealed: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PipOptions:
    """Options of the package installer, for the whole environment. URLs may carry credentials: never print them."""

    index_url: str = field(default="", repr=False)
    extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    trusted_hosts: tuple[str, ...] = ()
    no_deps: bool = False


@dataclass(frozen=True, slots=True)
class PythonEnv:
    """A Python environment as the user asks for it."""

    conda_yaml: str = ""
    local_modules: tuple[File, ...] = ()
    python_version: str = ""
    requirements: tuple[str, ...] = ()
    pip_options: PipOptions | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """Variables, image and Python environment of a job."""

    vars: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    docker_image_resource_id: str = ""
    docker_image_spec: DockerImageSpec | None = None
    python_env: PythonEnv | None = None


@dataclass(frozen=True, slots=True)
class WorkingStorage:
    """Extended working storage: ``type`` is ``SSD`` or ``STORAGE_TYPE_UNSPECIFIED``, size in GiB."""

    size_gb: int
    type: str = "SSD"


@dataclass(frozen=True, slots=True)
class OutputDatasetDesc:
    """A dataset to make from the directory that ``var`` names. Size in GiB."""

    name: str
    var: str
    size_gb: int = 0
    description: str = ""
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class OutputDataset:
    """A dataset that the job made."""

    desc: OutputDatasetDesc
    id: str


DEFAULT_SIGNAL = 15
"""SIGTERM: what a graceful shutdown without a signal sends."""


@dataclass(frozen=True, slots=True)
class GracefulShutdown:
    """What a graceful cancel does: ``signal`` first (0: the default), SIGKILL after ``timeout_s`` seconds.

    ``timeout_s`` None means that the user named none: the server's default applies.
    """

    timeout_s: float | None = None
    signal: int = 0


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the user asked for: the published ``JobParameters``."""

    cmd: str
    input_files: tuple[File, ...] = ()
    output_files: tuple[FileDesc, ...] = ()
    s3_mount_ids: tuple[str, ...] = ()
    dataset_ids: tuple[str, ...] = ()
    env: EnvironmentSpec = EnvironmentSpec()
    attach_project_disk: bool = False
    instance_types: tuple[str, ...] = ()
    working_storage: WorkingStorage | None = None
    arguments: tuple[Argument, ...] = ()
    output_datasets: tuple[OutputDatasetDesc, ...] = ()
    graceful_shutdown: GracefulShutdown | None = None
    spark_connector_id: str = ""

    @property
    def storage_bytes(self) -> int:
        """How large the extended working storage shall be; 0 without one."""
        return self.working_storage.size_gb * GIB if self.working_storage else 0

    def uploads(self) -> tuple[File, ...]:
        """Every file whose bytes the client brings: inputs, then local modules."""
        modules = self.env.python_env.local_modules if self.env.python_env else ()
        return self.input_files + modules


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Who wants the job to end, how, and until when it may take its time.

    ``signal`` 0 means at once (SIGKILL). ``deadline`` is when SIGKILL follows ``signal``.
    """

    requested_at: datetime
    requested_by: str
    reason: str = ""
    signal: int = 0
    deadline: datetime | None = None


class Phase(StrEnum):
    """The part of a job's way that an error belongs to: what a user looks at first."""

    STAGE = "stage"
    IMAGE = "image"
    ENVIRONMENT = "environment"
    RUN = "run"
    OUTPUTS = "outputs"
    MACHINE = "machine"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the job has no result. ``message`` is for the user: cause, last lines, next step."""

    phase: Phase
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the job is on its way: percent and a sentence."""

    message: str
    percent: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """One launch of the job on one node. Stored before the launch: the intent that a restart finds.

    ``limits`` are what it was given of the node; ``note`` tells how that differs from what the type's name promises.
    """

    id: str
    node: str
    created_at: datetime
    limits: Limits | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Values never change in place: :func:`jobsphere.domain.lifecycle.decide` makes the next one.

    ``version`` counts the stored states: a write is guarded by the version that it was decided on.
    Times are timezone-aware UTC. ``data_ttl`` counts from the end of the job (from its creation until then); None, like
    ``data_expires_at`` None, means that the data never expires. ``trace`` is the span of the call that set the job off;
    None where no traces are recorded. ``retries``: how often it is started anew when it is lost; ``lost_attempts``:
    those that it was started anew after.
    """

    id: str
    project_id: str
    created_by_id: str
    created_at: datetime
    spec: JobSpec
    name: str = ""
    desc: str = ""
    config: str = ""
    status: JobStatus = JobStatus.CREATING
    version: int = 1
    started_at: datetime | None = None
    finished_at: datetime | None = None
    data_ttl: timedelta | None = None
    data_expires_at: datetime | None = None
    data_cleared: bool = False
    parent_job_id: str = ""
    status_details: str = ""
    actual_instance_type: str = ""
    operation_id: str = ""
    attempt: Attempt | None = None
    progress: Progress | None = None
    cancel: CancelRequest | None = None
    return_code: int | None = None
    failure: Failure | None = None
    artifacts: Artifacts = Artifacts()
    output_datasets: tuple[OutputDataset, ...] = ()
    executed_at: datetime | None = None
    trace: TraceContext | None = None
    retries: int = 0
    lost_attempts: tuple[Attempt, ...] = ()

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts that there were, in their order; the last one is not lost, if there is one."""
        return (*self.lost_attempts, self.attempt) if self.attempt else self.lost_attempts

    @property
    def data_size_bytes(self) -> int:
        """Bytes that the job's files take: inputs, modules, outputs, logs and diagnostics. 0 once cleared."""
        if self.data_cleared:
            return 0
        return sum(f.size_bytes for f in self.spec.uploads() + self.artifacts.files())
