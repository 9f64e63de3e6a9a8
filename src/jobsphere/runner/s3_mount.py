"""A bucket as a folder of the node, by a program that stays for as long as the job's program does."""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

from jobsphere.domain.attempt import Mount, S3Mount
from jobsphere.runner import fuse
from jobsphere.runner.bench import Bench
from jobsphere.runner.fuse import MountProgram, Place
from jobsphere.runner.image_pull import engine_environment
from jobsphere.runner.mounts import is_mounted, mounts_folder, remove_mount_point
from jobsphere.runner.processes import ATTEMPT_VARIABLE, start
from jobsphere.runner.rundir import OUTBOX

_READY_S, _LOOK_AGAIN_S = 60.0, 0.005
_BUSY_S, _END_S, _TERM_S = 5.0, 60.0, 5.0
_TOLD_BYTES, _SHOWN_CHARS = 64 * 1024, 800
_LOOK = """
import os, sys
try:
    next(os.scandir(sys.argv[1]), None)
except OSError as error:
    sys.exit(f"its folder cannot be listed: {error.strerror}")
"""
_S3_ERROR = re.compile(r"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")
_STAMP = re.compile(r"^[-0-9:.TZ/ ]+(\[\w+\]\s*)?")
_OTHERS_KEYS = ("AWS", "RCLONE_")
Masked = Callable[[str], str]


class CannotMountError(Exception):
    """The bucket cannot be mounted here; the text says why, for the user."""


class MountedBucket:
    """A bucket that is mounted. Its program is a child of this process that :class:`Reaper` spares.

    Args:
        bench: The attempt's.
        mount: The connector; the bucket can be reached with its keys.
        keys: The access key and the secret key, or two empty texts.
        owner: Whom the files are to belong to.
        masked: Takes the keys out of a text.

    Raises (making one):
        CannotMountError: no program, or it does not come up; nothing of it is left.
        StoppedError: a stop was asked for; nothing of it is left.
    """

    def __init__(self, bench: Bench, mount: S3Mount, keys: Sequence[str], owner: int, masked: Masked) -> None:
        self.name, self.read_only = mount.name, mount.read_only
        self.program = _program_for(bench, mount)
        self.mount = Mount(
            os.path.join(mounts_folder(bench.run_directory.path), mount.connector_id),
            mount.location,
            (mount.connector_id,),
            read_only=mount.read_only,
        )
        self._bench, self._masked = bench, masked
        os.makedirs(self.mount.source, mode=0o700, exist_ok=True)
        self._told = _nameless(bench.run_directory.at(OUTBOX))
        self._pid = self._start(mount, keys, owner)
        self._pidfd = os.pidfd_open(self._pid)
        try:
            self._wait()
        except BaseException:
            self._give_up()
            raise

    def unmount(self) -> str:
        """Unmount it, with no process of the job left: what went wrong with what was written, empty if nothing did.

        Every file was written to the bucket when it was closed; what its program was told then, it may have ignored.
        """
        problem = f"{self.program.name} ended before the job did (code {self._code()})" if self._has_ended(0) else ""
        patience = _END_S
        try:
            if not remove_mount_point(self.mount.source, _BUSY_S):
                self._bench.log(f"S3 connector {self.name!r}: something else on this machine still uses its folder")
                patience = 0.0
        except OSError as error:
            problem, patience = f"{error.filename} {error.strerror}", 0.0
        if not self._has_ended(patience):
            os.kill(self._pid, signal.SIGTERM)
        if not self._has_ended(_TERM_S):
            problem = f"{self.program.name} did not end when its folder was unmounted"
            self._bench.reaper.end_spared([self._pid])
            self._has_ended(_END_S)
        elif not problem and self._code():
            problem = f"{self.program.name} ended with code {self._code()}"
        failure = failure_in(self.program, self._said())
        self._close()
        return self._masked("; ".join(filter(None, (problem, failure))))

    def _start(self, mount: S3Mount, keys: Sequence[str], owner: int) -> int:
        bench = self._bench
        place = Place(self.mount.source, bench.run_directory.at(OUTBOX), owner, fuse.may_share())
        argv = [self.program.name, *self.program.argv(mount, place)]
        environment = _surroundings(bench.run_directory.at(OUTBOX)) | {ATTEMPT_VARIABLE: bench.mark}
        environment |= {name: key for name, key in zip(self.program.keys, keys, strict=True) if key}
        try:
            pid = start(argv, environment, "/", self._told, self._told)
        except OSError as error:
            remove_mount_point(self.mount.source, 0)
            os.close(self._told)
            raise CannotMountError(f"{self.program.name} cannot be started: {error.strerror}") from error
        bench.reaper.remember(pid)
        bench.reaper.spared.add(pid)
        return pid

    def _wait(self) -> None:
        """Until it is mounted, and its folder has been listed through the mount: a mount point alone proves nothing."""
        until = time.monotonic() + _READY_S
        while not is_mounted(self.mount.source):
            self._check(until)
        argv = [sys.executable, "-I", "-S", "-c", _LOOK, self.mount.source]
        looking = start(argv, {ATTEMPT_VARIABLE: self._bench.mark}, "/", self._told, self._told)
        self._bench.reaper.remember(looking)
        while (end := self._bench.reaper.ended(looking)) is None:
            self._check(until)
        if end[0]:
            raise CannotMountError(f"{self.program.name}: {self._last_words()}")

    def _check(self, until: float) -> None:
        self._bench.pause(_LOOK_AGAIN_S)
        self._bench.reaper.reap()
        if self._has_ended(0):
            raise CannotMountError(f"{self.program.name} ended with code {self._code()}: {self._last_words()}")
        if time.monotonic() > until:
            raise CannotMountError(f"{self.program.name} was not ready in {_READY_S:.0f} s: {self._last_words()}")

    def _give_up(self) -> None:
        """What waits for an answer of the program can only end when the program has."""
        self._bench.reaper.end_spared([self._pid])
        self._bench.reaper.end_all()
        remove_mount_point(self.mount.source, 0)
        self._close()

    def _has_ended(self, patience_s: float) -> bool:
        select.select([self._pidfd], (), (), patience_s)
        self._bench.reaper.reap()
        return self._bench.reaper.ended(self._pid) is not None

    def _code(self) -> int:
        ended = self._bench.reaper.ended(self._pid)
        return ended[0] if ended else 0

    def _close(self) -> None:
        os.close(self._pidfd)
        os.close(self._told)

    def _said(self) -> str:
        """The last that it wrote."""
        size = os.fstat(self._told).st_size
        return os.pread(self._told, _TOLD_BYTES, max(0, size - _TOLD_BYTES)).decode(errors="replace")

    def _last_words(self) -> str:
        said = self._said()
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return self._masked(failure_in(self.program, said) or (_plain(lines[-1]) if lines else "without a word"))


