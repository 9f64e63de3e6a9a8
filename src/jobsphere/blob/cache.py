"""The copies of blobs that a host keeps, within a budget. Standard library only: supervisors look there."""

from __future__ import annotations

import os
import time
from pathlib import Path

_IN_USE_S = 3600.0
"""A copy that was brought or used so lately may be about to be read by its job."""


def trim(cache: Path, budget_bytes: int) -> int:
    """Remove copies, those least lately used first, until the budget holds the others; how many bytes went."""
    looked_at = [(path.lstat(), path) for path in cache.glob("*/??/*")]
    found = sorted((status.st_mtime, status.st_size, path) for status, path in looked_at)
    total, before, freed = sum(size for _, size, _ in found), time.time() - _IN_USE_S, 0
    for used_at, size, path in found:
        if total - freed <= budget_bytes or used_at > before:
            break
        path.unlink(missing_ok=True)
        freed += size
    return freed


def used(path: Path) -> bool:
    """Whether a copy is there; it is in use from now on."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
