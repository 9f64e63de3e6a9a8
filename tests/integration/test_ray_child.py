"""The processes about Ray: the server's keeper and what it says, and the one that carries an agent on a node."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.live import HANG_S, processes_of, wait_for

from jobsphere.config import Settings
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.wiring import ray

FAILS = """
import json, pathlib, sys
with pathlib.Path(sys.argv[1]).open("a") as starts:
    starts.write("x")
print(json.dumps({"level": "error", "event": "not kept", "reason": "none answers"}))
"""
KEEPS = """
import json, sys
print(json.dumps({"level": "info", "event": "kept", "mark": sys.argv[1]}), flush=True)
sys.stdin.read()
"""
CARRIER = """
import sys, time
from jobsphere.ray_nodes.actor import AgentActor
AgentActor(sys.argv[1:], {"JOBSPHERE_DRAIN_S": "0"})
while True:
    time.sleep(1)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", shared_dir=tmp_path / "shared", ray_address="127.0.0.1:1")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path) -> Path:
    """Instead of the keeper a program that is given this file."""
    settings.data_dir.mkdir()
    monkeypatch.setattr(ray, "_PAUSE_S", 0.01)
    monkeypatch.setattr(ray, "_LONGEST_PAUSE_S", 0.01)
    return tmp_path / "mark"


async def test_a_keeper_that_fails_again_and_again_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, runs: Path
) -> None:
    monkeypatch.setattr(ray, "_command", lambda _: [sys.executable, "-c", FAILS, str(runs)])
    with capture_logs() as logs:
        async with ray.ray_nodes_kept(settings):
            await asyncio.to_thread(
                wait_for, lambda: runs.exists() and len(runs.read_text()) > 2, "it is started again"
            )
    assert logs == [{"log_level": "error", "event": "not kept", "reason": "none answers"}]


async def test_the_keeper_ends_with_its_server(monkeypatch: pytest.MonkeyPatch, settings: Settings, runs: Path) -> None:
    monkeypatch.setattr(ray, "_command", lambda _: [sys.executable, "-c", KEEPS, str(runs)])
    with capture_logs() as logs:
        async with ray.ray_nodes_kept(settings):
            await asyncio.to_thread(wait_for, lambda: logs, "it says that it keeps them")
            assert processes_of(str(runs))
    assert not processes_of(str(runs))


def test_without_a_shared_folder_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="shared_dir"):
        ray.check_ray(Settings(data_dir=tmp_path, ray_address="auto"))


def test_without_ray_it_says_so(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(ray, "find_spec", lambda _: None)
    with pytest.raises(FailedPreconditionError, match=r"jobsphere\[ray\]"):
        ray.check_ray(settings)
    ray.check_ray(settings.model_copy(update={"ray_address": ""}))


def test_agents_are_set_as_their_server_and_not_as_its_database(tmp_path: Path) -> None:
    import tomllib

    settings = Settings(
        data_dir=tmp_path, database_url="postgresql://u@h/d", python_search_path=("/opt/ü",), image_cache_gb=1.5,
        blobs_key_file=Path("/keys.toml"),
    )  # fmt: skip
    assert tomllib.loads(ray.agent_settings(settings)) == {
        "python_search_path": ["/opt/ü"], "image_cache_gb": 1.5, "blobs_key_file": "/keys.toml",
    }  # fmt: skip


def test_an_agent_is_started_again_and_ends_with_whom_it_was_started_by(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    ports = [word for name in ("grpc", "proxy", "http") for word in (f"--{name}-port", "0")]
    command = [sys.executable, "-c", CARRIER, "up", "--data-dir", data, *ports]
    environ = {**os.environ, "RAY_JOB_ID": "1", "CUDA_VISIBLE_DEVICES": "0,2"}
    carrier = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def agents() -> set[int]:
        return {pid for pid, words in processes_of(data).items() if "cli.main" in words}

    try:
        first = wait_for(agents, "it runs")
        variables = dict(v.split("=", 1) for v in Path(f"/proc/{min(first)}/environ").read_text().split("\0") if v)
        assert variables["JOBSPHERE_NODE_GPUS"] == "[0, 2]"
        assert not {"RAY_JOB_ID", "CUDA_VISIBLE_DEVICES"} & set(variables)
        os.kill(min(first), signal.SIGKILL)
        wait_for(lambda: agents() - first, "it runs again")
        carrier.kill()
        carrier.wait(HANG_S)
        wait_for(lambda: not agents(), "it has ended")
    finally:
        carrier.kill()
        carrier.wait(HANG_S)
        for pid in processes_of(data):
            os.kill(pid, signal.SIGKILL)
