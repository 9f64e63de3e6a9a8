"""What belongs to a project and is given to its jobs: one frozen body a kind, in one common frame."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import ClassVar, Generic, TypeVar

from jobsphere.domain.errors import FailedPreconditionError, InvalidArgumentError
from jobsphere.domain.job import Job
from jobsphere.domain.spark import SparkMode

MAX_OF_KIND = 100
"""How many resources of one kind a project may have."""
MAX_SECRET_BYTES = 64 * 1024
_SECRET_NAME = re.compile(r"[0-9A-Za-z_-]{1,63}")
_RESERVED_NAMES = frozenset({"DS_PROJECT_HOME", "JOBSPHERE_ATTEMPT_ID", "JOBSPHERE_JOB_ID"})
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,62}")
_SHOWN_JOBS = 5


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that the project's jobs get as an environment variable of the resource's name.

    ``sealed``: the value, encrypted for this project only. The value itself is nowhere in the domain.
    """

    KIND: ClassVar[str] = "secret"

    sealed: str = field(repr=False)
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DockerImage:
    """A container image under a name. ``reference`` is complete: registry, name, and a tag or digest.

    The password that goes with ``username`` is the value of the project's secret ``password_secret``, or sealed here:
    then no job gets it as a variable.
    """

    KIND: ClassVar[str] = "image"

    reference: str
    username: str = ""
    password_secret: str = ""
    password_sealed: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Dataset:
    """Files that never change, and that jobs see read-only. ``job_id``: the job that made it (empty: none)."""

    KIND: ClassVar[str] = "dataset"

    size_bytes: int
    files: int
    description: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class S3Connector:
    """A bucket, or what is below a ``prefix`` of it. Its keys are the values of two secrets, or there are none.

    One that is not ``active`` is given to no job.
    """

    KIND: ClassVar[str] = "S3 connector"

    bucket: str
    endpoint: str = ""
    region: str = ""
    prefix: str = ""
    access_key_secret: str = ""
    secret_key_secret: str = ""
    read_only: bool = True
    active: bool = True


@dataclass(frozen=True, slots=True)
class SparkConnector:
    """A Spark for jobs' sessions. ``host`` is ``name:port``, with what else stands in a Spark Connect URL.

    ``secret_params`` are session parameters whose values are those of the project's secrets that are named there.
    """

    KIND: ClassVar[str] = "Spark connector"

    mode: SparkMode = SparkMode.CONNECT
    host: str = ""
    params: tuple[tuple[str, str], ...] = ()
    secret_params: tuple[tuple[str, str], ...] = ()


Body = Secret | DockerImage | Dataset | S3Connector | SparkConnector
B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Resource(Generic[B]):
    """A thing of one project. Of each kind a project has one of a name; ``version`` counts the stored states."""

    id: str
    project_id: str
    name: str
    created_at: datetime
    created_by_id: str
    body: B
    version: int = 1


def check_name(name: str) -> None:
    """Refuse what is no name of a resource.

    Raises:
        InvalidArgumentError: it is none.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(
            f"name: {name[:100]!r} must have 1 to 63 of the characters 0-9 A-Z a-z . _ -, and begin with no sign"
        )


def output_dataset_id(attempt_id: str, number: int) -> str:
    """The id of the dataset that an attempt makes as its ``number``-th: the same each time it is asked."""
    rest, digits = int.from_bytes(sha256(f"{attempt_id}/{number}".encode()).digest()), ""
    for _ in range(20):
        rest, digit = divmod(rest, 36)
        digits += "0123456789abcdefghijklmnopqrstuvwxyz"[digit]
    return digits


def check_secret_name(name: str) -> None:
    """Refuse what cannot be a variable's name.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if not _SECRET_NAME.fullmatch(name):
        raise InvalidArgumentError(f"name: {name[:100]!r} must have 1 to 63 of the characters 0-9 A-Z a-z _ -")
    if name in _RESERVED_NAMES:
        raise InvalidArgumentError(f"name: {name!r} is a variable that the server sets itself; choose another name")


def check_secret(name: str, value: str) -> None:
    """Refuse what cannot be an environment variable. The text never shows the value.

    Raises:
        InvalidArgumentError: the name or the value cannot be.
    """
    check_secret_name(name)
    if not value:
        raise InvalidArgumentError(f"secret {name!r}: its value is empty")
    if "\0" in value:
        raise InvalidArgumentError(f"secret {name!r}: its value holds a NUL, which no environment variable can")
    if len(value.encode()) > MAX_SECRET_BYTES:
        raise InvalidArgumentError(f"secret {name!r}: its value is longer than {MAX_SECRET_BYTES // 1024} KiB")


def check_unused(what: str, users: Iterable[Job]) -> None:
    """Refuse to take away what live jobs use.

    Raises:
        FailedPreconditionError: naming them.
    """
    named = [f"{job.name} ({job.id})" if job.name else job.id for job in users]
    if named:
        more = f" and {len(named) - _SHOWN_JOBS} more" if len(named) > _SHOWN_JOBS else ""
        shown = ", ".join(named[:_SHOWN_JOBS]) + more
        raise FailedPreconditionError(f"{what} is in use by: {shown}; wait for their end, or cancel them first")
