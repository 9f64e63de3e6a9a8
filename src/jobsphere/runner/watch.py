"""Hints that something changed in a run directory: by inotify, or by looking four times a second where there is none.

Nothing depends on a hint: whoever gets one looks at what is true.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from jobsphere.runner.rundir import COLLECTED, EXIT, LOCK, LOGS, STARTED, STEP, RunDirectory

POLL_S = 0.25
_LOCK_FREED_S = 0.02
"""The kernel tells of a closing before it frees the lock."""
_MODIFY, _CLOSE_WRITE, _MOVED_TO, _CREATE, _IGNORED = 0x2, 0x8, 0x80, 0x100, 0x8000
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)
_TELLING = {name.encode() for name in (STEP, STARTED, EXIT, COLLECTED, LOGS)}
"""Members whose appearance means something; the others, and all temporary names, pass by."""
Hint = Callable[[str], None]


class Watch(Protocol):
    """Tells of watched run directories by their paths: ``changed`` of a record, a lock, an end, ``grown`` of a log.

    They are two, for a program that writes line by line is nothing that the engine has to look at.
    """

    def add(self, path: str) -> None:
        """Watch this run directory. May be repeated."""
        ...

    def discard(self, path: str) -> None:
        """Watch it no longer."""
        ...

    def add_logs(self, path: str) -> None:
        """Tell when its log has grown too, until it was called off as often."""
        ...

    def discard_logs(self, path: str) -> None:
        """Call :meth:`add_logs` off."""
        ...

    def close(self) -> None:
        """Give no hint any more."""
        ...


def open_watch(changed: Hint, grown: Hint) -> Watch:
    """The best watch of this machine, on the running event loop."""
    try:
        return InotifyWatch(changed, grown)
    except OSError:  # not this kernel, or the user's instances are used up
        return PollingWatch(changed, grown)


class InotifyWatch:
    """One inotify instance for all run directories.

    Raises (making one):
        OSError: the kernel gives none.
    """

    def __init__(self, changed: Hint, grown: Hint) -> None:
        self._changed, self._grown = changed, grown
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        self._paths: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._readers: dict[str, int] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def add(self, path: str) -> None:
        """See :class:`Watch`. The supervisor's end shows as the closing of its lock."""
        if path not in self._watches:
            self._watch(path, path, _MOVED_TO | _CREATE | _CLOSE_WRITE)

    def discard(self, path: str) -> None:
        """See :class:`Watch`."""
        self._unwatch(path)

    def add_logs(self, path: str) -> None:
        """See :class:`Watch`."""
        self._readers[path] = self._readers.get(path, 0) + 1
        if self._readers[path] == 1:
            self._watch(os.path.join(path, LOGS), path, _MODIFY)

    def discard_logs(self, path: str) -> None:
        """See :class:`Watch`."""
        self._readers[path] -= 1
        if not self._readers[path]:
            del self._readers[path]
            self._unwatch(os.path.join(path, LOGS))

    def close(self) -> None:
        """See :class:`Watch`."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _watch(self, place: str, path: str, events: int) -> None:
        with suppress(FileNotFoundError):  # removed, or no log yet: its creation is a hint of its own
            number = _checked(_libc.inotify_add_watch(self._fd, os.fsencode(place), ctypes.c_uint32(events)))
            self._watches[place] = number
            self._paths[number] = path

    def _unwatch(self, place: str) -> None:
        number = self._watches.pop(place, None)
        if number is not None and self._paths.pop(number, None) is not None:
            _libc.inotify_rm_watch(self._fd, number)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            self._tell(os.read(self._fd, 64 * 1024))

    def _tell(self, data: bytes) -> None:
        told: dict[str, Hint] = {}
        ended: set[str] = set()
        position = 0
        while position < len(data):
            number, mask, _, length = _EVENT.unpack_from(data, position)
            name = data[position + _EVENT.size :][:length].rstrip(b"\0")
            position += _EVENT.size + length
            path = self._paths.pop(number, None) if mask & _IGNORED else self._paths.get(number)
            if path is None:
                continue
            if mask & _CLOSE_WRITE and name == LOCK.encode():
                ended.add(path)
            elif mask & _MODIFY:
                told.setdefault(path, self._grown)
            elif name in _TELLING:
                told[path] = self._changed
        for path in ended:
            self._loop.call_later(_LOCK_FREED_S, self._changed, path)
        for path, hint in told.items():
            if path in self._readers and os.path.join(path, LOGS) not in self._watches:
                self._watch(os.path.join(path, LOGS), path, _MODIFY)
            hint(path)


class PollingWatch:
    """Looks at each watched run directory in turn."""

    def __init__(self, changed: Hint, grown: Hint) -> None:
        self._changed, self._grown = changed, grown
        self._seen: dict[str, _State] = {}
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(POLL_S, self._look)

    def add(self, path: str) -> None:
        """See :class:`Watch`."""
        self._seen.setdefault(path, _state(path))

    def discard(self, path: str) -> None:
        """See :class:`Watch`."""
        self._seen.pop(path, None)

    def add_logs(self, path: str) -> None:
        """See :class:`Watch`: the size of the log is part of what is looked at."""
        self.add(path)

    def discard_logs(self, path: str) -> None:
        """See :class:`Watch`."""

    def close(self) -> None:
        """See :class:`Watch`."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(POLL_S, self._look)
        for path, seen in list(self._seen.items()):
            self._seen[path] = state = _state(path)
            if (state.changed_at, state.locked) != (seen.changed_at, seen.locked):
                self._changed(path)
            elif state.log_bytes != seen.log_bytes:
                self._grown(path)


class _State(NamedTuple):
    changed_at: int = 0
    locked: bool = False
    log_bytes: int = 0


def _state(path: str) -> _State:
    run = RunDirectory(path)
    try:
        changed_at = os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return _State()
    return _State(changed_at, run.is_locked(), os.stat(run.at(LOGS)).st_size if run.has(LOGS) else 0)


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
