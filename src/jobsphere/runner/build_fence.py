"""The workbench of a build whose job runs in a sandbox: what strangers wrote runs in a fence there as well.

A source package brings a build script. In here it sees this host as it is, for compilers and headers may be anywhere,
but changes nothing of it, has processes of its own, and finds an empty folder where the data directory is: in it only
what it is to fill. It has the network that the installer needs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from jobsphere.domain.ports import Workbench
from jobsphere.runner.bench import Bench
from jobsphere.runner.sandbox import NAMESPACES, bubblewrap, outermost

_RESOLVER = "/etc/resolv.conf"


class BuildBench:
    """The :class:`jobsphere.domain.ports.Workbench` of one attempt that has a sandbox.

    Args:
        bench: The attempt's own.
        hidden: Folders of the server: the data directory, the shared one, the volume of other jobs.
    """

    def __init__(self, bench: Bench, hidden: Sequence[str]) -> None:
        self._bench = bench
        self._hidden = outermost(hidden)

    def log(self, line: str) -> None:
        """To the job's system log."""
        self._bench.log(line)

    def pause(self, seconds: float) -> None:
        """As the attempt's own."""
        self._bench.pause(seconds)

    def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        """Without a fence: for programs that run nothing of strangers."""
        return self._bench.run(argv, env, on_line)

    def fenced(self, read: Sequence[Path], write: Sequence[Path]) -> Workbench:
        """See the port."""
        return _Fenced(self._bench, self._hidden, read, write)


class _Fenced(BuildBench):
    """The same, with only these paths to be read, or filled, below the hidden folders."""

    def __init__(self, bench: Bench, hidden: Sequence[str], read: Sequence[Path], write: Sequence[Path]) -> None:
        super().__init__(bench, hidden)
        self._read = read
        self._write = write

    def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        """In the fence. No variable of ``env`` is the job's to name, so that bubblewrap itself may have them."""
        scratch = os.path.realpath(self._bench.run_directory.at("tmp"))
        command = [bubblewrap(), *NAMESPACES, *self._mounts(scratch), "--chdir", "/", "--", *argv]
        # Two mounts are spanned by no hard link; a copy shares blocks where the file system can.
        return self._bench.run(command, {**env, "TMPDIR": scratch, "UV_LINK_MODE": "copy"}, on_line)

    def _mounts(self, scratch: str) -> Iterator[str]:
        yield from ("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run")
        if os.path.realpath(_RESOLVER).startswith("/run/"):
            yield from ("--ro-bind-try", os.path.realpath(_RESOLVER), os.path.realpath(_RESOLVER))
        for path in self._hidden:
            yield from ("--tmpfs", path)
        for path in self._read:
            yield from ("--ro-bind", str(path), str(path))
        for path in (*map(str, self._write), scratch):
            yield from ("--bind", path, path)
        for path in self._hidden:
            yield from ("--remount-ro", path)
