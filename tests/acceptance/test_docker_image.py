"""Jobs in Docker images through a whole server: the vendor's CLI, and a login that only the API takes in clear."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb

from tests.acceptance.jobfiles import execute, run_dir, write_job
from tests.commands import jobsphere
from tests.grpc_client import Api
from tests.integration.bench import Index, serving
from tests.integration.containers import PASSWORD, PYTHON, TINY, USER, Podman, podman_in, registry_in
from tests.live import live_server, wait_for

QUIET = {"no_proxy": "127.0.0.1", "UV_PYTHON_DOWNLOADS": "never"}


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    with podman_in(tmp_path / "podman") as opened:
        yield opened
        assert opened.containers() == []


def configure(data: Path, podman: Podman) -> None:
    data.mkdir()
    (data / "jobsphere.toml").write_text(
        "network = false\ncontainer_engine = 'podman'\n"
        f"container_engine_args = {json.dumps(podman.args)}\n"
        f"container_run_args = {json.dumps(podman.engine.run_args)}\n"
        f'[images]\n"system-python-3-10" = {{image = "{TINY}"}}\n'
    )


def test_the_vendors_cli_runs_a_job_in_an_image(tmp_path: Path, podman: Podman) -> None:
    configure(tmp_path / "data", podman)
    by_url = f"cmd: cat in.txt > out.txt; echo in $OF_IMAGE\nenv:\n  docker:\n    image: {TINY}\n"
    by_id = "cmd: echo by id $OF_IMAGE\nenv:\n  docker: system-python-3-10\n"
    unknown = "cmd: 'true'\nenv:\n  docker: system-python-3-99\n"
    with live_server(tmp_path / "data") as server:
        client = server.client()
        folder = write_job(tmp_path / "a", by_url + "inputs:\n- in.txt\noutputs:\n- out.txt\n", in__txt="hello\n")

        assert "in yes" in execute(client, folder)
        assert (folder / "out.txt").read_text() == "hello\n"
        assert "by id yes" in execute(client, write_job(tmp_path / "b", by_id))
        words = execute(client, write_job(tmp_path / "c", unknown), code=1)
        assert "no image 'system-python-3-99'; there are: system-python-3-10" in words


def test_the_vendors_cli_runs_a_job_with_its_own_packages_in_an_image(tmp_path: Path, podman: Podman) -> None:
    podman.make_glibc(PYTHON, python="usr/local")
    configure(tmp_path / "data", podman)
    (tmp_path / "wheels").mkdir()
    with serving(Index(tmp_path / "wheels")) as index, live_server(tmp_path / "data", environ=QUIET) as server:
        index.gate.set()
        index.add("alpha", "1.0")
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        config = (
            f"cmd: python main.py\nenv:\n  docker:\n    image: {PYTHON}\n  python:\n    type: manual\n"
            f"    version: '{version}'\n    requirements-file: requirements.txt\n    local-paths: [words]\n"
            f"    pip:\n      index-url: {index.url()}\ninputs:\n- main.py\n"
        )
        main = "import sys, alpha, words\nprint('ran', alpha.version, words.said, '%d.%d' % sys.version_info[:2])\n"
        folder = write_job(tmp_path / "a", config, main__py=main, requirements__txt="alpha\n")
        (folder / "words").mkdir()
        (folder / "words" / "__init__.py").write_text("said = 'locally'\n")

        assert f"ran 1.0 locally {version}" in execute(server.client(), folder)
        assert f"ran 1.0 locally {version}" in execute(server.client(), folder)

        assert len([p for p in (tmp_path / "data" / "environments").iterdir() if p.suffix == ".ready"]) == 1
        mend = folder / "requirements.txt"
        mend.write_text("alpha==7\n")
        words = execute(server.client(), folder, code=1)
        assert "alpha==7" in words
        assert "the requirements cannot be installed" in words


def test_a_password_is_nowhere_in_clear(tmp_path: Path, podman: Podman) -> None:
    configure(tmp_path / "data", podman)
    with registry_in(tmp_path / "registry") as registry:
        reference = registry.push(podman, "team/private:1")
        image = pb.DockerImageSpec(image_url=reference, username=USER, password_plain_text=PASSWORD)
        environ = {"CONTAINERS_REGISTRIES_CONF": str(registry.conf)}
        with live_server(tmp_path / "data", environ=environ) as server:
            api, project = Api.of(server), server.client().project
            job_id = api.create(project, "echo ran", env=pb.Environment(docker_image_spec=image))
            api.execute(job_id)
            job = api.wait(job_id)

            assert job.status == pb.SUCCESS, job.status_details
            assert api.stdout(job_id) == b"ran\n"
            told = job.job_parameters.env.docker_image_spec
            assert (told.image_url, told.username, told.password_plain_text) == (reference, USER, "")
            image.password_plain_text = "wrong-and-planted"
            podman("rmi", "--force", reference)
            wrong = api.create(project, "true", env=pb.Environment(docker_image_spec=image))
            operation = api.execute(wrong)
            assert "does not accept the login" in api.wait(wrong).status_details
            error = api.operation(operation.id).error
            assert error.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
            assert error.message.startswith("image: ")
            api.close()
        files = [p for p in (tmp_path / "data").rglob("*") if p.is_file()]
        kept = {p: p.read_bytes() for p in [*files, tmp_path / "data.log"]}
        for secret in (PASSWORD, "wrong-and-planted"):
            assert [p for p, data in kept.items() if secret.encode() in data] == []


def test_a_login_by_a_secret_of_the_project(tmp_path: Path, podman: Podman) -> None:
    configure(tmp_path / "data", podman)
    with registry_in(tmp_path / "registry") as registry:
        reference = registry.push(podman, "team/private:1")
        (tmp_path / "password").write_text(PASSWORD)
        login = f"{{image: {reference}, username: {USER}, password: {{secret-id: REG_PASSWORD}}}}"
        folder = write_job(
            tmp_path / "job", f"cmd: echo length $(echo $REG_PASSWORD | wc -c)\nenv:\n  docker: {login}\n"
        )
        environ = {"CONTAINERS_REGISTRIES_CONF": str(registry.conf)}
        with live_server(tmp_path / "data", environ=environ) as server:
            client = server.client()
            words = execute(client, folder, code=1)
            assert "no secret 'REG_PASSWORD'; set it with `jobsphere secret set REG_PASSWORD --project" in words
            jobsphere(server.data_dir, "secret", "set", "REG_PASSWORD", value=PASSWORD.encode())

            assert f"length {len(PASSWORD) + 1}" in execute(client, folder)
            podman("rmi", "--force", reference)
            options = ("--username", USER, "--password-file", str(tmp_path / "password"))
            image_id = jobsphere(server.data_dir, "image", "add", "mine", reference, *options).strip()
            by_id = write_job(tmp_path / "by-id", f"cmd: echo by id\nenv:\n  docker: {image_id}\n")
            assert "by id" in execute(client, by_id)
            listed = jobsphere(server.data_dir, "image", "list", "--json")
            assert (json.loads(listed)[0]["image"], PASSWORD in listed) == (reference, False)
            jobsphere(server.data_dir, "image", "delete", "mine")
            words = execute(client, by_id, code=1)
            assert f"no image '{image_id}'; there are: system-python-3-10" in words
        files = [p for p in (tmp_path / "data").rglob("*") if p.is_file()]
        kept = {p: p.read_bytes() for p in [*files, tmp_path / "data.log"]}
        assert [p for p, data in kept.items() if PASSWORD.encode() in data] == []


def test_a_container_is_found_again_by_the_next_server(tmp_path: Path, podman: Podman) -> None:
    configure(tmp_path / "data", podman)
    script = "echo x >> starts; until [ -e go ]; do sleep 0.05; done; cat starts"
    with live_server(tmp_path / "data") as server:
        api, project = Api.of(server), server.client().project
        ports = server.ports
        job_id = api.create(project, script, env=pb.Environment(docker_image_resource_id="system-python-3-10"))
        api.execute(job_id)
        work = run_dir(tmp_path / "data", job_id) / "work"
        wait_for(lambda: (work / "starts").exists(), "the program runs")
        (container,) = podman.containers()

        server.stop(signal.SIGKILL)
        server.start(ports)

        assert api.wait(job_id, pb.EXECUTING).status == pb.EXECUTING
        assert podman.containers() == [container] == [f"jobsphere-{job_id}-1"]
        (work / "go").touch()
        assert api.wait(job_id).status == pb.SUCCESS
        assert api.stdout(job_id) == b"x\n"
        wait_for(lambda: podman.containers() == [], "the container is removed")
        api.close()
