"""Many clients at once, while the server and its supervisors are killed again and again: no job is lost silently.

The default run is a small one of the same; ``make soak`` brings 200 clients for ten minutes.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from tests.grpc_client import Api
from tests.live import HANG_S, wait_for
from tests.load.clients import Calls, Client
from tests.load.figures import Taken, check_nothing_left, wait
from tests.load.killing import Killer, Served
from tests.reliability import Load

SEED = 20261124


@dataclass(frozen=True)
class Size:
    """How much there is to bear. ``seconds``: at least, ``calm_s`` of them with the last server."""

    clients: int
    seconds: float
    jobs: int
    servers: int
    server_s: float
    supervisor_s: float
    calm_s: float
    pause_s: float


SMALL = Size(clients=10, seconds=5, jobs=60, servers=2, server_s=1.5, supervisor_s=0.7, calm_s=1, pause_s=0.1)
WHOLE = Size(clients=200, seconds=600, jobs=2_000, servers=16, server_s=30, supervisor_s=3, calm_s=120, pause_s=6)
SIZE = WHOLE if os.environ.get("JOBSPHERE_SOAK") else SMALL
MORE_MIB, MORE_DESCRIPTORS = 64, 16
"""How much more the server may hold when all clients have gone than before the first of them came.

It keeps some things on purpose: what 1,000 attempts left, pages of the database, two connections for reading; and the
allocator keeps what it once had. All of that is bounded. What were lost with each job or call would grow with their
number: 10 KiB a job, or one descriptor for a hundred of them, are more than this in the ten minutes.
"""
SETTINGS = """
node_cpus = 8
node_memory_gb = 8
[instance_types]
"c1.4" = {cpus = 0.25, memory_gb = 0.25}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Served]:
    place = Served(tmp_path)
    place.data_dir.mkdir(0o700)
    (place.data_dir / "jobsphere.toml").write_text(SETTINGS)
    try:
        place.start_watched()
        yield place
    finally:
        place.end()


def taken(place: Served) -> Taken:
    assert place.process
    return Taken.by(place.process.pid)


def run_one(api: Api, project: str) -> str:
    job_id = api.create(project, "cat in", {"in": b"first\n"})
    api.execute(job_id)
    api.wait(job_id)
    assert api.stdout(job_id) == b"first\n"
    return job_id


def bear(place: Served, size: Size) -> tuple[list[Client], Killer]:
    """Have all of them work while things are killed; give them when they have seen all their jobs end."""
    over, begin = Event(), time.monotonic()
    ca = place.data_dir / "tls" / "ca.pem"
    clients = [
        Client(n, Calls(place.ports["grpc"], ca, random.Random(n)), place.project, over, size.pause_s, SEED)
        for n in range(size.clients)
    ]
    killer = Killer(place, over, SEED, size.servers, size.server_s, size.supervisor_s)
    workers = [*clients, killer]
    for worker in workers:
        worker.start()

    def enough() -> bool:
        now, jobs = time.monotonic(), sum(len(c.jobs) for c in clients)
        calm = killer.servers >= size.servers and now >= killer.last_at + size.calm_s
        done = calm and now >= begin + size.seconds and jobs >= size.jobs
        return done or any(worker.failure for worker in workers)

    try:
        wait_for(enough, "all is done", 10 * size.seconds + HANG_S)
    finally:
        over.set()
        for worker in workers:
            worker.join(5 * HANG_S)
            assert not worker.is_alive(), f"{worker.name} comes to its end"
    failures = [f"{w.name}: {type(w.failure).__name__}: {w.failure}" for w in workers if w.failure]
    assert not failures, "\n".join(failures[:10]) + place.news()[-5000:]
    return clients, killer


def check_list(api: Api, project: str, clients: list[Client], others: set[str]) -> None:
    """The list has the clients' jobs and ``others``; what a repeated call made once more is removed."""
    listed: dict[str, pb.Job] = {}
    token = ""
    while True:
        request = service_pb.ListProjectJobRequest(project_id=project, page_size=500, page_token=token)
        page = api.call(api.jobs.List, request)
        listed |= {job.id: job for job in page.jobs}
        token = page.next_page_token
        if not token:
            break
    kept = {job.job_id: job for client in clients for job in client.jobs if not job.deleted}
    assert kept.keys() <= listed.keys()
    assert all(listed[job_id].status == job.status for job_id, job in kept.items())
    nobodys = [job for job_id, job in listed.items() if job_id not in kept.keys() | others]
    assert {job.status for job in nobodys} <= {pb.CREATING}
    makes = ("CreateProjectJobRequest", "CloneProjectJobRequest")
    assert len(nobodys) <= sum(client.calls.repeated[name] for client in clients for name in makes)
    for job in nobodys:
        api.call(api.jobs.Delete, service_pb.DeleteProjectJobRequest(job_id=job.id))


@pytest.mark.timeout(6000)
def test_many_clients_lose_nothing_while_servers_and_supervisors_are_killed(
    place: Served, tried: Callable[[str, int, int], None], bore: Callable[[Load], None]
) -> None:
    api, begin = place.api(), time.monotonic()
    first = run_one(api, place.project)
    check_nothing_left(place)
    before = taken(place)

    clients, killer = bear(place, SIZE)
    seconds = time.monotonic() - begin
    lost = [job_id for client in clients for job_id in client.lost]
    silent = [job_id for job_id in lost if not any(k.carried(job_id) for k in killer.killed)]
    assert not silent, f"told to be lost, and their supervisors were not killed: {silent}"
    assert len(lost) <= len(killer.killed)
    for client in clients:
        client.calls.close()

    check_list(api, place.project, clients, {first, run_one(api, place.project)})
    check_nothing_left(place)
    wait(
        lambda: taken(place).descriptors <= before.descriptors + MORE_DESCRIPTORS,
        lambda: f"{before} before, {taken(place)} now",
    )
    after = taken(place)
    api.close()
    tried("server killed under load", killer.servers, killer.servers)
    tried("supervisors killed under load", len(killer.killed), len(killer.killed) - len(silent))
    jobs = [job for client in clients for job in client.jobs]
    ends = sum((client.ends for client in clients), Counter[str]())
    bore(
        Load(
            clients=SIZE.clients,
            seconds=round(seconds),
            calls=sum(client.calls.counts.total() for client in clients),
            jobs=len(jobs),
            servers=killer.servers,
            supervisors=len(killer.killed),
            by_themselves=ends["success"] + ends["failed"],
            cancelled=ends["cancelled"],
            told=ends["lost"],
            mib=(before.mib, after.mib),
            descriptors=(before.descriptors, after.descriptors),
        )
    )
    assert after.mib <= before.mib + MORE_MIB, f"{before} before, {after} now"
