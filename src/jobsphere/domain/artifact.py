"""Files of a job: descriptions, contents by hash, and what could not be collected.

The shapes are those of ``yandex.cloud.datasphere.v2.jobs`` (File, FileDesc, FileUploadError).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

EMPTY_SHA256 = hashlib.sha256().hexdigest()
"""Of a file without a byte: whoever needs its content has it."""


class Compression(StrEnum):
    """How the bytes of a file are packed."""

    UNSPECIFIED = "FILE_COMPRESSION_TYPE_UNSPECIFIED"
    NONE = "NONE"
    ZIP = "ZIP"


@dataclass(frozen=True, slots=True)
class FileDesc:
    """A path as the user wrote it, and the variable that stands for it in ``cmd`` (empty: none)."""

    path: str
    var: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file with known content.

    ``sha256`` is 64 lower-case hex digits; ``size_bytes`` counts the bytes that travel (the ZIP of a folder).
    """

    desc: FileDesc
    sha256: str = ""
    size_bytes: int = 0
    compression: Compression = Compression.NONE


class ArtifactKind(StrEnum):
    """What a file is to its job."""

    INPUT = "input"
    MODULE = "module"
    OUTPUT = "output"
    LOG = "log"
    DIAGNOSTIC = "diagnostic"


class FileErrorType(StrEnum):
    """Why a file of the job is not there."""

    UPLOAD_FAILED = "UPLOAD_FAILED"
    NOT_FOUND = "NOT_FOUND"


@dataclass(frozen=True, slots=True)
class FileError:
    """A file that was asked for and could not be collected: an output (``desc``) or a log (``log_file_name``)."""

    description: str
    type: FileErrorType
    desc: FileDesc | None = None
    log_file_name: str = ""


@dataclass(frozen=True, slots=True)
class Artifacts:
    """What an attempt left behind, ready to be downloaded."""

    outputs: tuple[File, ...] = ()
    logs: tuple[File, ...] = ()
    diagnostics: tuple[File, ...] = ()
    errors: tuple[FileError, ...] = field(default=())

    def files(self) -> tuple[File, ...]:
        """All files that have bytes."""
        return self.outputs + self.logs + self.diagnostics