def failure_in(program: MountProgram, said: str) -> str:
    """The last request that failed for good, by the program's output; the service's own words, if it has them."""
    found = ""
    lines = said.splitlines()
    for number, line in enumerate(lines):
        if program.failure.search(line):
            answer = _S3_ERROR.search("\n".join(lines[number : number + 3]))
            found = ": ".join(filter(None, answer.groups())) if answer else _plain(line)
    return found


def _program_for(bench: Bench, mount: S3Mount) -> MountProgram:
    reason = fuse.why_not(read_only=mount.read_only)
    image = bench.plan.image
    if not reason and image and not image.engine.own_users and not fuse.may_share():
        reason = (
            "the container engine could not see the mount of this user (user_allow_other in /etc/fuse.conf lets it)"
        )
    program = fuse.find_program(mount.read_only)
    if reason or program is None:
        raise CannotMountError(reason)
    return program


def _surroundings(home: str) -> dict[str, str]:
    """The server's own, without whatever could stand for other keys than the connector's."""
    kept: Mapping[str, str] = engine_environment()
    return {name: value for name, value in kept.items() if not name.startswith(_OTHERS_KEYS)} | {"HOME": home}


def _nameless(folder: str) -> int:
    """A file without a name, for output: it counts as the job's, and goes with its last user."""
    path = os.path.join(folder, f".told-{os.urandom(4).hex()}")
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.unlink(path)
    return fd


def _plain(line: str) -> str:
    return _STAMP.sub("", line)[:_SHOWN_CHARS]
