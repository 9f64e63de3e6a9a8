"""Settings of the server: defaults, then a TOML file, then ``JOBSPHERE_…`` variables, then the command line.

Nothing is read at import: :func:`load` is called once, by the command.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from jobsphere.domain.capacity import DEFAULT_JOBS_AT_ONCE, DEFAULT_PIDS
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.image import complete
from jobsphere.serverfile import default_data_dir

CONFIG_NAME = "jobsphere.toml"
PASSWORD_VARIABLE = "JOBSPHERE_DATABASE_PASSWORD"  # noqa: S105  its name
Port = Annotated[int, Field(ge=0, le=65535)]


class ImageSetting(BaseModel):
    """An image that has an id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str
    """Its reference."""

    @field_validator("image")
    @classmethod
    def _is_reference(cls, value: str) -> str:
        if complete(value) is None:
            raise ValueError(f"{value!r} is no image; write it as registry/name:tag")
        return value


class InstanceTypeSetting(BaseModel):
    """The size of an instance type: what a job of it is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cpus: Annotated[float, Field(gt=0)]
    """CPUs, or parts of one."""
    memory_gb: Annotated[float, Field(gt=0)]
    """Memory, in GiB."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """Whole GPUs."""


class Settings(BaseSettings):
    """All that can be set: each name is a key of the file, ``JOBSPHERE_<NAME>``, and an option of ``jobsphere up``."""

    model_config = SettingsConfigDict(env_prefix="JOBSPHERE_", extra="forbid", frozen=True)

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where everything lives."""
    shared_dir: Path | None = None
    """The folder that all servers of one database, and all nodes, see under the same path: certificates, keys,
    datasets, project disks. By default the data directory."""
    ray_address: Annotated[str, Field(pattern=r"^(auto|[^\s:/@]+:[0-9]+|\[[0-9a-fA-F:.]+\]:[0-9]+)?$")] = ""
    """The Ray cluster whose nodes run the jobs: host:port of its head, or auto for the one that this host is a node of.
    By default there is none."""
    ray_data_dir: Path = Path("/var/lib/jobsphere-node")
    """The folder for agents on Ray's nodes, on a local disk of each; below it each has one of its node's name."""
    host: str = "127.0.0.1"
    """The address to listen on. Off loopback, every call needs a token."""
    grpc_port: Port = 9443
    """gRPC over TLS; 0 picks a free port, as for the others."""
    proxy_port: Port = 9444
    """The CONNECT proxy by which the vendor's client finds this server."""
    http_port: Port = 9080
    """Files, health and pages."""
    public_host: str = ""
    """The name that clients use for this server in URLs, if it is not ``host``."""
    require_tokens: bool | None = None
    """Whether every call needs a token. By default only when ``host`` is not a loopback address."""
    instance_types: dict[str, InstanceTypeSetting] = Field(default_factory=dict)
    """The instance types that there are, each given in full: ``[instance_types] "c1.4" = {cpus = 4, memory_gb = 16}``.
    Without any, the vendor's types are scaled down to this machine."""
    jobs_at_once: Annotated[int, Field(ge=1)] = DEFAULT_JOBS_AT_ONCE
    """How many jobs of the smallest type fit at a time where the vendor's types are scaled down: 1 gives each job more
    memory, a larger number lets more of them run side by side."""
    job_pids: Annotated[int, Field(ge=16)] = DEFAULT_PIDS
    """How many processes and threads a job may have."""
    node_cpus: Annotated[float, Field(gt=0)] | None = None
    """The CPUs that jobs get, all together. By default all that the server may use."""
    node_memory_gb: Annotated[float, Field(gt=0)] | None = None
    """The memory that jobs get, all together, in GiB. By default nine tenths of the machine's."""
    node_gpus: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """The GPUs that jobs get, by their indices. By default all."""
    working_storage: Path | None = None
    """The folder, on a large volume, where jobs with ``extended_working_storage`` work. By default the data
    directory's own disk."""
    slurm_partition: str = ""
    """The partition of Slurm that all jobs go to, one job of Slurm each; empty: they run on this machine. Servers and
    compute nodes need ``shared_dir`` under the same path."""
    slurm_args: tuple[str, ...] = ()
    """More options of `sbatch` for every job: ``--account=…``, ``--qos=…``, ``--time=…``."""
    slurm_poll_s: Annotated[float, Field(gt=0)] = 5
    """How often Slurm is asked about its jobs, in seconds: once for all of them."""
    slurm_grace_s: Annotated[float, Field(ge=0)] = 30
    """How long the records of a job that Slurm has ended may take through the shared folder, in seconds, before the job
    counts as lost: longer than a network filesystem keeps what it has looked up."""
    sandbox: Annotated[str, Field(pattern="^(auto|bubblewrap|none)$")] = "auto"
    """How jobs are fenced in: ``auto`` takes bubblewrap where it works and warns where it does not, ``bubblewrap``
    refuses to start without it, ``none`` does without."""
    network: bool = True
    """Whether jobs in a sandbox reach the network."""
    sandbox_read_only: tuple[str, ...] = ()
    """More folders that jobs in a sandbox may read, by absolute path: model weights, shared data."""
    container_engine: Annotated[str, Field(pattern="^(auto|podman|docker|none)$")] = "auto"
    """What runs jobs with a Docker image: ``auto`` takes podman, else docker, whichever works."""
    container_engine_args: tuple[str, ...] = ()
    """Options for every call of the engine, before its subcommand: ``--runtime``, ``--root`` and the like."""
    container_run_args: tuple[str, ...] = ()
    """Options for starting a job's container: ``--network=host`` and the like."""
    image_pull: Annotated[str, Field(pattern="^(missing|always)$")] = "missing"
    """``missing`` pulls images that are not here yet. On a server of several teams use ``always``: it lets nobody run
    what another's login has brought."""
    image_pull_timeout_s: Annotated[float, Field(gt=0)] = 1800
    """How long a pull may take, in seconds."""
    images: dict[str, ImageSetting] = Field(default_factory=dict)
    """The images that jobs name by an id: ``[images] "system-python-3-10" = {image = "docker.io/python:3.10"}``."""
    secret_key_file: Path | None = None
    """The file with the keys that seal secrets; by default ``secret.keys`` in the data directory, if there is one."""
    mask_secrets: bool = False
    """Whether values of secrets are replaced by asterisks in the logs of jobs."""
    s3_mounts: Annotated[str, Field(pattern="^(auto|fuse|staging)$")] = "auto"
    """How jobs get at the buckets of S3 connectors: ``auto`` mounts them by FUSE where this host can and stages them
    where it cannot, ``fuse`` refuses to start without, ``staging`` brings copies and writes changes back."""
    python_search_path: tuple[str, ...] = ()
    """More folders (globs allowed) to look for Python interpreters in, before the usual ones."""
    conda_channel_alias: Annotated[str, Field(pattern=r"^(https?|file)://[^\s@]+$")] = "https://conda.anaconda.org"
    """The URL that conda channels without one are folders of: a mirror, perhaps. It may hold no login."""
    environment_cache_gb: Annotated[float, Field(ge=0)] = 50
    """How much disk built environments and the installers' caches may use, in GiB: unused ones go when it is more."""
    image_cache_gb: Annotated[float, Field(ge=0)] = 50
    """The same for container images that jobs pulled; images that came otherwise are not touched."""
    blobs: Annotated[str, Field(pattern=r"^((s3|gs|az)://[^\s/?#@]+(/[^\s?#]*)?)?$")] = ""
    """The bucket that files of jobs are kept in, s3://bucket/prefix (also gs:// and az://); by default the data
    directory."""
    blobs_endpoint: Annotated[str, Field(pattern=r"^(https?://[^\s@]+)?$")] = ""
    """The URL of the service that has the bucket, as this server, its nodes and all clients reach it, unless it is the
    provider's own."""
    blobs_region: str = ""
    """The region of the bucket."""
    blobs_key_file: Path | None = None
    """The TOML file with the keys for the bucket (access_key_id, secret_access_key); by default the variables
    AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, else what the machine's role has."""
    blob_cache_gb: Annotated[float, Field(ge=0)] = 20
    """How much disk copies of files from the bucket may use on a node, in GiB: those least lately used go first."""
    oidc_issuer: str = ""
    """The OpenID provider whose tokens are taken, by its issuer URL (https://…); empty for none."""
    oidc_audience: str = ""
    """Whom its tokens must be meant for: the client id that the provider knows this server by."""
    oidc_subject_claim: Annotated[str, Field(min_length=1)] = "sub"
    """The claim that names a user, as `jobsphere user add --external-id` has it: sub, or email (a verified one)."""
    project_jobs: Annotated[int, Field(ge=0)] | None = None
    """How many jobs a project may have stored, unless it has a quota of its own; by default any number, as below."""
    project_gb: Annotated[float, Field(ge=0)] | None = None
    """How much a project may have in files of jobs, in datasets and on its disk, in GiB."""
    project_running: Annotated[int, Field(ge=1)] | None = None
    """How many jobs of a project may run at a time."""
    project_queued: Annotated[int, Field(ge=0)] | None = None
    """How many executed jobs of a project may wait for their turn."""
    drain_s: Annotated[float, Field(ge=0)] = 0
    """How long the server, told to stop, still answers and takes no new jobs, in seconds: what a load balancer needs to
    look elsewhere."""
    dataset_days: Annotated[int, Field(ge=1)] | None = None
    """After how many days without a job that uses it a dataset is removed, whoever made it; by default never."""
    audit_days: Annotated[int, Field(ge=1)] | None = None
    """How long rows of the audit log are kept, in days; by default for ever."""
    log_format: Annotated[str, Field(pattern="^(console|json)$")] = "console"
    """How the server writes its own log on stderr."""
    database_url: str = ""
    """The PostgreSQL database that holds jobs, projects and all else of its kind: postgresql://user@host:5432/name,
    without the password. By default a file of SQLite in the data directory."""
    database_password_file: Path | None = None
    """The file with the password for it; or give it by the variable ``JOBSPHERE_DATABASE_PASSWORD``."""
    traces: bool | None = None
    """Whether traces are sent, by OTLP over HTTP; it takes the extra `jobsphere[otel]`. By default only where
    ``trace_endpoint`` is set. The standard ``OTEL_…`` variables count for all that is not set here."""
    trace_endpoint: str = ""
    """The collector of traces, by its base URL: ``http://127.0.0.1:4318``. It may hold no login: that goes into
    ``OTEL_EXPORTER_OTLP_HEADERS``."""
    trace_sampling: Annotated[float, Field(ge=0, le=1)] | None = None
    """Which part of the traces that begin here is recorded, 0 to 1; by default all. Callers that bring a trace say it
    themselves."""

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer_is_safe(cls, value: str) -> str:
        if value and not is_safe_url(value):
            raise ValueError(f"{value!r} is no https:// URL (http:// is for this machine only)")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_postgresql(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and parts.scheme not in {"postgresql", "postgres"}:
            raise ValueError("it must be like postgresql://user@host:5432/name")
        if parts.password is not None or "password" in dict(parse_qsl(parts.query)):
            raise ValueError(f"it may hold no password: others see settings; use {PASSWORD_VARIABLE} or a file")
        return value

    @field_validator("trace_endpoint")
    @classmethod
    def _endpoint_is_plain(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and not (parts.scheme in {"http", "https"} and parts.hostname and parts.username is None):
            raise ValueError("it must be http://host:port or https://…, without a login")
        return value

    @property
    def traced(self) -> bool:
        """Whether traces are sent: as set, else wherever it is said where to."""
        return bool(self.trace_endpoint) if self.traces is None else self.traces

    @property
    def tokens_required(self) -> bool:
        """Whether calls need a token: as set, else wherever others than this machine's users can connect."""
        return not is_loopback(self.host) if self.require_tokens is None else self.require_tokens

    @property
    def shared(self) -> Path:
        """Where everything lies that all servers of one database, and all nodes, must agree on; absolute."""
        return (self.shared_dir or self.data_dir).expanduser().absolute()

    @property
    def node_dir(self) -> Path:
        """What supervisors call the data directory: where run directories, environments and copies of files are.

        The jobs of Slurm run on other hosts, which see the shared folder only.
        """
        return self.shared if self.slurm_partition else self.data_dir.expanduser().absolute()

    @property
    def client_host(self) -> str:
        """The host that clients connect to."""
        if self.public_host:
            return self.public_host
        return "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104


def is_loopback(host: str) -> bool:
    """Whether only processes of this machine can reach ``host``."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_safe_url(url: str) -> bool:
    """Whether what is fetched from there surely comes from there: by TLS, or from this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and is_loopback(parts.hostname or "")


def load(options: Mapping[str, object], config: Path | None = None) -> Settings:
    """Settings from all sources.

    Args:
        options: What the command line names; None values count as not named.
        config: The TOML file; by default ``jobsphere.toml`` in the data directory, if there is one.

    Raises:
        InvalidArgumentError: a value that cannot be, by its name, or a file that cannot be read.
    """
    named = {k: v for k, v in options.items() if v is not None}
    try:
        if config is None:
            guess = Settings(**_pick(named, "data_dir")).data_dir / CONFIG_NAME  # pyright: ignore[reportArgumentType]
            config = guess if guess.is_file() else None
        from_file = _read(config) if config else {}
        from_env = {k for k in Settings.model_fields if f"JOBSPHERE_{k.upper()}" in os.environ}
        values = {k: v for k, v in from_file.items() if k not in from_env} | named
        return Settings(**values)  # pyright: ignore[reportArgumentType]
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(p) for p in first["loc"])
        known = ", ".join(Settings.model_fields)
        raise InvalidArgumentError(f"setting {where}: {first['msg']}; the settings are: {known}") from e


def shared_of(data_dir: Path) -> Path:
    """The shared folder of a data directory, as its settings have it; see :attr:`Settings.shared`.

    Raises:
        InvalidArgumentError: as :func:`load`.
    """
    return load({"data_dir": data_dir}).shared


def _pick(values: Mapping[str, object], key: str) -> dict[str, object]:
    return {key: values[key]} if key in values else {}


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise InvalidArgumentError(f"config file {path}: {e}") from e
