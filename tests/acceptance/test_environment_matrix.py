"""Every kind of environment with every fate that it can have, through a whole server."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from tests.grpc_client import Api
from tests.integration.bench import Index, serving
from tests.integration.channels import Channel
from tests.integration.containers import PYTHON, TINY, Podman, podman_in
from tests.live import LiveServer, live_server, processes_of, wait_for

KINDS = ("plain", "uv", "conda", "image", "uv-in-image")
BUILT = KINDS[1:]
HUNGRY = "dd if=/dev/zero of=/dev/null bs=400M count=1; exit $?"
QUIET = {"no_proxy": "127.0.0.1", "UV_PYTHON_DOWNLOADS": "never"}
VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
SIZE = 'instance_types = {"c1.4" = {cpus = 1, memory_gb = 0.25}}\n'


@dataclass
class Place:
    """A server, and what the environments of its jobs are made from."""

    server: LiveServer
    api: Api
    project: str
    index: Index
    conda_channel: str
    silent: int
    """A port that takes connections and never says a word."""

    def pip(self, requirement: str, port: int) -> pb.PythonEnv:
        options = pb.PipOptions(index_url=f"http://127.0.0.1:{port}/simple/")
        return pb.PythonEnv(requirements=[requirement], pip_options=options, python_version=VERSION)

    def environment(self, kind: str, fate: str) -> pb.Environment:
        """An environment of this kind that can be had (``ok``), that cannot (``refused``), or that takes for ever."""
        name = "absent" if fate == "refused" else "alpha"
        port = self.silent if fate == "endless" else self.index.port
        if kind == "uv":
            return pb.Environment(python_env=self.pip(name, port))
        if kind == "conda":
            channel = f"http://127.0.0.1:{self.silent}/c" if fate == "endless" else self.conda_channel
            return pb.Environment(
                python_env=pb.PythonEnv(conda_yaml=f"channels: ['{channel}']\ndependencies: [{name}]")
            )
        if kind == "image":
            tags = {"ok": TINY, "refused": "localhost/absent:1", "endless": f"127.0.0.1:{self.silent}/slow:1"}
            return pb.Environment(docker_image_spec=pb.DockerImageSpec(image_url=tags[fate]))
        if kind == "uv-in-image":
            return pb.Environment(
                docker_image_spec=pb.DockerImageSpec(image_url=PYTHON), python_env=self.pip(name, port)
            )
        return pb.Environment()

    def start(self, kind: str, fate: str, cmd: str = "echo ran") -> str:
        job_id = self.api.create(self.project, cmd, env=self.environment(kind, fate))
        self.api.execute(job_id)
        return job_id

    def building(self, job_id: str) -> str:
        """The job, once what makes its environment is at work."""

        def at_work() -> bool:
            words = ("uv", "conda_install", "podman")
            return any(word in command for command in processes_of(job_id).values() for word in words)

        wait_for(at_work, "the build is under way")
        return job_id


@contextmanager
def place_in(folder: Path, settings: str = "") -> Iterator[Place]:
    (folder / "wheels").mkdir()
    (data := folder / "data").mkdir()
    (channel := Channel(folder / "channel")).add("alpha")
    channel.publish()
    with socket.create_server(("127.0.0.1", 0)) as silent, serving(Index(folder / "wheels")) as index:
        index.gate.set()
        index.add("alpha", "1.0")
        with podman_in(folder / "podman") as podman:
            podman.make_glibc(PYTHON, python="usr/local")
            (data / "jobsphere.toml").write_text(settings + engine_settings(podman) + SIZE)
            with live_server(data, environ=QUIET) as server:
                api = Api.of(server)
                port = silent.getsockname()[1]
                yield Place(server, api, server.client().project, index, channel.url, port)
                api.close()
            assert podman.containers() == []


def engine_settings(podman: Podman) -> str:
    return (
        f"container_engine = 'podman'\ncontainer_engine_args = {json.dumps(podman.args)}\n"
        f"container_run_args = {json.dumps([*podman.engine.run_args, '--network=host'])}\n"
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place_in(tmp_path_factory.mktemp("matrix")) as opened:
        yield opened


@pytest.mark.parametrize("kind", KINDS)
def test_ok(place: Place, kind: str) -> None:
    job_id = place.start(kind, "ok")
    job = place.api.wait(job_id)

    assert job.status == pb.SUCCESS, job.status_details
    assert place.api.stdout(job_id) == b"ran\n"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("uv", "the requirements cannot be installed"),
        ("conda", "No candidates were found for absent"),
        ("image", "The image localhost/absent:1 cannot be pulled"),
        ("uv-in-image", "the requirements cannot be installed"),
    ],
)
def test_what_cannot_be_had_is_named(place: Place, kind: str, words: str) -> None:
    job_id = place.start(kind, "refused")
    job = place.api.wait(job_id)

    assert job.status == pb.ERROR
    assert words in job.status_details
    assert place.api.stdout(job_id) == b""


def test_a_plain_job_has_nothing_to_be_built_and_fails_by_its_own_command(place: Place) -> None:
    job = place.api.wait(place.start("plain", "ok", "no-such-program"))

    assert job.status == pb.ERROR
    assert "no-such-program" in job.status_details


@pytest.mark.parametrize("kind", BUILT)
def test_a_cancel_ends_a_build(place: Place, kind: str) -> None:
    job_id = place.building(place.start(kind, "endless"))
    place.api.cancel(job_id)

    assert place.api.wait(job_id).status == pb.CANCELLED
    wait_for(lambda: not processes_of(job_id), "no process of the build is left")


@pytest.mark.parametrize("kind", BUILT)
def test_a_supervisor_that_is_killed_while_it_builds_leaves_nothing(place: Place, kind: str) -> None:
    job_id = place.building(place.start(kind, "endless"))
    claim = next((place.server.data_dir / "attempts").glob(f"{job_id}*/claim"))
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    job = place.api.wait(job_id)

    assert job.status == pb.ERROR
    assert "The job was lost" in job.status_details
    wait_for(lambda: not processes_of(job_id), "no process of the build is left")


@pytest.mark.parametrize("kind", KINDS)
def test_out_of_memory(place: Place, kind: str) -> None:
    job = place.api.wait(place.start(kind, "ok", HUNGRY))

    assert job.status == pb.ERROR
    assert "ut of memory" in job.status_details
    assert "0.25 GiB" in job.status_details


def restarted(place: Place) -> None:
    ports = place.server.ports
    place.server.stop(signal.SIGKILL)
    place.server.start(ports)


@pytest.mark.parametrize("kind", BUILT)
def test_a_server_that_is_killed_while_a_job_builds_finds_it_again(place: Place, kind: str) -> None:
    job_id = place.building(place.start(kind, "endless"))
    restarted(place)
    assert place.api.get(job_id).status == pb.PREPARING
    place.api.cancel(job_id)

    assert place.api.wait(job_id).status == pb.CANCELLED


def test_a_pull_that_takes_too_long_ends_with_the_setting_that_allows_more(tmp_path: Path) -> None:
    with place_in(tmp_path, "image_pull_timeout_s = 1\n") as place:
        job = place.api.wait(place.start("image", "endless"))

    assert job.status == pb.ERROR
    assert "it took longer than 1 s. Raise image_pull_timeout_s on the server" in job.status_details
