"""``jobsphere agent`` as a process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.live import BIN, HANG_S, processes_of, wait_for


class LiveAgent:
    """An agent on a free port of loopback, with a data directory of its own."""

    def __init__(self, data_dir: Path, shared: Path, name: str, environ: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.name = name
        self._command = [BIN / "jobsphere", "agent", "--data-dir", data_dir, "--shared-dir", shared, "--name", name]
        self._environ = {**os.environ, **(environ or {})}
        self.process: subprocess.Popen[str] | None = None

    def start(self, *, ready: bool = True) -> None:
        """Start it; wait until it is ready, or for its end."""
        with self._log.open("a") as log:
            self.process = subprocess.Popen(
                self._command, env=self._environ, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout
        line = self.process.stdout.readline()
        if ready:
            assert f"node {self.name}" in line, self.log
        else:
            assert self.process.wait(HANG_S) != 0

    @property
    def _log(self) -> Path:
        return self.data_dir.with_name(f"{self.data_dir.name}.log")

    @property
    def log(self) -> str:
        return self._log.read_text()

    def has(self, job_id: str) -> bool:
        """Whether the job is under way here."""
        return (self.data_dir / "attempts" / f"{job_id}-1").is_dir()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        assert self.process
        self.process.send_signal(number)
        self.process.wait(HANG_S)
        assert self.process.stdout
        self.process.stdout.close()

    def end_all(self) -> None:
        """End it and everything that it started."""
        if self.process and self.process.poll() is None:
            self.stop()
        for pid in processes_of(str(self.data_dir)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_for(lambda: not processes_of(str(self.data_dir)), "every process of the agent has ended")
