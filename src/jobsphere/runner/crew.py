"""The supervisors of a spawner: forked when they are needed, and kept a while for the next attempt.

A fork copies page tables, and afterwards each page that either side touches: for a short job that is more than its own
work. So a supervisor that has carried its attempt to the end waits for another. Nothing of the first is left in it: its
descriptors are closed, its environment is the spawner's again. One that is not as it was (it has imported something,
has a thread or a child) ends, and so does one that failed: only what is certain is used again.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from jobsphere.runner.processes import set_process_name

IDLE_NAME = "js-idle"
MOST = 256
"""Attempts that one supervisor carries: whatever a long life may gather ends with it."""
_READY = b"ready"
_MAX_ORDER = 64 * 1024
_CHANNEL = 3
"""The one descriptor, beside the standard ones, that an idle supervisor has open."""


@dataclass(frozen=True, slots=True)
class Member:
    """A supervisor, and the way to it."""

    pid: int
    channel: socket.socket


class Crew:
    """Launches attempts. ``supervise`` carries the attempt of a run directory through, in a process of the crew.

    ``keep``: how many may wait for an attempt at a time.
    """

    def __init__(self, selector: selectors.BaseSelector, supervise: Callable[[str], None], keep: int) -> None:
        self._selector = selector
        self._supervise = supervise
        self._keep = keep
        self._members: dict[int, Member] = {}
        self._idle: dict[int, float] = {}
        """Those that wait, by process, and since when; who began last stands last."""

    def __contains__(self, pid: object) -> bool:
        return pid in self._members

    @property
    def busy(self) -> bool:
        """Whether any of them has an attempt."""
        return len(self._members) > len(self._idle)

    @property
    def idle(self) -> bool:
        """Whether any of them waits."""
        return bool(self._idle)

    def launch(self, run_directory: str, environ: dict[str, str]) -> int:
        """Have an attempt carried, with these variables besides the spawner's own; by which process.

        Raises:
            OSError: no process can be made.
        """
        order = json.dumps([run_directory, environ]).encode()
        while self._idle:
            member = self._members[self._idle.popitem()[0]]  # the one that worked last: its memory is the warmest
            try:
                member.channel.send(order)
            except OSError:  # it was killed: its end is collected by and by
                self._let_go(member)
                continue
            return member.pid
        return self._fork(run_directory, environ)

    def heard(self, member: Member) -> None:
        """There is something from it: it is ready for another attempt, or has ended."""
        if member.channel.fileno() < 0:  # it was let go meanwhile
            return
        try:
            ready = member.channel.recv(len(_READY)) == _READY
        except OSError:
            ready = False
        if ready and len(self._idle) < self._keep:
            self._idle[member.pid] = time.monotonic()
        else:
            self._let_go(member)

    def ended(self, pid: int) -> bool:
        """A process has ended; whether it was one of the crew."""
        member = self._members.pop(pid, None)
        if member is not None:
            self._let_go(member)
        return member is not None

    def rest(self, idle_s: float) -> None:
        """End those that have waited for so long."""
        before = time.monotonic() - idle_s
        for pid in [pid for pid, since in self._idle.items() if since <= before]:
            self._let_go(self._members[pid])

    def _let_go(self, member: Member) -> None:
        """It ends when it has nothing to do and nobody who could tell it."""
        self._idle.pop(member.pid, None)
        if member.channel.fileno() >= 0:
            self._selector.unregister(member.channel)
            member.channel.close()

    def _fork(self, run_directory: str, environ: dict[str, str]) -> int:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            pid = os.fork()
            if pid == 0:
                _become_supervisor(self._supervise, theirs, run_directory, environ)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        member = self._members[pid] = Member(pid, ours)
        self._selector.register(ours, selectors.EVENT_READ, member)
        return pid


def _become_supervisor(
    supervise: Callable[[str], None], channel: socket.socket, run_directory: str, environ: dict[str, str]
) -> None:
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(channel.fileno(), _CHANNEL, inheritable=False)
        _serve(supervise, socket.socket(fileno=_CHANNEL), run_directory, environ)
        code = 0
    except BaseException:  # noqa: BLE001  a forked process must not return into its parent's code
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _serve(
    supervise: Callable[[str], None], channel: socket.socket, run_directory: str, environ: dict[str, str]
) -> None:
    own, modules = dict(os.environ), len(sys.modules)
    for carried in range(1, MOST + 1):
        os.environ.clear()
        os.environ.update(own | environ)
        os.closerange(_CHANNEL + 1, os.sysconf("SC_OPEN_MAX"))
        supervise(run_directory)
        if carried == MOST or len(sys.modules) != modules or threading.active_count() > 1 or _has_children():
            return
        set_process_name(IDLE_NAME)
        try:
            channel.send(_READY)
            order = channel.recv(_MAX_ORDER)
        except OSError:
            return
        if not order:
            return
        run_directory, environ = json.loads(order)


def _has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True
