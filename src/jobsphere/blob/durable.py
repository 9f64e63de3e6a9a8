"""Steps that survive a power cut once they returned. All of them block: call them in a thread."""

from __future__ import annotations

import os
from pathlib import Path

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
