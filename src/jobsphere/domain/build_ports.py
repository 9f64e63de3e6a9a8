"""The ports of a build: what the builder of environments is given by the supervisor that asks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol


class Workbench(Protocol):
    """What an environment builder is given by the supervisor that asks it: every wait ends when a stop is asked for."""

    def log(self, line: str) -> None:
        """Write one line to the job's system log, live."""
        ...

    def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        """Run a program to its end, each line of its output to ``on_line``; its exit code.

        Raises:
            Exception: the supervisor's own, when a stop is asked for: the program is gone then. Let it pass.
        """
        ...

    def pause(self, seconds: float) -> None:
        """Wait. Raises as :meth:`run` does."""
        ...

    def fenced(self, read: Sequence[Path], write: Sequence[Path]) -> Workbench:
        """A workbench for programs that run what strangers wrote: the build scripts of source packages.

        Where the job's own program is fenced in, they are too: they find nothing of the server's data but these files
        and folders, all of which are there, and change nothing on this host but those to ``write``.
        """
        ...


class InsideImage(Protocol):
    """An image that programs of a build run in. What they see of the node they see by its own path."""

    image_id: str
    """Its content, not its name: 64 hex digits."""

    def bench(self, read: Sequence[Path], write: Sequence[Path]) -> Workbench:
        """A workbench that runs programs in the image; the first word of their ``argv`` is a path.

        They see of the node these files and folders and no more, and get the variables that they are given besides the
        image's own; ``HOME`` and ``TMPDIR`` are a folder that goes with them. After a run nothing of them is left.
        """
        ...

    def lend(self, folder: Path) -> None:
        """Let programs in the image change this folder and all that is in it now; no hard link may lead out of it."""
        ...

    def take_back(self, folder: Path) -> None:
        """Nobody in the image can change the folder any more, everybody in there can read all of it."""
        ...
