"""Files on their way into a backup or out of it: copied or linked, hashed as they go."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

Report = Callable[[int], None]
"""Told how many bytes have gone by."""
_CHUNK = 1 << 20
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOENT})


def read_hash(fd: int, report: Report, write: Callable[[bytes], object] | None = None) -> str:
    """The SHA-256 of an open file, each piece of which goes to ``write`` as well."""
    digest = hashlib.sha256()
    while chunk := os.read(fd, _CHUNK):
        digest.update(chunk)
        if write:
            write(chunk)
        report(len(chunk))
    return digest.hexdigest()


def copy_file(source: Path, target: Path, report: Report, *, link: bool = False) -> str | None:
    """Copy a file, or give it a second name where ``link`` asks for it and the file system can.

    The copy has the original's right to be read and run by its owner, and others' if the original's had them.

    Returns:
        Its SHA-256; None if there is no such file, or what is there is none.
    """
    try:
        fd = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            return None
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        if link and _link(fd, target):
            return read_hash(fd, report)
        return _copy(fd, target, stat.S_IMODE(status.st_mode), report)
    finally:
        os.close(fd)


def files_below(top: Path) -> Iterator[tuple[Path, bool]]:
    """Every folder (True) and every file (False) below a folder, each folder before what is in it; no links."""
    left = [top]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                left.append(Path(entry.path))
                yield Path(entry.path), True
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path), False


def size_of(path: Path) -> int:
    """Its bytes; 0 for what is not there."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _link(fd: int, target: Path) -> bool:
    """By the open descriptor: its name may be another by now."""
    try:
        # The folder's descriptor says nothing here: it makes Python take the system call that follows a link.
        os.link(f"/proc/self/fd/{fd}", target, src_dir_fd=fd, follow_symlinks=True)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def _copy(fd: int, target: Path, mode: int, report: Report) -> str:
    with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as writer:
        sha256 = read_hash(fd, report, writer.write)
        os.fchmod(writer.fileno(), mode)
    return sha256
