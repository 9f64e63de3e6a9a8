"""A real server as a process, and the vendor's real client beside it: what acceptance tests stand on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from tests.integration.s3_server import Service

HANG_S = 120
"""A limit for hangs, never a speed check."""
PLACE = "JOBSPHERE_TEST_PLACE"
"""The variable that names the place of a run's server: see :mod:`tests.places`."""
BIN = Path(sys.executable).parent
T = TypeVar("T")
ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def wait_for(condition: Callable[[], T], what: str, limit_s: float = HANG_S) -> T:
    """Poll until ``condition`` gives something true, and give that."""
    until = time.monotonic() + limit_s
    while True:
        if value := condition():
            return value
        if time.monotonic() > until:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.02)


def processes_of(marker: str) -> dict[int, str]:
    """Live processes whose command line or environment names ``marker``."""
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command = (entry / "cmdline").read_bytes()
            environ = (entry / "environ").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z" and (marker.encode() in command or marker.encode() in environ):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def unmount(folder: Path) -> None:
    """A process that is just going away may hold it for a moment longer than it can be seen."""
    wait_for(lambda: subprocess.run(["umount", folder], check=False).returncode == 0, f"{folder} is let go")


@dataclass
class Client:
    """The vendor's CLI with the exports of ``jobsphere client-env``."""

    exports: Mapping[str, str]
    base: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    @property
    def project(self) -> str:
        return self.exports["JOBSPHERE_PROJECT"]

    @property
    def environ(self) -> dict[str, str]:
        return {**self.base, **self.exports}

    def start(self, *args: str, cwd: Path, stdout: IO[str] | int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start a command; stdout and stderr go as one stream to ``stdout``."""
        return subprocess.Popen(
            [BIN / "datasphere", *args],
            cwd=cwd,
            env=self.environ,
            text=True,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )

    def run(self, *args: str, cwd: Path, code: int = 0) -> str:
        """Run a command to its end, check its exit code, and give its words."""
        process = self.start(*args, cwd=cwd)
        out, _ = process.communicate(timeout=HANG_S)
        assert process.returncode == code, out
        return out


class LiveServer:
    """``jobsphere up`` on free ports of loopback.

    Args:
        data_dir: Its data directory.
        options: Of its command.
        environ: Variables beside those of the tests.
        node_dir: The data directory of the node that runs its jobs, if that is not its own.
        service: The service with the bucket that has its blobs, if they are in one.
    """

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        environ: Mapping[str, str] | None = None,
        node_dir: Path | None = None,
        service: Service | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.node_dir = node_dir or data_dir
        self._service = service
        self.options = options
        self.environ = {**os.environ, **(environ or {})}
        self.process: subprocess.Popen[str] | None = None
        self.ready_line = ""

    def start(self, ports: Mapping[str, int] | None = None) -> None:
        """Start it and wait for its ready line."""
        command = [BIN / "jobsphere", "up", "--data-dir", self.data_dir, *self.options]
        for name in ("grpc", "proxy", "http"):
            command += [f"--{name}-port", str((ports or {}).get(name, 0))]
        self.launch(command)

    def launch(self, command: Sequence[str | Path]) -> None:
        """Run the command that starts it, and wait for its ready line."""
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        with (self.data_dir.parent / f"{self.data_dir.name}.log").open("a") as log:
            self.process = subprocess.Popen(command, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout
        self.ready_line = self.process.stdout.readline()
        assert "ready" in self.ready_line, self.log

    @property
    def log(self) -> str:
        return (self.data_dir.parent / f"{self.data_dir.name}.log").read_text()

    @property
    def ports(self) -> dict[str, int]:
        """The ports it listens on: to start the next one on the same."""
        info = json.loads((self.data_dir / "run" / "server.json").read_text())
        return {name: info[f"{name}_port"] for name in ("grpc", "proxy", "http")}

    @property
    def host(self) -> str:
        """Its own address."""
        return self.options[self.options.index("--host") + 1] if "--host" in self.options else "127.0.0.1"

    def leads(self) -> bool:
        """Whether it says that it leads; no if it is dead."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.ports['http']}/leadz", timeout=HANG_S) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            return error.code != 503
        except OSError:
            return False

    @property
    def shared(self) -> Path:
        """Where everything lies that servers and nodes share."""
        return Path(self.environ.get("JOBSPHERE_SHARED_DIR", self.data_dir))

    def blob_names(self, project: str) -> set[str]:
        """The SHA-256 of all blobs of a project, and the names of the folders that they are in."""
        if self._service is None:
            return {path.name for path in (self.shared / "blobs" / project).rglob("*")}
        keys = [Path(key).parts for key in self._service.objects()]
        return {name for parts in keys if "blobs" in parts and project in parts for name in parts}

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        assert self.process
        self.process.send_signal(number)
        self.process.wait(HANG_S)
        assert self.process.stdout
        self.process.stdout.close()

    def client(self, *, offline: bool = True, environ: Mapping[str, str] | None = None) -> Client:
        """The vendor's CLI for this server. ``environ``: what the user has set beforehand."""
        base = {**os.environ, **(environ or {})}
        command = [BIN / "jobsphere", "client-env", "--data-dir", self.data_dir, "--json"]
        command += ["--offline"] if offline else []
        known = {name: value for name, value in self.environ.items() if name.startswith("JOBSPHERE_")}
        done = subprocess.run(
            command, env={**base, **known}, capture_output=True, text=True, check=True, timeout=HANG_S
        )
        return Client(json.loads(done.stdout), base)

    def end_all(self) -> None:
        """End the server and everything that it started; nothing may be left."""
        if self.process and self.process.poll() is None:
            self.stop()
        for pid in processes_of(str(self.data_dir)):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_for(lambda: not processes_of(str(self.data_dir)), "every process of the server has ended")


@contextmanager
def live_server(data_dir: Path, *options: str, environ: Mapping[str, str] | None = None) -> Iterator[LiveServer]:
    """A started server, ended with all that is its own."""
    server = LiveServer(data_dir, *options, environ=environ)
    try:
        server.start()
        yield server
    finally:
        server.end_all()
