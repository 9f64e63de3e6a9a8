"""A server whose jobs run on two nodes, each with an agent of its own, and the vendor's client that sees none of it."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import execute, job_id_in, write_job, write_script
from tests.agents import LiveAgent
from tests.commands import jobsphere
from tests.live import Client, LiveServer, live_server, wait_for

FILES = """cmd: cat ${FIRST} > ${OUT}; cp ${OUT} ${SET}
inputs:
- a.txt: FIRST
outputs:
- out.txt: OUT
output-datasets:
- name: made
  var: SET
  size: 1Gb
"""
WAITS = "echo before; until [ -e go ]; do sleep 0.05; done; echo after; echo whole > out.txt"


@dataclass
class Cluster:
    server: LiveServer
    agents: list[LiveAgent]
    shared: Path

    @property
    def client(self) -> Client:
        return self.server.client(environ={"JOBSPHERE_SHARED_DIR": str(self.shared)})

    def command(self, *words: str) -> str:
        return jobsphere(self.server.data_dir, *words, environ=self.server.environ)

    def where(self, job_id: str) -> LiveAgent:
        """The agent that has the job."""
        return wait_for(lambda: next((a for a in self.agents if a.has(job_id)), None), f"{job_id} is on a node")

    def under_way(self, folder: Path) -> tuple[subprocess.Popen[str], Path, str, LiveAgent]:
        """A job that waits for a file ``go``, its client, the client's words, its id and its node."""
        write_script(folder, WAITS, "outputs:\n- out.txt\n")
        words, client = folder / "words.txt", self.client
        with words.open("w") as out:
            process = client.start("project", "job", "execute", "-p", client.project, "-c", "config.yaml", cwd=folder,
                                   stdout=out)  # fmt: skip
        wait_for(lambda: "before\n" in words.read_text(), "the log comes live")
        job_id = job_id_in(words.read_text())
        return process, words, job_id, self.where(job_id)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    shared = folder / "shared"
    agents = [LiveAgent(folder / name, shared, name) for name in ("n1", "n2")]
    try:
        for agent in agents:
            agent.start()
        with live_server(folder / "server", environ={"JOBSPHERE_SHARED_DIR": str(shared)}) as server:
            yield Cluster(server, agents, shared)
    finally:
        for agent in agents:
            agent.end_all()


def test_files_go_to_a_node_and_come_from_it(cluster: Cluster, tmp_path: Path) -> None:
    folder = write_job(tmp_path / "job", FILES, a__txt="one\n")
    words = execute(cluster.client, folder)
    assert (folder / "out.txt").read_text() == "one\n"
    assert "(made)" in words
    job_id = job_id_in(words)
    ran = wait_for(
        lambda: [a for a in cluster.agents if (a.data_dir / "ended" / f"{job_id}-1").is_dir()], "it is tidied"
    )
    assert len(ran) == 1
    assert not (cluster.server.data_dir / "attempts").exists()
    assert [one.read_text() for one in (cluster.shared / "datasets").glob("*/*/**/*") if one.is_file()] == ["one\n"]


def test_an_agent_is_killed_and_started_again_and_its_job_misses_nothing(cluster: Cluster, tmp_path: Path) -> None:
    process, words, job_id, agent = cluster.under_way(tmp_path / "job")
    agent.stop(signal.SIGKILL)
    wait_for(lambda: f"condition=away node={agent.name}" in " ".join(cluster.server.log.split()), "it is missed")
    assert '"condition": "away"' in cluster.command("node", "list", "--json")
    (agent.data_dir / "attempts" / f"{job_id}-1" / "work" / "go").touch()
    agent.start()
    assert process.wait(240) == 0, words.read_text()
    assert words.read_text().count("before\n") == 1
    assert words.read_text().count("after\n") == 1
    assert (words.parent / "out.txt").read_text() == "whole\n"


def test_the_jobs_of_a_lost_node_end_with_its_name(cluster: Cluster, tmp_path: Path) -> None:
    process, words, job_id, agent = cluster.under_way(tmp_path / "job")
    agent.stop(signal.SIGKILL)
    cluster.command("node", "lost", agent.name, "--reason", "its rack burned down")
    assert process.wait(240) != 0
    told = " ".join(words.read_text().split())
    assert f"lost with its node {agent.name} (its rack burned down)" in told
    agent.start()
    wait_for(lambda: not agent.has(job_id), "what was given up is stopped and put away")


def test_a_name_is_one_agents_and_an_end_in_good_order_is_told(cluster: Cluster, tmp_path: Path) -> None:
    second = LiveAgent(tmp_path / "other", cluster.shared, "n2")
    second.start(ready=False)
    assert "an agent of the name 'n2' is running" in second.log
    third = LiveAgent(tmp_path / "third", cluster.shared, "n3")
    third.start()
    cluster.command("node", "drain", "n3")
    assert '"condition": "draining"' in cluster.command("node", "list", "--json")
    third.stop()
    cluster.command("node", "undrain", "n3")
    assert '"n3"' not in cluster.command("node", "list", "--json")
    cluster.command("node", "lost", "n3")
    cluster.command("node", "forget", "n3")
    assert "there is no node 'n3'" in jobsphere(
        cluster.server.data_dir, "node", "forget", "n3", code=1, environ=cluster.server.environ
    )
