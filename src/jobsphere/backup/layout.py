"""A backup on the disk.

::

    manifest.json     what it is a backup of; its being there says that all the rest is complete
    SHA256SUMS        every other file, in the form that ``sha256sum -c SHA256SUMS`` reads
    keys.sealed       the keys, under a passphrase; only if that was asked for
    data/             files of the data directory, by the names that they have there

Environments and the installers' caches are not in it: they are built again. Nor is what is true only while something
runs, nor what jobs were working on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jobsphere.domain.errors import CorruptedError, FailedPreconditionError, InvalidArgumentError
from jobsphere.runner import records

MANIFEST, SUMS, KEYS, DATA = "manifest.json", "SHA256SUMS", "keys.sealed", "data"
DATABASE, SETTINGS = "jobsphere.db", "jobsphere.toml"
BLOBS, ATTEMPTS, ENDED, DATASETS, DISKS = "blobs", "attempts", "ended", "datasets", "disks"
KEY_FILES = ("key", "secret.keys")
TLS = "tls"
FORMAT = 1
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    ``made_at``: ISO 8601, UTC, the moment that it shows. ``under_way``: jobs that had not ended then. ``keys``: whether
    the sealed keys are in it. ``sums_sha256``: of the list of files. ``problems``: sentences about what could not be
    backed up, for it was lost or damaged before.
    """

    made_at: str
    version: str
    schema: str
    projects: int
    jobs: int
    under_way: int
    files: int
    bytes: int
    keys: bool
    sums_sha256: str
    problems: tuple[str, ...] = ()
    format: int = FORMAT


def write_manifest(backup: Path, manifest: Manifest) -> None:
    """The last thing that is written."""
    (backup / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2) + "\n")


def read_manifest(backup: Path) -> Manifest:
    """What the backup says of itself.

    Raises:
        InvalidArgumentError: it is none, or a broken-off one.
        FailedPreconditionError: a newer version made it.
    """
    try:
        manifest = records.loads(Manifest, (backup / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise InvalidArgumentError(f"{backup} is no complete backup: it has no {MANIFEST}") from None
    except ValueError as error:
        raise CorruptedError(f"the {MANIFEST} of the backup {backup} cannot be read; use another backup") from error
    if manifest.format != FORMAT:
        raise FailedPreconditionError(
            f"{backup} was made by a newer jobsphere, {manifest.version}; restore it with that version"
        )
    return manifest


def dump_sums(sums: Mapping[str, str]) -> bytes:
    """The list of files: SHA-256 by path relative to the backup."""
    return b"".join(os.fsencode(_line(path, sums[path])) for path in sorted(sums))


def load_sums(data: bytes) -> dict[str, str]:
    """What :func:`dump_sums` was given.

    Raises:
        ValueError: it is no such list.
    """
    sums: dict[str, str] = {}
    for line in data.splitlines():
        text = os.fsdecode(line)
        escaped = text.startswith("\\")
        sha256, between, path = text[escaped : escaped + 64], text[escaped + 64 : escaped + 66], text[escaped + 66 :]
        if between != "  " or not path:
            raise ValueError("not a line of sha256sum")
        sums[_unescaped(path) if escaped else path] = sha256
    return sums


def _line(path: str, sha256: str) -> str:
    name = path
    for plain, escaped in _ESCAPES:
        name = name.replace(plain, escaped)
    mark = "" if name == path else "\\"
    return f"{mark}{sha256}  {name}\n"


def _unescaped(name: str) -> str:
    letters = iter(name)
    meant = {"n": "\n", "r": "\r"}
    return "".join(c if c != "\\" else meant.get(following := next(letters, ""), following) for c in letters)
