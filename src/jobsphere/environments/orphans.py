"""Ends what a killed builder has left running, so that it does not write into the next build."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator


def end_orphans(mark: str) -> None:
    """Kill the processes of this user that have ``mark`` (``NAME=value``) in their environment, until none is left.

    Call it only while holding the lock that the rightful owner of such processes would hold.
    """
    while found := list(_marked(mark.encode())):
        for fd in found:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            select.select([fd], [], [])
            os.close(fd)


def _marked(mark: bytes) -> Iterator[int]:
    """Descriptors of the marked processes. Looked at after opening, so that a number given anew is not mistaken."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            fd = os.pidfd_open(int(entry))
        except ProcessLookupError:
            continue
        if _has_mark(entry, mark):
            yield fd
        else:
            os.close(fd)


def _has_mark(pid: str, mark: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark in file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
