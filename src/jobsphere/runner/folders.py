"""The folders of a job as it left them: opened without ever leaving them, whatever links lie there.

The program may have made links of any kind, to the records of its own run directory too. So no path is handed to
the kernel as a whole: each name is opened from the folder before it, links are read and followed here, and what is
opened is what was looked at.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from jobsphere.domain.limits import MAX_DEPTH
from jobsphere.runner.rundir import ROOT_DIRECTORIES

_MAX_LINKS = 40
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
T = TypeVar("T")


class UnreachableError(Exception):
    """What was asked for is not in the job's folders; the text says why, for the user."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file, a folder or something else in a job's folders, held open but not read yet. Use it as a context.

    ``names`` lead to it from the job's root, without links. ``above``: itself and the folders on the way, by identity.
    """

    fd: int
    names: tuple[str, ...]
    status: os.stat_result
    above: frozenset[tuple[int, int]]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.fd)

    @property
    def is_folder(self) -> bool:
        """Whether it has members."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def path(self) -> str:
        """A path of exactly this file, in this process."""
        return f"/proc/self/fd/{self.fd}"

    def member_names(self) -> list[str]:
        """The names in a folder, sorted."""
        return sorted(_insist(self.fd, lambda: os.listdir(self.path)))

    def open(self) -> int:
        """A regular file, for reading; the caller closes it."""
        return _insist(self.fd, lambda: os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))


class JobFolders:
    """Opens members of one job's folders, from the time on when no process of it is left. Use it as a context.

    Args:
        run_directory: The attempt's run directory.
        seen_as: What the program saw where: absolute paths and the folders of the run directory behind them, for links
            that it made by such a path. ``{"/job": ""}``: the run directory itself was at ``/job``.
        moved: Those of the job's folders that lie elsewhere, and where.
    """

    def __init__(self, run_directory: str, seen_as: Mapping[str, str], moved: Mapping[str, str] | None = None) -> None:
        self._moved = moved or {}
        self._fd = os.open(run_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._seen_as = seen_as

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def open(self, location: str) -> Member:
        """What is at ``location`` (relative to the job's root), links followed.

        Raises:
            FileNotFoundError: nothing.
            UnreachableError: it would lead out, or nowhere.
        """
        return _Walk(self._fd, self._seen_as, self._moved).to(location)

    def open_member(self, folder: Member, name: str) -> Member:
        """A member of a folder, links followed; its ``above`` holds what is above the folder too.

        Raises:
            UnreachableError: a link that leads out, nowhere, or to a folder that it lies in.
        """
        fd, status = _look(folder.fd, name)
        if not stat.S_ISLNK(status.st_mode):
            return Member(fd, (*folder.names, name), status, folder.above | {_identity(status)})
        os.close(fd)
        found = self.open("/".join((*folder.names, name)))
        if _identity(found.status) in folder.above:
            os.close(found.fd)
            raise UnreachableError("a link to a folder that it lies in")
        return Member(found.fd, found.names, found.status, found.above | folder.above)


class _Walk:
    """From the root, name by name; ``..`` goes back the way that was really gone."""

    def __init__(self, root: int, seen_as: Mapping[str, str], moved: Mapping[str, str]) -> None:
        self._root = root
        self._moved = moved
        self._seen_as = seen_as
        self._way: list[tuple[str, int, os.stat_result]] = []
        self._links = 0

    def to(self, location: str) -> Member:
        left = location.split("/")[::-1]
        try:
            while left:
                left += self._step(left.pop())
            if not self._way:
                raise UnreachableError("a link to the folder of all the job's folders")
            names = tuple(name for name, _, _ in self._way)
            above = frozenset(_identity(status) for _, _, status in self._way)
            _, fd, status = self._way.pop()
            return Member(fd, names, status, above)
        except FileNotFoundError:
            if self._links:
                raise UnreachableError("a link to nothing") from None
            raise
        finally:
            self._back_to_root()

    def _step(self, name: str) -> list[str]:
        """Take one step; what is to be gone before all else now, last name first."""
        if name in ("", "."):
            return []
        if name == "..":
            if not self._way:
                raise _leads_out()
            os.close(self._way.pop()[1])
            return []
        if not self._way and name not in ROOT_DIRECTORIES:
            raise _leads_out()
        if len(self._way) >= MAX_DEPTH:
            raise UnreachableError(f"more than {MAX_DEPTH} folders deep")
        fd, status = _look(self._way[-1][1], name) if self._way else _look(self._root, self._moved.get(name, name))
        if not stat.S_ISLNK(status.st_mode):
            self._way.append((name, fd, status))
            return []
        return self._follow(fd)

    def _follow(self, fd: int) -> list[str]:
        try:
            target = os.readlink("", dir_fd=fd)
        finally:
            os.close(fd)
        self._links += 1
        if self._links > _MAX_LINKS:
            raise UnreachableError("links that lead to each other")
        if target.startswith("/"):
            target = self._behind(target)
            self._back_to_root()
        return target.split("/")[::-1]

    def _behind(self, path: str) -> str:
        for seen, folder in self._seen_as.items():
            if path == seen or path.startswith(f"{seen}/"):
                return f"{folder}{path[len(seen) :]}"
        raise _leads_out()

    def _back_to_root(self) -> None:
        while self._way:
            os.close(self._way.pop()[1])


def _leads_out() -> UnreachableError:
    return UnreachableError("a link that leads out of the job's folders; it is not followed")


def _look(folder: int, name: str) -> tuple[int, os.stat_result]:
    fd = _insist(folder, lambda: os.open(name, _LOOK, dir_fd=folder))
    return fd, os.fstat(fd)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _insist(fd: int, act: Callable[[], T]) -> T:
    """Do it; what its program has taken all permissions from gets them back."""
    try:
        return act()
    except PermissionError:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
        return act()
