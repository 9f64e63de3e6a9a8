"""Kills the process that it is in at one durable step, or fails the step, once; the product knows nothing of it.

A folder says what is to be done: ``armed`` holds ``GENERATION ROLE POINT N WHEN`` (``before`` or ``after`` the N-th
time that a process of that role comes to that point since the generation began; ``full`` and ``read-only`` fail it as
such a disk does), and becomes ``fired`` at that moment. Every step is written to ``trace``: a line each, ``ROLE
POINT``.
"""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from jobsphere import durable

ARMED, FIRED, TRACE, EVICT = "armed", "fired", "trace", "evict"
KILLS = ("before", "after")
FAULTS = {"full": (errno.ENOSPC, sqlite3.SQLITE_FULL), "read-only": (errno.EROFS, sqlite3.SQLITE_READONLY)}


@dataclass(frozen=True, order=True)
class Case:
    """A step to be killed at."""

    role: str
    point: str
    number: int
    when: str

    def __str__(self) -> str:
        return f"{self.when} {self.role}'s {self.point} #{self.number}"


class Killer:
    """Watches the steps of this process and of those forked from it."""

    def __init__(self, folder: Path, role: str) -> None:
        self._folder, self._role = str(folder), role
        self._lock = Lock()
        self._generation = ""
        self._counts: Counter[str] = Counter()

    def __call__(self, point: durable.Point, done: bool) -> None:
        with self._lock:
            self._step(point, done)

    def _step(self, point: durable.Point, done: bool) -> None:
        if not done:
            # Opened each time: a supervisor closes all that it has inherited.
            with open(os.path.join(self._folder, TRACE), "a", encoding="ascii") as file:
                file.write(f"{self._role} {point}\n")
        try:
            with open(os.path.join(self._folder, ARMED), encoding="ascii") as file:
                generation, role, name, number, when = file.read().split()
        except FileNotFoundError:
            return
        if generation != self._generation:
            self._generation = generation
            self._counts.clear()
        if not done:
            self._counts[point] += 1
        if (role, name, int(number), when == "after") == (self._role, str(point), self._counts[point], done):
            try:
                os.rename(os.path.join(self._folder, ARMED), os.path.join(self._folder, FIRED))
            except FileNotFoundError:  # another process was first
                return
            if when in FAULTS:
                _fail(point, *FAULTS[when])
            os.kill(os.getpid(), signal.SIGKILL)


def _fail(point: durable.Point, number: int, code: int) -> None:
    if not point.startswith("store."):
        raise OSError(number, os.strerror(number))
    error = sqlite3.OperationalError(os.strerror(number))
    error.sqlite_errorcode = code
    raise error


def arm(folder: Path, case: Case, generation: int) -> None:
    """Have ``case`` killed, once."""
    (folder / FIRED).unlink(missing_ok=True)
    aside = folder / f"{ARMED}.new"
    aside.write_text(f"{generation} {case.role} {case.point} {case.number} {case.when}")
    aside.rename(folder / ARMED)


def disarm(folder: Path) -> bool:
    """Kill nothing any more; whether something was killed."""
    (folder / ARMED).unlink(missing_ok=True)
    return (folder / FIRED).exists()


def cases(trace: list[str], ways: Iterable[str] = KILLS) -> list[Case]:
    """All that can be killed, or fail, of what a trace shows."""
    counts: Counter[str] = Counter()
    found: list[Case] = []
    for line in trace:
        counts[line] += 1
        role, point = line.split()
        found += [Case(role, point, counts[line], when) for when in ways]
    return found
