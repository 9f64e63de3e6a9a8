"""Jobs on the nodes of a real Ray cluster, by the vendor's client; and all that can be killed is killed.

The tests share one cluster, for Ray takes its time to start; the last one kills a node of it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.jobfiles import job_id_in, run_dir, wait_status, write_script
from tests.acceptance.test_bucket import settings as in_bucket
from tests.integration.s3_server import s3_service
from tests.live import BIN, HANG_S, Client, LiveServer, processes_of, wait_for
from tests.ray_cluster import START_S, RayCluster, lacking, ray_cluster

pytestmark = [
    pytest.mark.skipif(bool(lacking()) and not os.environ.get("CI"), reason=lacking()),
    pytest.mark.timeout(3600),
]
GIB = 2**30
NODES = {
    "one": ["--num-cpus=2", "--num-gpus=2", f"--memory={GIB}"],
    "two": ["--num-cpus=1", "--num-gpus=0", f"--memory={GIB}"],
}
SCRIPT = """
echo before
until [ -e go ]; do sleep 0.05; done
echo after
echo whole > out.txt
"""
TRAP = """
trap 'echo asked to stop; touch out.txt; exit 0' TERM
echo before
while :; do sleep 0.05; done
"""
CONFIG = "outputs:\n- out.txt\ncloud-instance-type: small\ngraceful-shutdown:\n  signal: SIGTERM\n  timeout: 60s\n"
TYPES = '{"small": {"cpus": 1, "memory_gb": 0.25}, "gpu": {"cpus": 1, "memory_gb": 0.25, "gpus": 1}}'


@dataclass
class Place:
    cluster: RayCluster
    server: LiveServer
    client: Client

    def nodes(self) -> dict[str, dict[str, Any]]:
        """As an operator sees them."""
        command = [BIN / "jobsphere", "node", "list", "--json", "--data-dir", self.server.data_dir]
        done = subprocess.run(command, env=self.server.environ, capture_output=True, text=True, timeout=HANG_S)
        assert done.returncode == 0, done.stderr
        return {node["name"]: node for node in json.loads(done.stdout)}

    def data_dir(self, node: str) -> Path:
        return self.cluster.folder / "nodes" / node

    def work(self, job_id: str) -> tuple[str, Path]:
        """The node that a job is on, and its working directory there."""

        def found() -> tuple[str, Path] | None:
            for node in NODES:
                if any(self.data_dir(node).glob(f"attempts/{job_id}*")):
                    return node, run_dir(self.data_dir(node), job_id) / "work"
            return None

        return wait_for(found, f"job {job_id} is on a node")

    def agents(self) -> dict[int, str]:
        """All of them, by their processes."""
        found = processes_of(str(self.cluster.folder))
        return {pid: words for pid, words in found.items() if "cli.main" in words and " agent " in words}

    def keepers(self) -> dict[int, str]:
        found = processes_of(str(self.cluster.folder))
        return {pid: words for pid, words in found.items() if "jobsphere.ray_nodes --address" in words}

    @contextmanager
    def job(self, tmp_path: Path, script: str = SCRIPT, config: str = CONFIG) -> Iterator[Job]:
        """A job in the foreground of the vendor's client, which has shown its first line."""
        folder = write_script(tmp_path / "job", script, config)
        with (folder / "words.txt").open("w") as out:
            process = self.client.start(
                "project", "job", "execute", "-p", self.client.project, "-c", "config.yaml", cwd=folder, stdout=out
            )
        job = Job(self, folder, process)
        try:
            wait_for(lambda: "before" in job.words or process.poll() is not None, "the client shows the log")
            yield job
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(HANG_S)


