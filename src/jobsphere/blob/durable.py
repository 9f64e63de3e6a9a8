"""Steps that survive a power cut once they returned. All of them block: call them in a thread.

Supervisors use them too: nothing is imported that they do not need.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from jobsphere.blob.paths import CORRUPTED, blob_path
from jobsphere.durable import Point, durable, sync_directory


def make_directories(path: Path) -> None:
    """Make a directory and those above it, each of the new ones durable in its parent."""
    if path.is_dir():
        return
    make_directories(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent, Point.BLOB_FOLDER)


def put_in_place(source: Path, target: Path) -> None:
    """Rename a finished, fsynced file to its last name, durably. What was there before is replaced at once."""
    make_directories(target.parent)
    with durable(Point.BLOB_PLACED):
        os.rename(source, target)
    sync_directory(target.parent, Point.BLOB_PLACED)


def set_aside(root: Path, project_id: str, sha256: str) -> bool:
    """Put a blob that was found to hold other bytes than its name says where nobody takes it for one; whether it did.

    It is looked at once more: it may have been brought anew since. The project does not hold it from then on, so that
    the next job that needs it has it uploaded.
    """
    path = blob_path(root, project_id, sha256)
    aside = root / CORRUPTED / f"{project_id}-{sha256}"
    aside.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return False
        with durable(Point.BLOB_SET_ASIDE):
            os.rename(path, aside)
    except FileNotFoundError:  # another job has found it too
        return True
    sync_directory(path.parent, Point.BLOB_SET_ASIDE)
    return True
