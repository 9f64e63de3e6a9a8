"""Control groups: what holds a program to its limits, and tells of its processes and of its end for want of memory.

Both versions, and hosts that mix them: version 1 has a hierarchy of folders for each controller, version 2 one for all.
A group is made below the one that the node itself runs in (or the nearest above it that may be written), so that limits
that the operator set for the whole node still hold.
"""

from __future__ import annotations

import errno
import functools
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from jobsphere.domain.capacity import Limits, gib
from jobsphere.runner.processes import kill_and_wait

CONTROLLERS = ("memory", "pids", "cpu")
MEMORY, PIDS, CPU = CONTROLLERS
_PROCS, _THREAD, _ENABLED = "cgroup.procs", "tasks", "cgroup.subtree_control"
_PERIOD_US = 100_000
_SHARES_OF_A_CPU, _WEIGHT_OF_A_CPU, _WEIGHTS = 1024, 100, (1, 10_000)
_TRIES, _PAUSE_S = 400, 0.005
_SWAP = ("memory.memsw.limit_in_bytes", "memory.swap.max")


@dataclass(frozen=True, slots=True)
class Host:
    """Where this host lets groups be made: the folder by controller. ``own``: where this process is, to return to."""

    unified: bool
    folders: Mapping[str, str]
    own: tuple[str, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """The controllers that there are not."""
        return tuple(c for c in CONTROLLERS if c not in self.folders)


NOWHERE = Host(unified=False, folders={}, own=())


@dataclass(frozen=True, slots=True)
class Memory:
    """How much memory a group has had at most (0 where the kernel does not tell), and how many were killed for it."""

    peak_bytes: int
    kills: int


class Group:
    """The control group of one attempt: a folder, or one for each controller; none at all where there is no limit.

    Args:
        host: The host's folders.
        name: Its name, the attempt's own.
    """

    def __init__(self, host: Host = NOWHERE, name: str = "") -> None:
        self._host = host
        self._at = {controller: os.path.join(folder, name) for controller, folder in host.folders.items()}

    @property
    def paths(self) -> tuple[str, ...]:
        """Its folders."""
        return tuple(dict.fromkeys(self._at.values()))

    def make(self, limits: Limits) -> list[str]:
        """Make it with its limits; why some of them cannot be enforced here."""
        failures = [f"{controller}: this host has no such control" for controller in self._host.missing]
        for controller in list(self._at):
            try:
                self._set(controller, limits)
            except OSError as error:
                failures.append(f"{controller}: {error.strerror}")
                if not self._host.unified:
                    remove([self._at.pop(controller)])
        return failures

    @contextmanager
    def joined(self) -> Generator[None]:
        """Be in it: what the calling thread starts meanwhile is in it from its first instruction on.

        Version 1 lets a thread move alone. To move a whole process, the kernel first keeps all processes of the host
        from forking and ending: a wait of 10 ms, for each job and for all others beside it.
        """
        if not self._at:
            yield
            return
        file = _PROCS if self._host.unified else _THREAD
        try:
            for path in self.paths:
                _write(os.path.join(path, file), "0")
            yield
        finally:
            for path in self._host.own:
                _write(os.path.join(path, file), "0")

    def pids(self) -> list[int] | None:
        """The processes in it; None if there is no group that could tell."""
        return pids_in(self.paths[:1]) if self._at else None

    def memory(self) -> Memory:
        """What became of its memory."""
        path = self._at.get(MEMORY)
        if path is None:
            return Memory(0, 0)
        if self._host.unified:
            peak, events = "memory.peak", "memory.events"
        else:
            peak, events = "memory.max_usage_in_bytes", "memory.oom_control"
        return Memory(int(_read(os.path.join(path, peak)) or 0), _value(_read(os.path.join(path, events)), "oom_kill"))

    def _set(self, controller: str, limits: Limits) -> None:
        path = self._at[controller]
        os.makedirs(path, exist_ok=True)
        settings = _unified_settings if self._host.unified else _settings
        for file, value in settings(controller, limits):
            try:
                _write(os.path.join(path, file), value)
            except FileNotFoundError:
                if file not in _SWAP:  # a kernel that does not account for swap
                    raise


def words(limits: Limits) -> str:
    """``2 CPUs as its share, 4 GiB of memory, 4096 processes``."""
    share = " as its share" if limits.cpu_burst else ""
    gpus = f", GPUs {', '.join(map(str, limits.gpus))}" if limits.gpus else ""
    return f"{limits.cpus:g} CPUs{share}, {gib(limits.memory_bytes)} of memory, {limits.pids} processes{gpus}"


def cpu_shares(limits: Limits) -> int:
    """The weight against its neighbours, in version 1's measure."""
    return max(2, round(limits.cpus * _SHARES_OF_A_CPU))


def why_not() -> str:
    """Why no limits can be enforced on this host; empty if they can."""
    if find().folders:
        return ""
    return "no control group of this host can be written (systemd: run the server as a service with Delegate=yes)"


@functools.cache
def find() -> Host:
    """What this host offers. Looked for once: a supervisor's fork finds it done."""
    with (
        open("/proc/self/cgroup", encoding="utf-8") as groups,
        open("/proc/self/mountinfo", encoding="utf-8") as mounts,
    ):
        return host_of(groups.read(), mounts.read())


def host_of(groups: str, mounts: str) -> Host:
    """The host of these ``/proc/self/cgroup`` and ``/proc/self/mountinfo``."""
    mounted = {controller: (root, point) for root, point, kinds in _mounts(mounts) for controller in kinds}
    own: dict[str, str] = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounted:
                root, point = mounted[controller]
                own[controller] = os.path.normpath(os.path.join(point, os.path.relpath(path, root)))
    first = {c: own[c] for c in CONTROLLERS if c in own and _writable(own[c])}
    if first or "" not in own:
        return Host(unified=False, folders=first, own=tuple(dict.fromkeys(first.values())))
    folder, enabled = _delegated(own[""], mounted[""][1])
    return Host(unified=True, folders=dict.fromkeys(enabled, folder), own=(own[""],))


def pids_in(paths: Sequence[str]) -> list[int]:
    """The processes in groups, each once."""
    found = (pid for path in paths for pid in _read(os.path.join(path, _PROCS)).split())
    return [int(pid) for pid in dict.fromkeys(found)]


def end(paths: Sequence[str]) -> None:
    """SIGKILL everything in these groups until nothing is left: no new process comes meanwhile, however it forks."""
    for path in paths:
        for file, value in (("pids.max", "0"), ("cgroup.kill", "1")):
            with suppress(FileNotFoundError):  # not of this controller, an older kernel, or the group is gone
                _write(os.path.join(path, file), value)
    for _ in range(_TRIES):
        held = [fd for pid in pids_in(paths) for fd in _hold(pid)]
        if not held:
            return
        kill_and_wait(held)


def _hold(pid: int) -> Iterator[int]:
    """A descriptor of the process, unless it ended; its id alone may have changed hands."""
    with suppress(ProcessLookupError):
        yield os.pidfd_open(pid)


def remove(paths: Sequence[str]) -> None:
    """Remove groups that no process is in. A group lasts a moment longer than its last process."""
    for path in paths:
        for _ in range(_TRIES):
            try:
                Path(path).rmdir()
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                time.sleep(_PAUSE_S)
            else:
                break


def _settings(controller: str, limits: Limits) -> Iterator[tuple[str, str]]:
    """Files of version 1 and what is written to them, in that order."""
    if controller == MEMORY:
        yield "memory.limit_in_bytes", str(limits.memory_bytes)
        yield "memory.memsw.limit_in_bytes", str(limits.memory_bytes)
    elif controller == PIDS:
        yield "pids.max", str(limits.pids)
    elif limits.cpu_burst:
        yield "cpu.shares", str(cpu_shares(limits))
    else:
        yield "cpu.cfs_period_us", str(_PERIOD_US)
        yield "cpu.cfs_quota_us", str(round(limits.cpus * _PERIOD_US))


def _unified_settings(controller: str, limits: Limits) -> Iterator[tuple[str, str]]:
    """The same for version 2."""
    if controller == MEMORY:
        yield "memory.max", str(limits.memory_bytes)
        yield "memory.swap.max", "0"
    elif controller == PIDS:
        yield "pids.max", str(limits.pids)
    elif limits.cpu_burst:
        low, high = _WEIGHTS
        yield "cpu.weight", str(min(max(low, round(limits.cpus * _WEIGHT_OF_A_CPU)), high))
    else:
        yield "cpu.max", f"{round(limits.cpus * _PERIOD_US)} {_PERIOD_US}"


def _mounts(mountinfo: str) -> Iterator[tuple[str, str, list[str]]]:
    """Root, mount point and controllers of each hierarchy; of version 2 the one controller is the empty name."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        if kind == "cgroup2":
            yield root, point, [""]
        elif kind == "cgroup":
            yield root, point, options.split(" ")[-1].split(",")


def _delegated(own: str, top: str) -> tuple[str, list[str]]:
    """The nearest folder of version 2, from ``own`` upwards, whose children can be given limits; and which."""
    folder = own
    while True:
        if _writable(folder) and _writable(os.path.join(folder, _PROCS)):
            there = _read(os.path.join(folder, "cgroup.controllers")).split()
            for controller in CONTROLLERS:
                if controller in there and controller not in _read(os.path.join(folder, _ENABLED)).split():
                    with suppress(OSError):  # processes are in it: then its parent may do
                        _write(os.path.join(folder, _ENABLED), f"+{controller}")
            enabled = _read(os.path.join(folder, _ENABLED)).split()
            usable = [c for c in CONTROLLERS if c in enabled]
            if usable:
                return folder, usable
        if folder == top or len(folder) <= len(top):
            return folder, []
        folder = os.path.dirname(folder)


def _writable(path: str) -> bool:
    return os.access(path, os.W_OK)


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:  # not of this kernel, or the group is gone
        return ""


def _write(path: str, value: str) -> None:
    """Write to a file of a group: one that is there, in one piece."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def _value(text: str, name: str) -> int:
    """The number behind ``name`` in lines of name and number."""
    return next((int(line.split()[1]) for line in text.splitlines() if line.split()[0] == name), 0)
