"""Three real servers on one PostgreSQL and one bucket, behind one address, with two nodes: all of it to be killed."""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.jobfiles import job_id_in, write_script
from tests.acceptance.test_bucket import settings as in_bucket
from tests.agents import LiveAgent
from tests.balancer import Balancer, balancer
from tests.grpc_client import Api
from tests.integration.s3_server import Service, s3_service
from tests.live import HANG_S, Client, LiveServer, wait_for
from tests.postgres import PASSWORD, Postgres

SERVERS, NODES = 3, ("n1", "n2")
AT_ONCE = 12
"""How many jobs the nodes take at a time, all together."""
SCRIPT = """
echo begin
i=0
until [ -e %s ]; do echo line $i; i=$((i+1)); sleep 0.1; done
echo line $i
echo end
echo whole > out.txt
"""
"""Writes lines with numbers until there is a file."""
_TYPES = json.dumps({"c1.4": {"cpus": 0.25, "memory_gb": 0.25}})
_NODE = {"JOBSPHERE_NODE_CPUS": str(0.25 * AT_ONCE / len(NODES)), "JOBSPHERE_NODE_MEMORY_GB": "8"}


@dataclass
class Many:
    """All of them."""

    folder: Path
    servers: list[LiveServer]
    ports: dict[str, int]
    agents: list[LiveAgent]
    balancer: Balancer
    postgres: Postgres
    database: str
    service: Service
    seen: Path
    """A folder that jobs may read."""

    def leader(self) -> LiveServer:
        """The one that leads, as soon as one does."""
        leading = wait_for(lambda: [server for server in self.servers if server.leads()], "one of them leads")
        assert len(leading) == 1
        return leading[0]

    def followers(self) -> list[LiveServer]:
        leader = self.leader()
        return [server for server in self.servers if server is not leader]

    @property
    def hosts(self) -> list[str]:
        """The servers' own addresses, behind the balancer."""
        return [server.host for server in self.servers]

    def client(self) -> Client:
        """The vendor's, by the balancer's address."""
        known = {k: v for k, v in self.servers[0].environ.items() if k.startswith("JOBSPHERE_")}
        return self.servers[0].client(environ=known)

    def api(self, server: LiveServer | None = None) -> Api:
        """By the balancer, or to one of the servers."""
        host = server.host if server else self.balancer.host
        return Api(self.ports["grpc"], self.folder / "shared" / "tls" / "ca.pem", host=host)

    def start(self, server: LiveServer) -> None:
        """Start it, on the ports that all have."""
        server.start(self.ports)

    def attempts(self, job_id: str) -> list[str]:
        """The run directories that there are and were of a job, on all nodes."""
        folders = (agent.data_dir / kind for agent in self.agents for kind in ("attempts", "ended"))
        return [path.name for folder in folders for path in folder.glob(f"{job_id}*")]

    def cut_connections(self) -> int:
        """Cut all connections to the servers' database; how many there were."""
        cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '%s' AND pid <> %s"
        return int(self.postgres.run("postgres", cut % (self.database, "pg_backend_pid()")))


@dataclass
class Foreground:
    """The vendor's client that follows a job, and what it has shown."""

    process: subprocess.Popen[str]
    folder: Path

    @property
    def words(self) -> str:
        return (self.folder / "words.txt").read_text()

    @property
    def lines(self) -> list[int]:
        """The numbered lines of the program that were shown."""
        return [int(number) for number in re.findall(r"line (\d+)\n", self.words)]

    @property
    def id(self) -> str:
        wait_for(lambda: "created job" in self.words or self.process.poll() is not None, "the job is there")
        return job_id_in(self.words)

    def succeeds(self) -> None:
        """It ends well, has shown all of its job's log, each line once, and has the output."""
        assert self.process.wait(HANG_S) == 0, self.words
        assert self.lines == list(range(len(self.lines))), self.words
        assert (self.words.count("begin\n"), self.words.count("end\n")) == (1, 1), self.words
        assert (self.folder / "out.txt").read_text() == "whole\n"

    def shows_more(self) -> None:
        """Wait until the log has gone on."""
        before = len(self.lines)
        wait_for(lambda: len(self.lines) > before or self.process.poll() is not None, "the log goes on")
        assert len(self.lines) > before, self.words


@contextmanager
def foreground(client: Client, folder: Path, go: Path) -> Generator[Foreground]:
    """``project job execute`` of :data:`SCRIPT`; ended at the end, if it has not by then."""
    write_script(folder, SCRIPT % go, "outputs:\n- out.txt\n")
    words = folder / "words.txt"
    with words.open("w") as out:
        command = ("project", "job", "execute", "-p", client.project, "-c", "config.yaml")
        process = client.start(*command, cwd=folder, stdout=out)
    try:
        yield Foreground(process, folder)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(HANG_S)
        assert process.stdin
        process.stdin.close()


@contextmanager
def many_servers(folder: Path, postgres: Postgres) -> Generator[Many]:
    """All of it started, and ended with all that it has started."""
    net = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"  # other runs on this host have others
    hosts = [f"{net}.{number}" for number in range(2, 2 + SERVERS)]
    ports = _free_ports(f"{net}.1")
    seen, shared, database = folder / "seen", folder / "shared", postgres.new_database()
    seen.mkdir()
    with ExitStack() as stack:
        service = stack.enter_context(s3_service())
        bucket = in_bucket(folder, service)
        environ = {
            **bucket,
            "JOBSPHERE_DATABASE_URL": postgres.url(database),
            "JOBSPHERE_DATABASE_PASSWORD": PASSWORD,
            "JOBSPHERE_SHARED_DIR": str(shared),
            "JOBSPHERE_INSTANCE_TYPES": _TYPES,
            "JOBSPHERE_SANDBOX_READ_ONLY": json.dumps([str(seen)]),
        }
        node = {**bucket, **_NODE, "JOBSPHERE_SANDBOX_READ_ONLY": environ["JOBSPHERE_SANDBOX_READ_ONLY"]}
        agents = [LiveAgent(folder / name, shared, name, node) for name in NODES]
        for agent in agents:
            stack.callback(agent.end_all)
            agent.start()
        between = stack.enter_context(balancer(f"{net}.1", hosts, list(ports.values())))
        servers = [
            LiveServer(folder / f"server{n}", "--host", host, "--public-host", f"{net}.1", environ=environ)
            for n, host in enumerate(hosts)
        ]
        many = Many(folder, servers, ports, agents, between, postgres, database, service, seen)
        for server in servers:
            stack.callback(server.end_all)
            many.start(server)
        yield many


def killed(server: LiveServer) -> None:
    """As by a machine that is gone."""
    server.stop(signal.SIGKILL)


def _free_ports(host: str) -> dict[str, int]:
    """Free at one address of a net that nobody else has: free at all of it."""
    with ExitStack() as held:
        sockets = {name: held.enter_context(socket.create_server((host, 0))) for name in ("grpc", "proxy", "http")}
        return {name: one.getsockname()[1] for name, one in sockets.items()}
