"""The run directory of one attempt: the protocol, on disk, between a supervisor and whoever asks about its attempt.

::

    plan.json                         what is to be done; it may hold secrets: only its owner may read it
    lock                              locked by the living supervisor; its end, however it comes, frees the lock
    claim                             made once and exclusively: the one supervisor that may start the program
    started  exit  collected          records: temporary name, fsync, rename, fsync of the directory
    fate                              why the attempt is lost, by who knows, for the supervisor that closes it
    step                              what is being done now; renamed into place, not durable
    stop  control                     the server's stop order, and the FIFO whose readers a byte wakes up
    logs                              frames, see :mod:`jobsphere.runner.frames`
    cut                               there before the log is cut, because it has filled the disk: its size until then
    work inputs outputs modules s3    the job's root, as :mod:`jobsphere.domain.command` lays it out
    tmp home                          the program's own
    groups                            the folders of the control group, a line each, while the program may be in them
    outbox                            what was collected; a log without a byte is not in it
    reserve.*                         room that becomes what is written there once; behind that of ``collected``, some
                                      bytes to give back when the disk is full, so that there are last words

What every attempt has by the start of its program is made with it: a file that is made later is one that a first line
waits for.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import signal
import struct
import time
from contextlib import suppress
from functools import cache
from typing import Any, TypeVar

from jobsphere.domain.attempt import AttemptPlan, Collected, Ended, Observation, Started, Step, StopOrder
from jobsphere.durable import Point, durable, sync_directory
from jobsphere.runner import records

PLAN, STEP, STOP, CLAIM = "plan.json", "step", "stop", "claim"
CUT, FATE = "cut", "fate"
STARTED, EXIT, COLLECTED = "started", "exit", "collected"
LOCK, CONTROL, LOGS, OUTBOX, RESERVE, GROUPS = "lock", "control", "logs", "outbox", "reserve", "groups"
ROOT_DIRECTORIES = ("work", "inputs", "outputs", "modules", "s3", "tmp", "home")
RECORD_BYTES = {PLAN: 4096, CLAIM: 0, STARTED: 4096, EXIT: 16 * 1024, COLLECTED: 128 * 1024}
"""The room kept for what is written once: it is there until it becomes that.

The last two must be written whatever happens; for the others no file is made while a first line is waited for.
"""
LAST_WORDS_BYTES = 64 * 1024
SPARE = ".spare-"
"""How the names of run directories begin that are made beforehand. A name with a dot is no attempt's."""
_DRAFT = ".tmp"
T = TypeVar("T")
_FLOCK = struct.Struct("hhqqi0q")


