"""A full disk: found out in time, and ended by ending the job that uses most of it, so that no other is harmed."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress

from jobsphere.domain.limits import human_size
from jobsphere.runner.command_line import SYSTEM_PATH
from jobsphere.runner.processes import tree
from jobsphere.runner.rundir import LOGS, ROOT_DIRECTORIES, RunDirectory

LITTLE_BYTES = 1 << 20
"""With less left the disk counts as full; and a job that uses less has not filled it."""
_LOOK_S = 60
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class NoRoomError(Exception):
    """The disk is full, and this attempt's files are the reason; the text says so, for the user."""


@contextmanager
def suppress_full() -> Generator[None]:
    """Leave out what is not worth a failure on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise


def is_full(path: str) -> bool:
    """Whether the disk of ``path`` is as good as full."""
    disk = os.statvfs(path)
    free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    return free * disk.f_frsize < LITTLE_BYTES


def blame(run_directory: str) -> None:
    """On a full disk: find out whose files use most of it, among the attempts beside this one.

    Raises:
        NoRoomError: those of this attempt.
    """
    parent, own_name = os.path.split(run_directory)
    own = _usage(run_directory)
    if own < LITTLE_BYTES:
        return
    others = (n for n in os.listdir(parent) if n != own_name and not n.startswith("."))
    if all(_usage(os.path.join(parent, name)) <= own for name in others):
        raise NoRoomError(
            f"No space left on device: the job was ended and its files were removed. They and its log had "
            f"{human_size(own)}, more than any other job's. Write less, or have the server's disk enlarged."
        )


def _usage(run_directory: str) -> int:
    """Bytes on the disk of an attempt's files and its log; 0 for one that goes away meanwhile."""
    places = [p for name in (*ROOT_DIRECTORIES, LOGS) if os.path.exists(p := os.path.join(run_directory, name))]
    return (_on_disk(places) + without_a_name(run_directory, run_directory)) if places else 0


def _on_disk(places: list[str]) -> int:
    """By a program that walks trees deeper than Python can."""
    try:
        told = subprocess.run(
            ["du", "-s", "-x", "-k", "--", *places], capture_output=True, text=True, check=False,
            env={"PATH": SYSTEM_PATH}, timeout=_LOOK_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return 0
    return sum(int(line.split(None, 1)[0]) * 1024 for line in told.stdout.splitlines())


def without_a_name(run_directory: str, disk_of: str) -> int:
    """Bytes, on the disk that ``disk_of`` lies on, of files that an attempt's processes have removed and hold open."""
    pid, disk = RunDirectory(run_directory).claimed_by(), os.stat(disk_of).st_dev
    sizes: dict[int, int] = {}
    for process in tree(pid) if pid else ():
        with suppress(OSError):  # it ends meanwhile, or does not let itself be seen
            for name in os.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    file = os.stat(f"/proc/{process}/fd/{name}")
                    if file.st_nlink == 0 and file.st_dev == disk and stat.S_ISREG(file.st_mode):
                        sizes[file.st_ino] = file.st_blocks * 512
    return sum(sizes.values())
