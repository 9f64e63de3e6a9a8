"""What the program of an attempt is started in: nothing at all, a sandbox, a container.

The supervisor is the same for all of them; this seam says how a command line becomes a process, what the program sees
of the job's root, how a signal reaches it, and what is left to end besides the supervisor's own descendants.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from jobsphere.domain.attempt import Mount


@dataclass(frozen=True, slots=True)
class Command:
    """A process to start on this host. ``environment`` holds secrets: it is never logged.

    ``descriptors`` are given to it under their own numbers; who starts it closes them here, started or not. ``gate`` is
    one more: nothing of the program runs before a byte is written there. It has no end of file: what waits behind it
    never takes the death of who started it for leave to go on.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    cwd: str
    descriptors: tuple[int, ...] = ()
    gate: int | None = None


@dataclass(frozen=True, slots=True)
class PrivateFile:
    """A file for the program's user only (0600). ``target`` is relative to the job's root; ``text`` holds secrets."""

    target: str
    text: str = field(repr=False)


class Confinement(Protocol):
    """How one attempt's program is fenced in. Made before the start; used by one supervisor."""

    root: str
    """The job's root (the folder of ``work/``, ``inputs/`` …) as the program sees it: an absolute path."""
    seen_as: Mapping[str, str]
    """By which absolute paths the program sees its folders: see :class:`jobsphere.runner.folders.JobFolders`."""

    def command(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Command:
        """What to start on this host so that the program runs as ``argv`` in ``cwd`` (a path that it sees)."""
        ...

    def seen(self, mount: Mount) -> str:
        """Where the program sees the mount: an absolute path."""
        ...

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to the program whose process on this host is ``pid``, alive and not collected yet."""
        ...

    def end(self) -> None:
        """End what the supervisor's own descendants do not show. May be repeated; also called for a lost attempt."""
        ...

    def verdict(self) -> str:
        """Why the program was ended from outside (out of memory), once it has ended; empty if it was not."""
        ...


class Unconfined:
    """No fence: the program is a process of this host like any other, with the server user's rights.

    ``files`` lie on the disk from the start of the program to its end; of a lost attempt only their targets count.
    """

    def __init__(self, root: str, files: Sequence[PrivateFile] = ()) -> None:
        self.root = root
        self._files = files
        self.seen_as: Mapping[str, str] = {root: "", os.path.realpath(root): ""}

    def command(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Command:
        """The program itself."""
        for file in self._files:
            self._write(file)
        return Command(tuple(argv), environment, cwd)

    def seen(self, mount: Mount) -> str:
        """The folder itself: nothing but its permissions keeps the program from changing it."""
        return mount.source

    def signal(self, pid: int, number: int) -> None:
        """To the program's process group: its leader is not collected yet, so that the group is still its own."""
        os.killpg(pid, number)

    def end(self) -> None:
        """All that it started are descendants of the supervisor; its private files go."""
        for file in self._files:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self.root, file.target))

    def verdict(self) -> str:
        """Nobody here ends it from outside."""
        return ""

    def _write(self, file: PrivateFile) -> None:
        path = os.path.join(self.root, file.target)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as opened:
            opened.write(file.text)
