"""What a server and an agent say to each other by HTTP: values as the records of a run directory, logs as their frames.

An answer is blanks, as long as the agent works on it and nothing has come of it yet; then ``=`` and the value, or ``!``
and the error. Whoever waits knows so that the agent lives, however long the work takes. Frames of logs come alone, with
what else a chunk says in headers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from jobsphere.domain.attempt import CollectedFile, LogChunk
from jobsphere.domain.errors import CODES, JobsphereError, error_by_code
from jobsphere.runner.frames import packed, unpacked
from jobsphere.runner.records import dumps, loads

PREFIX = "/v1"
BEAT_S = 2.0
"""How often an agent that has nothing else to say says that it lives."""
SILENT_S = 12.0
"""Who says nothing for so long is away."""
FRAMES = "application/vnd.jobsphere.frames"
OFFSET, COMPLETE = "X-Log-Offset", "X-Log-Complete"
_VALUE, _ERROR = b"=", b"!"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Delivery:
    """The body of :meth:`jobsphere.domain.ports.Runner.deliver`."""

    project_id: str
    files: tuple[CollectedFile, ...]


@dataclass(frozen=True, slots=True)
class DatasetDelivery:
    """The body of :meth:`jobsphere.domain.ports.Runner.deliver_dataset`."""

    project_id: str
    name: str
    dataset_id: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of the domain: its code and its public text. Its context is in the agent's log."""

    code: str
    public: str


def attempt_path(attempt_id: str, *more: str) -> str:
    """Where an attempt, or something of it, is found at an agent; ready for a URL."""
    return "/".join((PREFIX, "attempts", quote(attempt_id, safe=""), *more))


def value(of: object) -> bytes:
    """An answer."""
    return _VALUE + dumps(of)


def refusal(error: JobsphereError) -> bytes:
    """The answer that is an error."""
    return _ERROR + dumps(Refusal(CODES.get(type(error), ""), error.public))


def answer(kind: type[T], body: bytes) -> T:
    """What :func:`value` was given.

    Raises:
        JobsphereError: what :func:`refusal` was given.
        ValueError: no answer, or not of that kind.
    """
    said = body.lstrip(b" ")
    if said.startswith(_ERROR):
        told = loads(Refusal, said[1:])
        raise error_by_code(told.code, told.public)
    if not said.startswith(_VALUE):
        raise ValueError("no answer")
    return loads(kind, said[1:])


def chunk_answer(chunk: LogChunk) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a piece of log."""
    return packed(chunk.frames), {OFFSET: str(chunk.offset), COMPLETE: str(int(chunk.complete))}


def chunk_of(body: bytes, offset: str, complete: str) -> LogChunk:
    """What :func:`chunk_answer` was given.

    Raises:
        ValueError: it is none.
    """
    return LogChunk(tuple(unpacked(body)), int(offset), bool(int(complete)))
