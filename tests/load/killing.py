"""Kills of the server and of its supervisors while others work with it."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from tests.crash.place import Place
from tests.live import BIN

SPAWNER = "js-spawner"


class Served(Place):
    """The server as it is installed, started again whenever it has been killed."""

    def program(self) -> list[str]:
        return [str(BIN / "jobsphere")]


@dataclass(frozen=True)
class Killed:
    """A supervisor that was killed, or the spawner, by the name that the system calls it by."""

    name: str

    def carried(self, job_id: str) -> bool:
        """Whether it carried this job's attempt: the name has the end of the attempt's id."""
        return f"{job_id}-1".endswith(self.name.removeprefix("js-"))


class Killer(Thread):
    """Kills a supervisor every ``supervisor_s`` seconds until ``over``, and ``servers`` times the server meanwhile."""

    def __init__(
        self, place: Place, over: Event, seed: int, servers: int, server_s: float, supervisor_s: float
    ) -> None:
        super().__init__(name="killer")
        self._place, self._over, self._dice = place, over, random.Random(f"{seed} kills")
        self._server_s, self._left, self._supervisor_s = server_s, servers, supervisor_s
        self.killed: list[Killed] = []
        self.servers, self.last_at = 0, 0.0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            until_server = self._server_s
            while not self._over.wait(pause := self._dice.uniform(0.5, 1.5) * self._supervisor_s):
                self._kill_supervisor()
                until_server -= pause
                if until_server <= 0 and self._left:
                    until_server, self._left = self._server_s, self._left - 1
                    self._place.restart()
                    self.servers, self.last_at = self.servers + 1, time.monotonic()
        except BaseException as error:  # noqa: BLE001  told by whoever started it
            self.failure = error

    def _kill_supervisor(self) -> None:
        found = list(node_processes(self._place.data_dir))
        supervisors = [(pid, name) for pid, name in found if name != SPAWNER]
        if self._dice.random() < 0.1 or not supervisors:
            supervisors = found
        if not supervisors:
            return
        pid, name = self._dice.choice(supervisors)
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            try:
                # Asked again, now that it is held: its id may have changed hands.
                if (pid, name) in set(node_processes(self._place.data_dir)):
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    self.killed.append(Killed(name))
            finally:
                os.close(fd)


def node_processes(data_dir: Path) -> Iterator[tuple[int, str]]:
    """The spawners and supervisors of a data directory: process ids and names."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                name = (entry / "comm").read_text().strip()
                if b"jobsphere.node" in words and str(data_dir).encode() in words and name.startswith("js-"):
                    yield int(entry.name), name
