"""The services of ``deploy/compose.yaml`` with its commands, variables and balancer, as processes of this host.

Not tried here: the images, and what containers put around the processes.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.jobfiles import execute, write_job
from tests.commands import jobsphere
from tests.compose import PATH, Carried, haproxy, services
from tests.integration.s3_server import BUCKET, s3_service
from tests.live import wait_for
from tests.many_servers import foreground, killed
from tests.postgres import PASSWORD, Postgres

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy", path=PATH) is None and not os.environ.get("CI"), reason="haproxy is not installed"
)

_ESTABLISHED = "01"


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    """A folder that jobs may read."""
    folder = tmp_path / "seen"
    folder.mkdir()
    return folder


@pytest.fixture
def carried(postgres: Postgres, tmp_path: Path, seen: Path) -> Iterator[dict[str, Carried]]:
    net = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}"
    with ExitStack() as stack:
        service = stack.enter_context(s3_service())
        values = {
            "PUBLIC_HOST": f"{net}.1",
            "DATABASE_PASSWORD": PASSWORD,
            "BUCKET_KEY": service.access_key,
            "BUCKET_SECRET": service.secret_key,
        }
        here = {
            f"http://{net}.1:9000": service.url,
            "s3://jobs/": f"s3://{BUCKET}/",
            "@postgres:5432/jobsphere": f"@127.0.0.1:{postgres.port}/{postgres.new_database()}",
            "/mnt/jobsphere": str(tmp_path / "shared"),
        }
        ours = {name: one for name, one in services(values).items() if one["image"] == "jobsphere"}
        at = {name: f"{net}.{number}" for number, name in enumerate(ours, 2)}
        for one in ours.values():
            one["environment"]["JOBSPHERE_SANDBOX_READ_ONLY"] = f'["{seen}"]'
        running = {name: Carried(tmp_path / name, one, here, at[name]) for name, one in ours.items()}
        for one in running.values():
            stack.callback(one.end_all)
            one.start()
        stack.enter_context(haproxy(tmp_path, f"{net}.1", at))
        yield running


def carries(server: Carried) -> bool:
    """Whether a client is connected to the server's proxy."""
    address = "".join(f"{int(part):02X}" for part in reversed(server.host.split(".")))
    here = f"{address}:{server.ports['proxy']:04X}"
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(local == here and state == _ESTABLISHED for _, local, _, state, *_ in table)


def test_a_server_that_stands_still_is_left_by_its_clients(
    carried: dict[str, Carried], tmp_path: Path, seen: Path
) -> None:
    """As one whose machine has lost its power: nothing comes from it any more, no end of a connection either."""
    servers = [one for name, one in carried.items() if name.startswith("server")]
    with foreground(servers[0].client(), tmp_path / "job", seen / "go") as client:
        client.shows_more()
        carrying = [server for server in servers if carries(server)]
        assert carrying
        for server in carrying:  # one of them has the log
            assert server.process
            server.process.send_signal(signal.SIGSTOP)
            try:
                wait_for(lambda server=server: not carries(server), "the balancer has given it up")
                client.shows_more()
            finally:
                server.process.send_signal(signal.SIGCONT)
        (seen / "go").touch()
        client.succeeds()


def test_jobs_run_behind_its_balancer_and_outlive_their_leader(
    carried: dict[str, Carried], tmp_path: Path, seen: Path
) -> None:
    servers = [one for name, one in carried.items() if name.startswith("server")]
    nodes = jobsphere(servers[0].data_dir, "node", "list", environ=servers[0].environ)
    assert nodes.count("ready") == 2
    client = servers[0].client()
    config = "cmd: cat a.txt > b.txt\ninputs:\n- a.txt\noutputs:\n- b.txt\n"
    folder = write_job(tmp_path / "first", config, a__txt="through the bucket\n")
    execute(client, folder)
    assert (folder / "b.txt").read_text() == "through the bucket\n"
    with foreground(client, tmp_path / "job", seen / "go") as followed:
        followed.shows_more()
        leader = wait_for(lambda: next((s for s in servers if s.leads()), None), "one leads")
        killed(leader)
        wait_for(lambda: any(s.leads() for s in servers if s is not leader), "another leads")
        followed.shows_more()
        (seen / "go").touch()
        followed.succeeds()
