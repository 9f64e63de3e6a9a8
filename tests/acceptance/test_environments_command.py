"""``jobsphere environments`` and the server's own housekeeping."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from tests.grpc_client import Api
from tests.live import live_server, wait_for

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


def command(data: Path, *args: str) -> str:
    argv = [Path(sys.executable).parent / "jobsphere", "environments", *args, "--data-dir", data]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60).stdout


def test_environments_are_listed_and_pruned_and_one_in_use_stays(tmp_path: Path) -> None:
    data = tmp_path / "data"
    env = pb.Environment(python_env=pb.PythonEnv(python_version=OWN))
    with live_server(data) as server:
        api, project = Api.of(server), server.client().project
        job = api.create(project, "echo ready; sleep 600", env=env)
        api.execute(job)
        api.wait(job, pb.EXECUTING)
        (listed,) = json.loads(command(data, "list", "--json"))
        assert (listed["in_use"], listed["complete"], listed["what"]) == (True, True, f"Python {OWN}, 0 requirements")
        assert json.loads(command(data, "prune", "--max-gb", "0", "--json")) == []
        api.cancel(job)
        api.wait(job)
        wait_for(lambda: not json.loads(command(data, "list", "--json"))[0]["in_use"], "the environment is free")
        assert listed["fingerprint"][:12] in command(data, "list")
        assert listed["fingerprint"][:12] in command(data, "prune", "--max-gb", "0")
        assert json.loads(command(data, "list", "--json")) == []
        api.close()


def test_the_server_keeps_to_its_budget(tmp_path: Path) -> None:
    data = tmp_path / "data"
    env = pb.Environment(python_env=pb.PythonEnv(python_version=OWN))
    with live_server(data) as server:
        api, project = Api.of(server), server.client().project
        job = api.create(project, "true", env=env)
        api.execute(job)
        assert api.wait(job).status == pb.SUCCESS
        api.close()
    assert len(json.loads(command(data, "list", "--json"))) == 1
    with live_server(data, environ={"JOBSPHERE_ENVIRONMENT_CACHE_GB": "0"}):
        wait_for(lambda: json.loads(command(data, "list", "--json")) == [], "the environment is removed")
