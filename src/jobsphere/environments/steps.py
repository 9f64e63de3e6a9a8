"""Runs the programs of a build: their output live to the job's log, masked and never a flood; their end told."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobsphere.domain.ports import EnvironmentBuildError, Workbench

LAST_LINES = 40
FREE_LINES, PROGRESS_EVERY_S = 10, 5.0
_SIGNALLED = 128
"""Codes above are those of signals."""
_PROGRESS = re.compile(r"\s*(Built|Building|Downloaded|Downloading|Updated|Updating)\b")
_NOISE = re.compile(
    r"\s*(Activate with|Creating virtual|Installed|Prepared|Resolved|Uninstalled|Using (CPython|Python|PyPy))\b"
)


class Progress:
    """Lets the first lines of progress through, and then one of them each few seconds, with the number of those held.

    Args:
        log: Takes what is let through.
        clock: Monotonic seconds.
    """

    def __init__(self, log: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._free = FREE_LINES
        self._next = 0.0
        self._held = 0

    def line(self, text: str) -> None:
        """Take the next line of output. What is no progress always gets through."""
        if not _PROGRESS.match(text):
            self._log(text)
        elif self._free > 0:
            self._free -= 1
            self._log(text)
        elif self._clock() >= self._next:
            self._log(f"{text} ({self._held} more since)" if self._held else text)
            self._next, self._held = self._clock() + PROGRESS_EVERY_S, 0
        else:
            self._held += 1


class Steps:
    """The programs of one build.

    Args:
        env: The variables that they run with.
        mask: Applied to every line before anybody sees it.
        bench: Runs them.
    """

    def __init__(self, env: Mapping[str, str], mask: Callable[[str], str], bench: Workbench) -> None:
        self.env = env
        self.mask = mask
        self.bench = bench

    def fenced(self, read: Sequence[Path], write: Sequence[Path]) -> Steps:
        """The same in a fence, for programs that run what strangers wrote; see the workbench."""
        return Steps(self.env, self.mask, self.bench.fenced(read, write))

    def run(self, argv: Sequence[str], what: str, next_step: str, more: Mapping[str, str] | None = None) -> None:
        """Run one program to its end; ``more``: variables that it alone gets.

        Raises:
            EnvironmentBuildError: it failed: ``what``, its last telling lines, ``next_step``.
        """
        lines: list[str] = []
        progress = Progress(self.bench.log)

        def on_line(line: str) -> None:
            masked = self.mask(line.rstrip())
            lines.append(masked)
            progress.line(masked)

        code = self.bench.run(argv, {**self.env, **(more or {})}, on_line)
        if code > _SIGNALLED:
            cause = ", most likely for being out of memory" if code == _SIGNALLED + signal.SIGKILL else ""
            lines.append(f"the installer was ended by signal {code - _SIGNALLED}{cause}; create the job again")
        if code:
            raise EnvironmentBuildError("\n".join([f"{what}:", *_telling(lines), next_step]))


def _telling(lines: Sequence[str]) -> list[str]:
    """The last lines that say what went wrong."""
    return [line for line in lines if line and not _NOISE.match(line) and not _PROGRESS.match(line)][-LAST_LINES:]
