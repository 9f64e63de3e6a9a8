"""Keeps environments within a budget: those least lately used go first, and never one in use.

What is removed is made unusable first (its ``.ready`` mark goes, durably), so that a crash at any point leaves a prefix
that nobody takes for complete: the next look removes it, or the next job builds it again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobsphere.durable import Point, alone, durable, sync_directory
from jobsphere.environments.disk import remove_tree, walk
from jobsphere.environments.orphans import end_orphans

BUILD_MARK = "JOBSPHERE_BUILD"
"""Set in the environment of every program of a build: what a killed supervisor leaves running is known by it."""
BUILDS_LOCK = "builds.lock"
"""Held (flock, shared) by each build, for it works with the installers' caches."""


@dataclass(frozen=True, slots=True)
class StoredEnvironment:
    """A prefix on this host. ``complete`` False: a build is under way or was broken off; there is no use of it then."""

    fingerprint: str
    what: str
    size_bytes: int
    last_used: datetime
    build_seconds: float
    in_use: bool
    complete: bool


@dataclass(frozen=True, slots=True)
class Trimmed:
    """What was removed: whole environments, and bytes of the installers' caches."""

    environments: tuple[StoredEnvironment, ...] = ()
    cache_bytes: int = 0


def stored_environments(data_dir: Path) -> list[StoredEnvironment]:
    """All prefixes of a data directory, the least lately used first."""
    root = data_dir / "environments"
    found = [_look(entry) for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []
    return sorted((e for e in found if e is not None), key=lambda e: e.last_used)


def trim(data_dir: Path, budget_bytes: int) -> Trimmed:
    """Remove broken-off builds and, until all is within the budget, unused environments; then the caches if need be.

    A cache counts with what it holds alone: where its files are linked into a prefix, they are counted there.
    """
    root = data_dir / "environments"
    stored = stored_environments(data_dir)
    left = sum(e.size_bytes for e in stored)
    removed: list[StoredEnvironment] = []
    for environment in stored:
        unwanted = left > budget_bytes or not environment.complete
        if unwanted and _remove(root / environment.fingerprint):
            left -= environment.size_bytes
            removed.append(environment)
    return Trimmed(tuple(removed), _trim_caches(data_dir, budget_bytes - left))


def clear(prefix: Path) -> None:
    """Remove a prefix, and end what a killed builder has left at it. The caller holds a lock that keeps others off."""
    for name in (".ready", ".ready.draft"):
        prefix.with_suffix(name).unlink(missing_ok=True)
    if prefix.exists():
        sync_directory(prefix.parent, Point.ENVIRONMENT_CLEARED)
        end_orphans(f"{BUILD_MARK}={prefix}")
        remove_tree(prefix)
    prefix.with_suffix(".requirements").unlink(missing_ok=True)


def disk_usage(folder: Path, alone: bool = False) -> int:
    """Bytes on the disk of all regular files below; ``alone``: only of those that have no other link."""
    return sum(s.st_blocks * 512 for s in _files(folder) if not alone or s.st_nlink == 1)


def _files(folder: Path) -> Generator[os.stat_result]:
    for where, names in walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(where, name))
            except FileNotFoundError:  # a build that is under way
                continue


def _look(prefix: Path) -> StoredEnvironment | None:
    """None if it went meanwhile."""
    ready = prefix.with_suffix(".ready")
    with alone(prefix.with_suffix(".use")) as unused:
        try:
            record, when = json.loads(ready.read_bytes()), ready.stat().st_mtime
        except FileNotFoundError:
            record = {}
            try:
                when = prefix.stat().st_mtime
            except FileNotFoundError:
                return None
    size = record.get("bytes")
    return StoredEnvironment(
        prefix.name,
        record.get("what", "" if record else "being built or broken off"),
        disk_usage(prefix) if size is None else size,
        datetime.fromtimestamp(when, UTC),
        record.get("seconds", 0.0),
        in_use=not unused,
        complete=bool(record),
    )


def _remove(prefix: Path) -> bool:
    """Whether it could be removed: nobody uses or builds it, for both hold the lock of its use."""
    with alone(prefix.with_suffix(".use")) as unused:
        if unused:
            clear(prefix)
    return unused


def _trim_caches(data_dir: Path, budget_bytes: int) -> int:
    """Drop the installers' caches if what they hold alone does not fit; how much that was."""
    cache, doomed = data_dir / "cache", data_dir / "cache.removed"
    if doomed.exists():  # by one that was killed at it
        remove_tree(doomed)
    size = disk_usage(cache, alone=True)
    if size <= max(budget_bytes, 0):
        return 0
    with alone(data_dir / "environments" / BUILDS_LOCK) as idle:
        if not idle:
            return 0
        with durable(Point.CACHE_DROPPED):
            cache.rename(doomed)
    remove_tree(doomed)
    return size