@dataclass
class Job:
    place: Place
    folder: Path
    process: subprocess.Popen[str]

    @property
    def words(self) -> str:
        return (self.folder / "words.txt").read_text()

    @property
    def id(self) -> str:
        return job_id_in(self.words)

    def go(self) -> None:
        (self.place.work(self.id)[1] / "go").touch()

    def succeeds(self) -> None:
        assert self.process.wait(HANG_S) == 0, self.words
        assert "after" in self.words
        assert (self.folder / "out.txt").exists()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with s3_service() as service, ray_cluster() as cluster:
        for name, options in NODES.items():
            cluster.start_node(name, *options)
        environ = {k: v for k, v in cluster.environ.items() if k.startswith("RAY_")}
        environ |= {
            "JOBSPHERE_SHARED_DIR": str(cluster.folder / "shared"),
            "JOBSPHERE_RAY_ADDRESS": cluster.address,
            "JOBSPHERE_RAY_DATA_DIR": str(cluster.folder / "nodes"),
            "JOBSPHERE_INSTANCE_TYPES": TYPES,
            **in_bucket(cluster.folder, service),
        }
        server = LiveServer(cluster.folder / "server", environ=environ)
        try:
            server.start()
            registry = cluster.folder / "shared" / "nodes"
            wait_for(lambda: all((registry / f"{n}.json").exists() for n in NODES), "all nodes have agents", START_S)
            yield Place(cluster, server, server.client(environ=environ))
        finally:
            server.end_all()


def test_the_nodes_of_ray_are_nodes_with_what_ray_counts(place: Place) -> None:
    found = place.nodes()
    assert {name: (node["cpus"], node["memory_bytes"], node["gpus"]) for name, node in found.items()} == {
        "one": (2, GIB, [0, 1]),
        "two": (1, GIB, []),
    }
    assert {node["condition"] for node in found.values()} == {"ready"}


def test_a_job_runs_on_a_node_and_its_log_is_live(place: Place, tmp_path: Path) -> None:
    with place.job(tmp_path) as job:
        node, _ = place.work(job.id)
        assert node in NODES
        job.go()
        job.succeeds()


def test_a_graceful_cancel_reaches_the_program(place: Place, tmp_path: Path) -> None:
    with place.job(tmp_path, TRAP) as job:
        place.client.run("project", "job", "cancel", "--id", job.id, "--graceful", cwd=tmp_path)
        job.process.wait(HANG_S)
        assert "asked to stop" in job.words
        assert wait_status(place.client, job.id, tmp_path, "CANCELLED")


def test_a_killed_keeper_is_replaced_and_starts_no_second_agent(place: Place) -> None:
    before, agents = place.keepers(), place.agents()
    assert len(agents) == len(NODES)
    logged = place.server.log.count("Ray's nodes are kept")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: place.server.log.count("Ray's nodes are kept") > logged, "another keeps them", START_S)
    wait_for(lambda: set(place.keepers()) - set(before), "it runs")
    assert place.agents() == agents


def test_a_killed_agent_disturbs_no_job(place: Place, tmp_path: Path) -> None:
    with place.job(tmp_path) as job:
        before = place.agents()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(set(place.agents()) - set(before)) == len(NODES), "they are started again")
        job.go()
        job.succeeds()


def test_the_death_of_the_head_disturbs_no_job(place: Place, tmp_path: Path) -> None:
    with place.job(tmp_path) as job:
        place.cluster.kill_head()
        with place.job(tmp_path / "meanwhile") as meanwhile:  # nor the start of another
            meanwhile.go()
            meanwhile.succeeds()
        place.cluster.start_head()
        job.go()
        job.succeeds()
    with place.job(tmp_path / "afterwards") as afterwards:
        afterwards.go()
        afterwards.succeeds()
    assert {node["condition"] for node in place.nodes().values()} == {"ready"}


def test_a_dead_node_is_told_to_its_jobs(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with place.job(tmp_path) as job:
        node, _ = place.work(job.id)
        os.kill(place.cluster.pid(node), signal.SIGKILL)
        killed = time.monotonic()
        marker = place.cluster.folder / "shared" / "nodes" / f"{node}.lost"
        wait_for(marker.exists, "Ray's word is written down", START_S)
        told_s = time.monotonic() - killed
        assert wait_status(place.client, job.id, tmp_path, "ERROR")
        ended_s = time.monotonic() - killed
        with capsys.disabled():
            print(f"\na dead node of Ray: marked after {told_s:.1f} s, its job has ended after {ended_s:.1f} s")
        assert job.process.wait(HANG_S) != 0
        assert f"node {node}" in job.words
    assert place.nodes()[node]["condition"] == "lost"
