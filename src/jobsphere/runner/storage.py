"""Extended working storage: a job's working directory on a volume of its own, and the quota that it has there.

The run directory's ``work`` is a link to it then, made before what it leads to: who removes the one finds the other.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from jobsphere.domain.capacity import gib
from jobsphere.domain.command import WORK
from jobsphere.domain.job import Phase
from jobsphere.runner.archive import remove_tree
from jobsphere.runner.bench import Bench, StepError
from jobsphere.runner.command_line import SYSTEM_PATH
from jobsphere.runner.processes import ATTEMPT_VARIABLE, start
from jobsphere.runner.room import without_a_name

_BLOCK = 1024
_LOOK_AGAIN_S, _LOOKING_SHARE = 5.0, 0.02
"""The use is measured so often, and less often where that takes long: it shall not be what the disk is busy with."""


def open_storage(bench: Bench, volume: str) -> None:
    """Lay the working directory on the volume, if the attempt has a quota there. Done once, before anything is staged.

    Raises:
        StepError: there is less room than the job was promised.
        OSError: it cannot be made.
    """
    limits = bench.plan.limits
    if limits is None or not limits.storage_bytes:
        return
    disk = os.statvfs(volume)
    free = disk.f_bavail * disk.f_frsize
    if free < limits.storage_bytes:
        raise StepError(
            Phase.STAGE,
            f"The volume for extended working storage has {gib(free)} left, while this job is to have "
            f"{gib(limits.storage_bytes)}. Ask for less, or have the server's operator make room.",
        )
    work, folder = bench.run_directory.at(WORK), moved_folders(bench, volume)[WORK]
    Path(work).rmdir()
    os.symlink(folder, work)
    os.mkdir(folder, 0o755)
    bench.log(f"Extended working storage: {gib(limits.storage_bytes)}")


def moved_folders(bench: Bench, volume: str) -> dict[str, str]:
    """Those of the job's folders that lie on the volume, and where."""
    limits = bench.plan.limits
    return {WORK: os.path.join(volume, bench.plan.attempt_id)} if limits and limits.storage_bytes else {}


def remove_job_folder(path: str) -> None:
    """Remove one of a job's folders, and what it is a link to. May be repeated."""
    if os.path.islink(path):
        remove_tree(os.readlink(path))
    remove_tree(path)


class Quota:
    """Measures the working directory now and then, by a program of its own, and tells when it is too large."""

    def __init__(self, bench: Bench) -> None:
        limits = bench.plan.limits
        self._bench = bench
        self._limit = limits.storage_bytes if limits else 0
        self._folder = os.path.realpath(bench.run_directory.at(WORK))
        self._due = time.monotonic()
        self._begin = 0.0
        self._reader: int | None = None

    def look(self) -> int | None:
        """Take a result or start a measurement: the process id of the new one. Never waits.

        Raises:
            StepError: the working directory is larger than its quota.
        """
        if not self._limit:
            return None
        if self._reader is None:
            return self._start() if time.monotonic() >= self._due else None
        try:
            told = os.read(self._reader, 4096)
        except BlockingIOError:
            return None
        self.close()
        now = time.monotonic()
        self._due = now + max(_LOOK_AGAIN_S, (now - self._begin) / _LOOKING_SHARE)
        if told:
            self._judge(int(told.split(None, 1)[0]) * _BLOCK)
        return None

    def close(self) -> None:
        """Let go of a measurement under way."""
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None

    def _start(self) -> int:
        self._begin = time.monotonic()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(reader, False)
        argv = ["nice", "-n", "19", "du", "-s", "-x", "-k", "--", self._folder]
        environment = {"PATH": SYSTEM_PATH, ATTEMPT_VARIABLE: self._bench.mark}
        quiet = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            pid = start(argv, environment, "/", writer, quiet)
        finally:
            os.close(writer)
            os.close(quiet)
        self._reader = reader
        return pid

    def _judge(self, named: int) -> None:
        used = named + without_a_name(self._bench.run_directory.path, self._folder)
        if used > self._limit:
            raise StepError(
                Phase.RUN,
                f"The working directory has {gib(used)}, more than its {gib(self._limit)} of extended working storage: "
                "the program was ended. Ask for more by extended_working_storage, or write less.",
            )