class RunDirectory:
    """Names and records of the run directory at ``path``. Holds nothing open."""

    __slots__ = ("_lasts", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._lasts = False

    def at(self, *names: str) -> str:
        """The path of a member."""
        return os.path.join(self.path, *names)

    def has(self, name: str) -> bool:
        """Whether a member is there."""
        return os.path.exists(self.at(name))

    def read(self, name: str, kind: type[T]) -> T | None:
        """A record; None while it is not there.

        Raises:
            ValueError: it is there and cannot be read.
        """
        try:
            with open(self.at(name), "rb") as file:
                return records.loads(kind, file.read())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def glance(self, name: str, kind: type[T]) -> T | None:
        """A record that is not durable: None also where a power cut tore it."""
        try:
            return self.read(name, kind)
        except ValueError:
            return None

    def write(self, name: str, value: object) -> None:
        """Put a record in place at once; not durable (a step, an order)."""
        _replace_file(self.at(name), records.dumps(value))

    def record(self, name: str, value: object) -> None:
        """Put a record in place at once, durable on return: the directory's own entry too.

        Where room was kept for it, that room is its draft: a full disk cannot keep it from being written, and no file
        is made for it.
        """
        self._put(name, value)
        sync_directory(self.path, Point.ATTEMPT_RECORD)
        if not self._lasts:  # the directory's own name is given once: it need not be made durable again
            sync_directory(os.path.dirname(self.path), Point.ATTEMPT_RECORD)
            self._lasts = True

    def write_plan(self, plan: AttemptPlan) -> None:
        """Write the plan. It is durable on return, its name together with the first record."""
        self._put(PLAN, plan)

    def _put(self, name: str, value: object) -> None:
        data = records.dumps(value)
        if len(data) > RECORD_BYTES.get(name, 0) or not self._fill_reserve(name, data):
            _replace_file(self.at(name), data, Point.ATTEMPT_RECORD)

    def _fill_reserve(self, name: str, data: bytes) -> bool:
        """Write into the room kept for it; False if that is used up."""
        kept = self.at(f"{RESERVE}.{name}")
        try:
            fd = os.open(kept, os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
            with durable(Point.ATTEMPT_RESERVE):
                os.fsync(fd)
        finally:
            os.close(fd)
        with durable(Point.ATTEMPT_RESERVE):
            os.rename(kept, self.at(name))
        return True

    def plan(self) -> AttemptPlan:
        """The plan. It is there before the directory has its name."""
        plan = self.read(PLAN, AttemptPlan)
        if plan is None:
            raise FileNotFoundError(errno.ENOENT, "the run directory has no plan", self.at(PLAN))
        return plan

    def observe(self) -> Observation:
        """What is true now. Asked for the lock first: a supervisor that ended has written all it ever will."""
        if not self.has(PLAN):
            return Observation(known=False)
        alive = self.is_locked()
        return Observation(
            known=True,
            alive=alive,
            step=self.glance(STEP, Step),
            started=self.read(STARTED, Started),
            ended=self.read(EXIT, Ended),
            collected=self.read(COLLECTED, Collected),
        )

    def lock(self) -> int | None:
        """Lock the attempt until the descriptor is closed, by whatever end; None if somebody else has it.

        An open file description lock, so that others can look without taking it. Opened for writing, so that its
        closing can be watched.
        """
        fd = os.open(self.at(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return None
            raise
        return fd

    def is_locked(self) -> bool:
        """Whether a supervisor is alive. Takes nothing."""
        try:
            fd = os.open(self.at(LOCK), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            return _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK
        finally:
            os.close(fd)

    def claim(self) -> bool:
        """Become the one supervisor that may start the program; False if there was one before.

        Called with the lock held. Durable together with the first record: before that, nothing has happened that may
        not happen again.
        """
        if self.has(CLAIM):
            return False
        kept = self.at(f"{RESERVE}.{CLAIM}")
        with open(kept, "w", encoding="ascii") as file:
            json.dump({"boot_id": boot_id(), "pid": os.getpid(), "at": time.time()}, file)
        try:
            with durable(Point.ATTEMPT_CLAIM):
                os.link(kept, self.at(CLAIM))  # never in another's place, as a rename would be
        except FileExistsError:
            return False
        os.unlink(kept)
        return True

    def claimed_in_this_boot(self) -> bool | None:
        """Whether the machine has been up since the claim; None if the claim does not tell."""
        claim = self._claim()
        return claim["boot_id"] == boot_id() if claim else None

    def claimed_by(self) -> int | None:
        """The process that made the claim, in this boot: to look at only, for its id may have changed hands."""
        claim = self._claim()
        return claim["pid"] if claim and claim["boot_id"] == boot_id() else None

    def _claim(self) -> dict[str, Any] | None:
        try:
            with open(self.at(CLAIM), encoding="ascii") as file:
                claim = json.load(file)
            return claim if {"boot_id", "pid"} <= claim.keys() else None
        except (ValueError, AttributeError, FileNotFoundError, NotADirectoryError):
            return None

    def free_reserve(self) -> None:
        """Give the bytes for last words back: what is written now must find room."""
        kept, size = self.at(f"{RESERVE}.{COLLECTED}"), RECORD_BYTES[COLLECTED]
        with suppress(FileNotFoundError):
            if os.stat(kept).st_size > size:
                os.truncate(kept, size)

    def order(self, order: StopOrder) -> None:
        """Write a stop order and wake the supervisor, if there is one. It reads the order at its start anyway."""
        self.write(STOP, order)
        self.wake()

    def wake(self) -> None:
        """Have the supervisor look for a new stop order, if it is on this host."""
        try:
            fd = os.open(self.at(CONTROL), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):
                return
            raise
        try:
            with suppress(BlockingIOError):  # full: it is being woken already
                os.write(fd, b"!")
        finally:
            os.close(fd)


def create_run_directory(path: str, plan: AttemptPlan, spare: str | None = None) -> bool:
    """Make a run directory, whole or not at all; False if there is one already.

    Args:
        path: Of it.
        plan: What is to be done.
        spare: One in the same folder that :func:`create_spare` has made: it becomes this one, or is gone.
    """
    parent, name = os.path.split(path)
    fresh = RunDirectory(spare or os.path.join(parent, f".new-{name}-{os.urandom(4).hex()}"))
    try:
        if spare is None:
            _lay_out(fresh)
        fresh.write_plan(plan)
        with durable(Point.ATTEMPT_MADE):
            os.rename(fresh.path, path)
    except OSError as error:
        shutil.rmtree(fresh.path, ignore_errors=True)  # the next server clears what cannot go now
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            return False
        raise
    return True


def create_spare(folder: str) -> str:
    """Make all of a run directory but its plan, and give its path: what follows has a dozen files less to make.

    Raises:
        OSError: it cannot be made; nothing is left of it.
    """
    spare = RunDirectory(os.path.join(folder, f"{SPARE}{os.urandom(8).hex()}"))
    try:
        _lay_out(spare)
    except OSError:
        shutil.rmtree(spare.path, ignore_errors=True)
        raise
    return spare.path


def _lay_out(fresh: RunDirectory) -> None:
    os.mkdir(fresh.path, 0o700)
    os.mkfifo(fresh.at(CONTROL), 0o600)
    for name, size in RECORD_BYTES.items():
        _make_file(fresh.at(f"{RESERVE}.{name}"), size + (LAST_WORDS_BYTES if name == COLLECTED else 0))
    for name in (LOCK, LOGS, GROUPS):
        _make_file(fresh.at(name))
    for directory in ("work", "tmp", "home", OUTBOX):  # the others come with the first file in them
        os.mkdir(fresh.at(directory), 0o755)


def _replace_file(path: str, data: bytes, point: Point | None = None) -> None:
    """Write a file beside and rename it into place: readers see the old one or the new one. ``point``: durably."""
    temporary = f"{path}.{os.getpid()}{_DRAFT}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if point:
            with durable(point):
                os.fsync(fd)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    with durable(point or Point.ATTEMPT_NOTE):
        os.rename(temporary, path)


def wake_stopped(run: RunDirectory) -> None:
    """Let a supervisor that somebody has stopped (SIGSTOP) go on: an order is there for it."""
    pid = run.claimed_by()
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stopped = file.read().rpartition(b")")[2].split()[0] == b"T"
        if pid and stopped and _has_open(pid, run.at(LOCK)):  # the id may be another process's by now
            os.kill(pid, signal.SIGCONT)
    except OSError:
        return  # it has ended, or is not this user's


def _has_open(pid: int, path: str) -> bool:
    folder = f"/proc/{pid}/fd"
    return any(os.path.realpath(f"{folder}/{name}") == os.path.realpath(path) for name in os.listdir(folder))


def clear_drafts(path: str) -> None:
    """Remove the temporary files of killed writers; nobody writes there any more."""
    for name in os.listdir(path):
        if name.endswith(_DRAFT):
            os.unlink(os.path.join(path, name))


@cache
def boot_id() -> str:
    """The kernel's id of this boot: process ids and locks of another boot mean nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _make_file(path: str, size: int = 0) -> None:
    """``size``: the room that it is to have."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if size:
            os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)
