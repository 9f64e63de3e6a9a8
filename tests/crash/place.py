"""A server that may be killed at any step, on a data directory of its own, and what must be in there afterwards."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Thread

from tests.crash.killing import EVICT, TRACE, Case, arm, disarm
from tests.grpc_client import Api
from tests.live import HANG_S, LiveServer, processes_of, wait_for

ROOT = Path(__file__).parent.parent.parent
_ID, _HASH = r"[0-9a-z]{20}", r"[0-9a-f]{64}"
MAY_STAY = re.compile(
    r"jobsphere\.db(-wal|-shm)?|jobsphere\.toml|key|secrets\.key|tls/(\.lock|(ca|server)(\.key|\.pem|-key\.pem))"
    r"|run/(server\.lock|server\.json|node\.log|spawner-[0-9a-f]{12}\.(lock|sock)|etc-[0-9a-f]{16}/.*)"
    rf"|blobs/{_ID}/[0-9a-f]{{2}}/{_HASH}"
    rf"|ended/{_ID}-1/(plan\.json|lock|claim|started|exit|collected|step|stop|logs)"
    rf"|environments/({_HASH}(/.*|\.ready|\.lock|\.use|\.requirements)?|builds\.lock)|cache/.*"
    r"|images/([0-9a-f]{32}\.(use|json)|pulls\.lock)"
    rf"|datasets/(\.{_ID}\.lock|{_ID}/{_ID}/.*)|disks/.*"
    r"|attempts/\.spare-[0-9a-f]{16}/(control|lock|logs|groups|reserve\.(plan\.json|claim|started|exit|collected))"
)
"""All files that may be in a data directory in which nothing is under way."""
_FLOCK = struct.Struct("hhqqi0q")


class Place(LiveServer):
    """A server that is started again whenever it has been killed by itself, until it is ended."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None) -> None:
        super().__init__(folder / "data", environ=environ)
        self.folder = folder
        self.project = ""
        self.restarts = 0
        self._generations = itertools.count(1)
        self._told = 0
        self._known: set[str] = set()
        self._deciding, self._ending = Lock(), False
        self._watcher: Thread | None = None
        self._ports: dict[str, int] = {}

    def program(self) -> list[str]:
        """What is started, without its options."""
        return [sys.executable, "-m", "tests.crash.server", str(self.folder)]

    def start_once(self) -> bool:
        """Start it; whether it came to be ready. It may be killed on its way."""
        command = [*self.program(), "up", "--data-dir", str(self.data_dir)]
        for name in ("grpc", "proxy", "http"):
            command += [f"--{name}-port", str(self._ports.get(name, 0))]
        with (self.folder / "data.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT
            )
        assert self.process.stdout
        self.ready_line = self.process.stdout.readline()
        if "ready" not in self.ready_line:
            assert self.process.wait(HANG_S) == -signal.SIGKILL, self.log[-3000:]
            return False
        self._ports = self.ports
        return True

    def start_watched(self) -> None:
        """Start it, and again after each death."""
        while not self.start_once():
            self.restarts += 1
        self.project = self.client().project
        self._watcher = Thread(target=self._watch)
        self._watcher.start()

    def _watch(self) -> None:
        while True:
            assert self.process
            self.process.wait()
            with self._deciding:
                if self._ending:
                    return
                self.restarts += 1
                while not self.start_once():
                    self.restarts += 1

    def restart(self) -> None:
        """Kill it, and wait until the next one is ready."""
        before, process = self.restarts, self.process
        assert process
        process.kill()
        wait_for(lambda: self.restarts > before and "ready" in self.ready_line and self.process is not process, "ready")

    def end(self) -> None:
        """End it and all that it has started."""
        with self._deciding:
            self._ending = True
        self.end_all()
        if self._watcher:
            self._watcher.join(HANG_S)

    def trace(self) -> list[str]:
        """The steps since :meth:`forget`."""
        path = self.folder / TRACE
        return path.read_text().splitlines() if path.exists() else []

    def news(self) -> str:
        """What the server has logged since :meth:`forget`."""
        return "".join(line for line in self.log[self._told :].splitlines(keepends=True) if line[:2] == "20")

    def forget(self) -> None:
        """Begin a new trace."""
        self._told = len(self.log) if (self.folder / "data.log").exists() else 0
        path = self.folder / TRACE
        if path.exists():
            os.truncate(path, 0)

    @contextmanager
    def armed(self, case: Case | None) -> Iterator[None]:
        """Kill at ``case`` meanwhile."""
        self.forget()
        if case is not None:
            arm(self.folder, case, next(self._generations))
        try:
            yield
        finally:
            self.fired = disarm(self.folder)

    @contextmanager
    def evicting(self, what: str) -> Iterator[None]:
        """Nothing of it is kept meanwhile that nobody uses; see :mod:`tests.crash.server`."""
        aside = self.folder / f"{EVICT}.new"
        aside.write_text(what)
        aside.rename(self.folder / EVICT)
        try:
            yield
        finally:
            (self.folder / EVICT).unlink()

    def forgive(self) -> None:
        """What is left over now is known: the next case is not blamed for it."""
        self._known |= set(self.unsettled())

    fired = False

    def api(self) -> Api:
        return Api(self._ports["grpc"], self.data_dir / "tls" / "ca.pem")

    def check_settled(self, mark: str) -> None:
        """Nothing is under way: nothing is left of what was."""
        wait_for(lambda: not processes_of(mark), f"no process of {mark} is left")
        try:
            wait_for(lambda: not self.unsettled(), "nothing is left over")
        except AssertionError as error:
            raise AssertionError(f"left over: {self.unsettled()}") from error
        assert str(self.data_dir) not in Path("/proc/self/mounts").read_text()

    def unsettled(self) -> list[str]:
        """What should not be there when nothing is under way: files, folders and held locks."""
        found: list[str] = []
        for top, folders, files in os.walk(self.data_dir):
            if Path(top).name in {"environments", "cache"}:  # what is built is looked at below, as a whole
                folders.clear()
            for name in [*files, *(f for f in folders if Path(top, f).is_symlink())]:
                path = os.path.relpath(os.path.join(top, name), self.data_dir)
                if not MAY_STAY.fullmatch(path):
                    found.append(path)
        found += [f"attempts/{n}" for n in os.listdir(self.data_dir / "attempts") if not n.startswith(".spare-")]
        found += [str(p) for p in (*self.data_dir.glob("blobs/.incoming/*"), *self.data_dir.glob("disks/.incoming/*"))]
        found += [str(p) for p in (*self.data_dir.glob("datasets/*/.*"), *self.data_dir.glob("cache.removed"))]
        environments = self.data_dir / "environments"
        found += [f"{p} is not complete" for p in environments.glob("*") if p.is_dir() and not _is_ready(p)]
        locks = [*environments.glob("*.lock"), *environments.glob("*.use")]
        locks += [*self.data_dir.glob("images/*.use"), *self.data_dir.glob("ended/*/lock")]
        found += [f"{p} is locked" for p in locks if p.exists() and _is_locked(p)]
        return [what for what in found if what not in self._known]

    def check_blobs(self) -> int:
        """Every blob is what its name says; how many there are."""
        blobs = [p for p in self.data_dir.glob("blobs/*/??/*") if not p.parent.parent.name.startswith(".")]
        for blob in blobs:
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
        return len(blobs)


def _is_ready(prefix: Path) -> bool:
    return prefix.with_suffix(".ready").exists()


def _is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        if _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))[0] != fcntl.F_UNLCK:
            return True
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
