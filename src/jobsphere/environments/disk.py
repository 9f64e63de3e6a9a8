"""Steps that survive a power cut once they returned, and trees of files."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from jobsphere.durable import Point, durable, sync_directory


def write_durably(path: Path, content: bytes) -> None:
    """Write a small file at once or not at all. The caller keeps others from it."""
    draft = path.with_name(f"{path.name}.draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        with durable(Point.ENVIRONMENT_RECORD):
            os.fsync(file.fileno())
    with durable(Point.ENVIRONMENT_RECORD):
        os.rename(draft, path)
    sync_directory(path.parent, Point.ENVIRONMENT_RECORD)


def seal(folder: Path) -> int:
    """Take the right to write from every file below: also from the installer's cache, where it is the same file.

    A job of an ordinary user then cannot change a file in place, by mistake or otherwise; root is not held up by it.

    Returns:
        The bytes on the disk of all these files.
    """
    size = 0
    for where, names in walk(folder):
        fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                mode = status.st_mode
                size += status.st_blocks * 512
                if stat.S_ISREG(mode) and mode & 0o222:
                    os.chmod(name, stat.S_IMODE(mode) & ~0o222, dir_fd=fd)
        finally:
            os.close(fd)
    return size


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it, however deep, also what a build script has left without permissions.

    Raises:
        OSError: something stays.
    """
    subprocess.run(["chmod", "-R", "u+rwX", "--", folder], capture_output=True, check=False)
    removed = subprocess.run(["rm", "-rf", "--", folder], capture_output=True, text=True, check=False)
    if removed.returncode:
        raise OSError(f"{folder} cannot be removed: {removed.stderr.strip()[-300:]}")


def walk(top: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder at and below ``top`` with the names in it that are no folders, however deep.

    What goes meanwhile is left out, and what lies deeper than a path can reach.
    """
    left = [str(top)]
    while left:
        where = left.pop()
        try:
            with os.scandir(where) as entries:
                listed = [(entry.path, entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            continue
        left += [path for path, _, is_folder in listed if is_folder]
        yield where, [name for _, name, is_folder in listed if not is_folder]


def sync_file_system(path: Path) -> None:
    """Make everything that was written to the file system of ``path`` durable: thousands of files in one call."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with durable(Point.ENVIRONMENT_SYNC):
            if libc.syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)
