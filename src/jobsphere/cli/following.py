"""A running job on the terminal: its log as it comes, its end, its outputs; Ctrl-C stops it."""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn

from jobsphere.domain.errors import JobsphereError

if TYPE_CHECKING:
    from jobsphere.client import Job, LogMessage, Result

SYSTEM_LOG = ".system.log"
_LAST_WORDS_S = 10.0


class Bars:
    """A progress bar for each file, on stderr, while this is entered; none where nobody looks."""

    def __init__(self, what: str) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn(what),
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, path: str, done: int, size: int) -> None:
        """A piece of a file is through."""
        if path not in self._bars:
            self._bars[path] = self._progress.add_task(printable(path), total=size)
        self._progress.update(self._bars[path], completed=done)


def follow(job: Job, *, graceful: bool) -> Result:
    """Print the job's log until its end. The first Ctrl-C cancels it, the second kills it, the third leaves it.

    Args:
        job: It is running.
        graceful: Whether it has a graceful shutdown.
    """
    reader = Thread(target=_print_log, args=(job,), daemon=True)
    reader.start()
    pressed = 0
    while True:
        try:
            result = job.wait()
            reader.join(_LAST_WORDS_S)
        except KeyboardInterrupt:
            pressed += 1
            if pressed > 1 + graceful:
                tell(f"left job {job.id} as it is; `jobsphere logs -f {job.id}` shows how it goes on")
                raise
            again = "press Ctrl-C again to kill it" if graceful and pressed == 1 else "press Ctrl-C again to leave it"
            tell(f"cancelling job {job.id}; {again}")
            job.cancel(graceful=graceful and pressed == 1, reason="Ctrl-C")
        else:
            return result


def print_message(message: LogMessage, *, with_system: bool) -> None:
    """Print a piece of a log where it belongs: the program's own outputs as they are, the server's words on stderr."""
    if message.source == SYSTEM_LOG:
        if with_system:
            tell(message.text)
    elif message.source in ("stdout", "stderr"):
        stream: TextIO = sys.stderr if message.source == "stderr" else sys.stdout
        stream.buffer.write(message.content)
        stream.flush()


def download(job: Job, folder: Path, paths: tuple[str, ...] = (), *, logs: bool = False) -> list[Path]:
    """Bring files with progress bars, and say where they are."""
    with Bars("down") as bars:
        brought = job.download(folder, paths, logs=logs, progress=bars)
    for path in brought:
        tell(f"{path}")
    return brought


def tell(text: str) -> None:
    """A word to the user beside the program's output."""
    Console(stderr=True, highlight=False, soft_wrap=True, style="dim").print(printable(text), markup=False)


def printable(text: str) -> str:
    """Without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def _print_log(job: Job) -> None:
    try:
        for message in job.logs():
            print_message(message, with_system=True)
    except JobsphereError as error:
        tell(f"the log breaks off: {error.public}")
