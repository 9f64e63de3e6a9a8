"""Three servers behind one address: any of them answers anything, one of them dies, and no job notices."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from jobsphere.store.leases import LIFE_S
from tests.grpc_client import Api
from tests.live import HANG_S, LiveServer, wait_for
from tests.many_servers import AT_ONCE, NODES, SCRIPT, Many, foreground, killed, many_servers
from tests.postgres import Postgres

pytestmark = pytest.mark.timeout(1800)
JOBS = 18
"""Beside those of two clients in the foreground: more than run at a time, so that some wait."""
SLOW = 4
"""That many lives of a lease may pass until another leads: one, and the rest for a busy host."""
WHOLE = re.compile(rb"begin\n(?:line \d+\n)+end\n")
Took = Callable[[str, float], None]


@pytest.fixture(scope="module")
def many(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Many]:
    with many_servers(tmp_path_factory.mktemp("many"), postgres) as running:
        yield running


@pytest.fixture(autouse=True)
def whole(many: Many) -> Iterator[None]:
    """Each test finds all servers there, and no balancer that passes one of them over, whatever the last one did."""
    yield
    many.balancer.only = many.hosts
    for server in many.servers:
        if server.process is None or server.process.poll() is not None:
            many.start(server)


@pytest.fixture
def api(many: Many) -> Iterator[Api]:
    client = many.api()
    yield client
    client.close()


class Crowd:
    """Jobs that run and wait, and clients that follow two that run, until :meth:`release`, at the latest at the end."""

    def __init__(self, many: Many, api: Api, tmp_path: Path, stack: ExitStack) -> None:
        self._many, self._api = many, api
        self._go = many.seen / tmp_path.name
        stack.callback(self.release)
        vendors = many.client()
        self.clients = [stack.enter_context(foreground(vendors, tmp_path / f"c{n}", self._go)) for n in range(2)]
        for client in self.clients:  # before there are others: their jobs would wait, and print nothing
            client.shows_more()
        outputs = [pb.FileDesc(path="out.txt")]
        files = {"job.sh": (SCRIPT % self._go).encode()}
        self.jobs = [api.create(vendors.project, "sh job.sh", files, output_files=outputs) for _ in range(JOBS)]
        for job_id in self.jobs:
            api.execute(job_id)

    def wait(self) -> None:
        """As many run as there is room for, some wait, and the clients show what theirs print."""
        wait_for(lambda: self._count(pb.EXECUTING) == AT_ONCE, "as many run as may")
        assert self._count(pb.PREPARING) == JOBS + len(self.clients) - AT_ONCE
        for client in self.clients:
            client.shows_more()

    def release(self) -> None:
        """The programs end now."""
        self._go.touch()

    def unharmed(self) -> None:
        """All have ended as they should: started once, no line of a log lost or doubled, outputs whole."""
        for client in self.clients:
            client.succeeds()
        for job_id in (*self.jobs, *(client.id for client in self.clients)):
            job = self._api.wait(job_id)
            assert job.status == pb.SUCCESS, job
            text = self._api.stdout(job_id)
            assert WHOLE.fullmatch(text), text
            numbers = [int(number) for number in re.findall(rb"line (\d+)", text)]
            assert numbers == list(range(len(numbers)))
            assert self._api.download(job_id, job.output_files)["out.txt"] == b"whole\n"
            assert self._many.attempts(job_id) == [f"{job_id}-1"]

    def _count(self, status: int) -> int:
        ids = (*self.jobs, *(client.id for client in self.clients))
        return sum(self._api.get(job_id).status == status for job_id in ids)


@pytest.fixture
def crowd(many: Many, api: Api, tmp_path: Path) -> Iterator[Crowd]:
    with ExitStack() as stack:
        yield Crowd(many, api, tmp_path, stack)


def next_leads(many: Many, dead: LiveServer) -> float:
    """How many seconds it takes from now until another leads."""
    began = time.monotonic()
    wait_for(lambda: any(server.leads() for server in many.servers if server is not dead), "another leads")
    return time.monotonic() - began


def test_every_server_shows_who_leads_and_how_the_nodes_are(many: Many) -> None:
    leader = many.leader()
    for server in many.servers:
        with urllib.request.urlopen(f"http://{server.host}:{many.ports['http']}/queue", timeout=HANG_S) as answer:
            page = answer.read().decode()
        told = f":{leader.data_dir}</b> leads{': this one' if server is leader else ''}."
        assert told in page
        rows = re.findall(r'<th scope="row">(\w+)</th>\s*<td>(\w+)', page)
        assert rows == [(name, "ready") for name in NODES]


@pytest.mark.fault("leading server killed")
@pytest.mark.parametrize("moment", ["jobs start", "jobs run", "jobs end"])
def test_the_leader_dies_and_no_job_notices(many: Many, crowd: Crowd, moment: str, took: Took) -> None:
    dead = many.leader()
    if moment != "jobs start":
        crowd.wait()
    if moment == "jobs end":
        crowd.release()
    killed(dead)
    seconds = next_leads(many, dead)
    took(f"killed while {moment}", seconds)
    assert seconds < SLOW * LIFE_S
    if moment == "jobs start":
        crowd.wait()
    if moment == "jobs run":
        crowd.clients[0].shows_more()
    crowd.release()
    crowd.unharmed()
    many.start(dead)
    assert not dead.leads()


@pytest.mark.fault("leading server stopped for a while")
def test_a_leader_that_stood_still_leads_no_more_and_starts_nothing_twice(
    many: Many, api: Api, tmp_path: Path, took: Took
) -> None:
    still, followers = many.leader(), many.followers()
    many.balancer.only = [server.host for server in followers]  # a balancer that asks /readyz finds that out
    with ExitStack() as stack:
        crowd = Crowd(many, api, tmp_path, stack)
        crowd.wait()
        assert still.process
        still.process.send_signal(signal.SIGSTOP)
        try:
            took("stopped while jobs run", next_leads(many, still))
            crowd.release()  # those that wait are started by the new one, while the old one wakes
        finally:
            still.process.send_signal(signal.SIGCONT)
            many.balancer.only = many.hosts
        wait_for(lambda: "this server leads no more" in still.log, "it has seen that")
        assert many.leader() is not still
        crowd.unharmed()


@pytest.mark.fault("servers killed one after the other")
def test_servers_die_one_after_the_other_and_no_job_notices(many: Many, crowd: Crowd, took: Took) -> None:
    dice = random.Random(7)
    crowd.wait()
    for _ in range(20 if os.environ.get("JOBSPHERE_SOAK") else 2):
        dead = dice.choice(many.servers)
        led = dead.leads()
        killed(dead)
        if led:
            took("killed again and again", next_leads(many, dead))
        for client in crowd.clients:
            client.shows_more()
        many.start(dead)
    crowd.release()
    crowd.unharmed()


@pytest.mark.fault("server killed through which a client follows a log")
def test_a_client_reads_on_at_another_server(many: Many, api: Api, tmp_path: Path) -> None:
    dead = many.followers()[0]
    go = many.seen / tmp_path.name
    many.balancer.only = [dead.host]
    with foreground(many.client(), tmp_path / "job", go) as client:
        client.shows_more()
        many.balancer.only = many.hosts
        killed(dead)
        client.shows_more()
        go.touch()
        client.succeeds()
        assert many.attempts(client.id) == [f"{client.id}-1"]


@pytest.mark.fault("all connections to the database cut")
def test_connections_to_the_database_are_cut_and_no_job_notices(many: Many, crowd: Crowd) -> None:
    crowd.wait()
    for _ in range(3):
        wait_for(many.cut_connections, "there is something to cut")
        crowd.clients[0].shows_more()
    crowd.release()
    wait_for(many.cut_connections, "there is something to cut")
    crowd.unharmed()
    many.leader()


@pytest.mark.fault("bucket away")
def test_the_bucket_is_away_and_no_job_notices(many: Many, crowd: Crowd) -> None:
    crowd.wait()
    gate, leader = many.service.gate, many.leader()
    until = time.monotonic() + (60 if os.environ.get("JOBSPHERE_SOAK") else 0)
    gate.away.set()
    try:
        crowd.release()
        wait_for(lambda: "bucket that holds the files cannot be reached" in leader.log, "it is missed")
        wait_for(lambda: time.monotonic() > until, "it was away for long enough")
    finally:
        gate.away.clear()
    crowd.unharmed()


def test_the_log_of_a_job_is_live_at_every_server(many: Many, api: Api, tmp_path: Path) -> None:
    step = many.seen / tmp_path.name
    script = f"for i in 1 2 3; do echo line $i; until [ -e {step}.$i ]; do sleep 0.05; done; done; echo end"
    job_id = api.create(many.client().project, script)
    api.execute(job_id)
    read: list[list[bytes]] = [[] for _ in many.servers]

    def follow(direct: Api, into: list[bytes]) -> None:
        request = service_pb.ReadProjectJobLogsRequest(job_id=job_id)
        for answer in direct.jobs.ReadLogs(request, timeout=HANG_S):
            into += [m.content for m in answer.logs if m.HasField("standard_stream")]

    directly = [many.api(server) for server in many.servers]
    threads = [threading.Thread(target=follow, args=pair) for pair in zip(directly, read, strict=True)]
    for thread in threads:
        thread.start()
    for number in (1, 2, 3):
        line = b"line %d\n" % number
        wait_for(lambda line=line: all(line in b"".join(parts) for parts in read), f"all have {line} while it runs")
        step.with_name(f"{step.name}.{number}").touch()
    for thread in threads:
        thread.join(HANG_S)
    for direct in directly:
        direct.close()
    assert [b"".join(parts) for parts in read] == [b"line 1\nline 2\nline 3\nend\n"] * len(many.servers)
    assert api.wait(job_id).status == pb.SUCCESS
