"""Processes of this one's tree: start, find, end and collect them, and touch nobody else's.

A supervisor is a subreaper: whatever its program starts, however it detaches, becomes its child when the parent in
between ends. So a tree is gone exactly when the kernel says that there is no child left.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

ATTEMPT_VARIABLE = "JOBSPHERE_ATTEMPT"
"""Every process of an attempt has :func:`attempt_mark` in it: leftovers are found by it."""
_SET_NAME, _SET_CHILD_SUBREAPER = 15, 36
_MARK_DIGITS = 12
_ENDING_TRIES, _ENDING_S = 8, 0.0005
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Orphans among the descendants become this process's children from now on."""
    _prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def set_process_name(name: str) -> None:
    """What ``ps`` and ``top`` call this process; 15 characters count."""
    _prctl(_SET_NAME, ctypes.c_char_p(name.encode()[:15]))


def _prctl(option: int, value: object) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, value, zero, zero, zero):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def start(argv: Sequence[str], env: Mapping[str, str], cwd: str, out: int, err: int, more: Sequence[int] = ()) -> int:
    """Start a program in a session of its own, with nothing of ours open but its outputs and ``more``; its process id.

    Its memory is not copied on the way (vfork): that is three times as fast as a fork that runs code in the child.

    Raises:
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        start_new_session=True,
        umask=0o022,
        pass_fds=more,
    )
    process.returncode = 0  # its end is collected by the Reaper, not by that object
    return process.pid


class Reaper:
    """Collects the ends of this process's children. Remembers those of the children it was told of.

    ``spared``: children that outlive the others, with all below them, until it is told to end them.
    """

    def __init__(self) -> None:
        self._ends: dict[int, tuple[int, resource.struct_rusage] | None] = {}
        self.spared: set[int] = set()

    def remember(self, pid: int) -> None:
        """Keep the end of this child until it is asked for."""
        self._ends[pid] = None

    def reap(self) -> bool:
        """Collect all that have ended; whether any child is left that is not spared."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return not self.spared or bool(set(children_of(os.getpid())) - self.spared)
            self.spared.discard(pid)
            if pid in self._ends:
                self._ends[pid] = status, usage

    def ended(self, pid: int) -> tuple[int, resource.struct_rusage] | None:
        """The code (128 + N for signal N) and what it used, of a remembered child that was collected."""
        end = self._ends.get(pid)
        if end is None:
            return None
        code = os.waitstatus_to_exitcode(end[0])
        return (128 - code if code < 0 else code), end[1]

    def end_all(self) -> None:
        """SIGKILL every descendant that is not spared until none is left: also those that detached or still fork.

        What is ending anyway (the init of a sandbox whose program has ended) is given a moment first: looking for it
        in ``/proc`` would cost more than a short job.
        """
        for _ in range(_ENDING_TRIES):
            if not self.reap():
                return
            time.sleep(_ENDING_S)
        while self.reap():
            kill_and_wait(seize_tree(os.getpid(), self.spared.__contains__))

    def end_spared(self, pids: Iterable[int] | None = None) -> None:
        """SIGKILL these of the spared, by default all: they count as any other child now."""
        for pid in self.spared.intersection(self.spared if pids is None else pids):
            os.kill(pid, signal.SIGKILL)  # not collected yet: its id is still its own
            self.spared.discard(pid)


def kill_and_wait(pidfds: Sequence[int], patience_ms: int = 50) -> None:
    """SIGKILL each process, wait a moment for all of them to end, close the descriptors."""
    poll = select.poll()
    for fd in pidfds:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        poll.register(fd, select.POLLIN)
    left = set(pidfds)
    while left and (ended := poll.poll(patience_ms)):
        for fd, _ in ended:
            poll.unregister(fd)
            left.discard(fd)
    if not pidfds:
        poll.poll(1)
    for fd in pidfds:
        os.close(fd)


def seize_tree(root: int, spare: Callable[[int], bool] = lambda _: False) -> list[int]:
    """A pidfd for every living descendant of ``root``, each proven one: a process id alone may have changed hands.

    ``spare`` names children of the root that are left out with all below them.
    """
    seized: dict[int, int] = {}
    for pid, parent in _top_down(root, spare):
        if parent != root and parent not in seized:
            continue
        fd = _open_child(pid, parent, seized.get(parent))
        if fd is not None:
            seized[pid] = fd
    return list(seized.values())


def _open_child(pid: int, parent: int, parent_fd: int | None) -> int | None:
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if parent_fd is not None:
            signal.pidfd_send_signal(parent_fd, 0)  # type: ignore[arg-type]
        if parent_of(pid) == parent:
            return fd
    except ProcessLookupError:
        pass  # the parent is gone: its children are the root's by now, and the next look finds them there
    os.close(fd)
    return None


def tree(root: int) -> list[int]:
    """The process ids of all descendants, for looking only."""
    return [pid for pid, _ in _top_down(root, lambda _: False)]


def _top_down(root: int, spare: Callable[[int], bool]) -> list[tuple[int, int]]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (parent := parent_of(int(entry))) is not None:
            children.setdefault(parent, []).append(int(entry))
    found = [(pid, root) for pid in children.get(root, ()) if not spare(pid)]
    for pid, _ in found:  # grows while it is walked
        found += [(child, pid) for child in children.get(pid, ())]
    return found


def parent_of(pid: int) -> int | None:
    """The parent of a process; None if there is no such process (any more)."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return int(file.read(512).rpartition(b")")[2].split(None, 2)[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def child_of(pid: int) -> int | None:
    """The first living child of a process; None if it has none."""
    return min(children_of(pid), default=None)


def children_of(pid: int) -> list[int]:
    """The children of a process that nobody has collected, for looking only."""
    return [int(e) for e in os.listdir("/proc") if e.isdigit() and parent_of(int(e)) == pid]


def signal_group(leader: int, number: int) -> None:
    """Send a signal to the group that a living process leads, or to it alone while it leads none.

    Raises:
        ProcessLookupError: there is no such process.
    """
    if os.getpgid(leader) == leader:
        os.killpg(leader, number)
    else:
        os.kill(leader, number)


def attempt_mark(run_directory: str) -> str:
    """The attempt's id, and a digest of where its node keeps attempts: another node of this host never has the same."""
    folder, attempt_id = os.path.split(os.path.realpath(run_directory))
    return f"{attempt_id}.{hashlib.sha256(os.fsencode(folder)).hexdigest()[:_MARK_DIGITS]}"


def end_leftovers(mark: str) -> int:
    """SIGKILL all processes that carry the attempt's mark in their environment; how many there were.

    For an attempt whose supervisor and spawner are both gone, so that nobody is their ancestor any more.
    """
    count = 0
    while pidfds := _seize_marked(f"{ATTEMPT_VARIABLE}={mark}".encode()):
        count += len(pidfds)
        kill_and_wait(pidfds)
    return count


def _seize_marked(mark: bytes) -> list[int]:
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid() or not _is_marked(entry, mark):
            continue
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(int(entry))
            if _is_marked(entry, mark):  # asked again: the id may have changed hands before it was held
                found.append(fd)
            else:
                os.close(fd)
    return found


def _is_marked(entry: str, mark: bytes) -> bool:
    try:
        with open(f"/proc/{entry}/environ", "rb", buffering=0) as file:
            return mark in file.readall().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
