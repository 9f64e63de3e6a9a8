"""Where a blob lies. Standard library only: supervisors read blobs by these names too."""

from __future__ import annotations

import os
import re
from pathlib import Path

from jobsphere.domain.errors import InvalidArgumentError

BLOBS, CACHE = "blobs", "blob-cache"
"""In the data directory: blobs, and copies of those that are in a bucket."""
BUCKET_VARIABLE = "JOBSPHERE_BUCKET"
"""By which a node is told of the bucket, keys and all: it travels in memory only."""
INCOMING = ".incoming"
TRASH = ".trash"
CORRUPTED = ".corrupted"

_PROJECT = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def blob_path(root: Path, project_id: str, sha256: str) -> Path:
    """The place of a blob below ``root``, whether it is there or not.

    Raises:
        InvalidArgumentError: the id or the hash is not one; nothing that names another place gets past.
    """
    return project_path(root, project_id) / checked_hash(sha256)[:2] / sha256


def trash_path(root: Path, project_id: str) -> Path:
    """Where blobs of a project wait for the decision whether they go."""
    return project_path(root / TRASH, project_id)


def project_path(root: Path, project_id: str) -> Path:
    """The directory of a project below ``root``.

    Raises:
        InvalidArgumentError: the id is not one.
    """
    return root / checked_project(project_id)


def projects_in(root: Path) -> list[str]:
    """The ids of the projects that have something below ``root``, none if it is not there.

    Locks, drafts and what is set aside have names with a dot.
    """
    return sorted(name for name in os.listdir(root) if not name.startswith(".")) if root.is_dir() else []


def checked_project(project_id: str) -> str:
    """The id itself.

    Raises:
        InvalidArgumentError: it is not one; nothing that names another place gets past.
    """
    if not _PROJECT.fullmatch(project_id):
        raise InvalidArgumentError("the project id must be letters, digits, '-' and '_', 64 at most")
    return project_id


def checked_hash(sha256: str) -> str:
    """The hash itself.

    Raises:
        InvalidArgumentError: it is not 64 lower-case hex digits.
    """
    if not _SHA256.fullmatch(sha256):
        raise InvalidArgumentError("sha256 must be 64 lower-case hex digits")
    return sha256
