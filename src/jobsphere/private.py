"""What of a data directory is its owner's alone, however it was made or copied."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

OWNERS_ONLY = ("key", "secret.keys", "tls/ca-key.pem", "tls/server.pem", "jobsphere.db", "jobsphere.db-wal")
"""Whoever reads one of these can act as the operator, or as the server, or opens secrets."""
_OTHERS, _ALL_BUT_OWNER = 0o007, 0o077


def keep_private(data_dir: Path) -> Sequence[Path]:
    """Take from all others what is not theirs: the directory itself, and from the group too its keys and database.

    Returns:
        What was open to them until now.

    Raises:
        PermissionError: it belongs to another user, so that it stays open.
    """
    return [path for path, bits in private_parts(data_dir) if _taken(path, bits)]


def private_parts(data_dir: Path) -> Iterator[tuple[Path, int]]:
    """What is there of it, each with the bits of its mode that are not to be set."""
    yield data_dir, _OTHERS
    yield from ((data_dir / name, _ALL_BUT_OWNER) for name in OWNERS_ONLY if (data_dir / name).exists())


def _taken(path: Path, bits: int) -> bool:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & bits:
        os.chmod(path, mode & ~bits)
    return bool(mode & bits)
