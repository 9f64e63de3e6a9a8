"""A Ray cluster of the tests' own on one host: a head with a Redis for its memory, and nodes; all can be killed.

Every node has an address of its own on loopback, as machines have. Nothing of it is left at the end.
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live import BIN, HANG_S, processes_of, wait_for

START_S = 3 * HANG_S
"""Ray is heavy: what it starts takes minutes on a host that is busy. A limit for hangs."""
_TRIES = 5
_UP = "will now block forever"
_SETTINGS = {
    # A dead node is seen after three checks; a host that is only busy has ten seconds for each.
    "RAY_health_check_initial_delay_ms": "5000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_timeout_ms": "10000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_raylet_report_resources_period_milliseconds": "1000",
    "RAY_debug_dump_period_milliseconds": "0",
    "RAY_event_stats": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


def lacking() -> str:
    """What is not installed here, and how it is; empty if all is there."""
    missing: list[str] = []
    if importlib.util.find_spec("ray") is None:
        missing.append("ray is not installed (tools/setup.sh --extra ray)")
    if shutil.which("redis-server") is None:
        missing.append("redis-server is not installed (Debian: apt-get install redis-server)")
    return "; ".join(missing)


class RayCluster:
    """A head and its nodes. The head offers nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Sockets' paths are short, and other runs on this host have other addresses.
        self._net = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
        self._numbers: dict[str, int] = {"head": 2}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._redis: subprocess.Popen[bytes] | None = None
        self._port, self._redis_port = _free_port(self.ip("head")), _free_port("127.0.0.1")
        self.environ = {**os.environ, **_SETTINGS, "RAY_OF_TESTS": str(folder)}
        self.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # each process would compile all of Ray

    @property
    def address(self) -> str:
        """Of the head."""
        return f"{self.ip('head')}:{self._port}"

    def ip(self, name: str) -> str:
        """The address of a node."""
        return f"{self._net}.{self._numbers.setdefault(name, len(self._numbers) + 2)}"

    def start_redis(self) -> None:
        """Where the head keeps what it knows."""
        command = ["redis-server", "--port", str(self._redis_port), "--bind", "127.0.0.1", "--save", "", "--hz", "1"]
        with (self.folder / "redis.log").open("ab") as log:
            self._redis = subprocess.Popen(
                [*command, "--dir", self.folder], env=self.environ, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(lambda: "Ready to accept" in (self.folder / "redis.log").read_text(), "Redis listens")

    def start_head(self) -> None:
        """Start it, with what it knew before."""
        redis = {"RAY_REDIS_ADDRESS": f"127.0.0.1:{self._redis_port}"}
        options = ["--head", f"--port={self._port}", "--num-cpus=0", "--include-dashboard=false", "--no-monitor"]
        self._start("head", [*options, f"--temp-dir={self.folder}/t"], redis)

    def start_node(self, name: str, *options: str) -> None:
        """Start a node that offers what the options say."""
        self._start(name, [f"--address={self.address}", *options], {})

    def pid(self, name: str, program: str = "raylet") -> int:
        """A process of Ray's on a node: ``raylet``, on the head also ``gcs_server``."""
        children = Path(f"/proc/{self._processes[name].pid}/task/{self._processes[name].pid}/children").read_text()
        return next(int(p) for p in children.split() if Path(f"/proc/{p}/comm").read_text().strip() == program)

    def kill_head(self) -> None:
        """Kill it with all that belongs to it, as a power cut would; the nodes stay."""
        for pid in [self.pid("head", "gcs_server"), self.pid("head"), self._processes["head"].pid]:
            os.kill(pid, signal.SIGKILL)
        self._processes["head"].wait(HANG_S)
        # Another machine would not have it. With it Ray takes the nodes of this host for the head itself.
        (self.folder / "t" / "ray_current_cluster").unlink(missing_ok=True)

    def log(self, name: str) -> str:
        """What ``ray start`` said."""
        return (self.folder / f"{name}.log").read_text()

    def end_all(self) -> None:
        """End all that was started, and what that has started."""
        marker = str(self.folder)
        for pid in processes_of(marker):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in (*self._processes.values(), self._redis):
            if process is not None:
                process.kill()  # Redis writes another command line over its own
                process.wait(HANG_S)
        wait_for(lambda: not processes_of(marker), "every process of the cluster has ended")

    def _ended(self, name: str) -> bool:
        return self._processes[name].poll() is not None

    def _start(self, name: str, options: list[str], environ: dict[str, str]) -> None:
        command = [BIN / "ray", "start", f"--node-name={name}", f"--node-ip-address={self.ip(name)}", *options,
                   "--object-store-memory=80000000", "--include-log-monitor=false", "--block"]  # fmt: skip
        for _ in range(_TRIES):  # it gives up by itself where the host is busy for half a minute
            with (self.folder / f"{name}.log").open("wb") as log:
                self._processes[name] = subprocess.Popen(
                    command, env={**self.environ, **environ}, stdout=log, stderr=log, start_new_session=True
                )
            wait_for(lambda: _UP in self.log(name) or self._ended(name), f"Ray starts {name}", START_S)
            if not self._ended(name):
                return
        raise AssertionError(self.log(name))


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster with its head."""
    folder = Path(tempfile.mkdtemp(prefix="jsr-", dir="/tmp"))
    cluster = RayCluster(folder)
    try:
        cluster.start_redis()
        cluster.start_head()
        yield cluster
    finally:
        cluster.end_all()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port(host: str) -> int:
    with socket.create_server((host, 0)) as free:
        return free.getsockname()[1]
