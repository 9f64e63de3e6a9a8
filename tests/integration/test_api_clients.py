"""The vendor's unchanged CLI and SDK against the API, through the CONNECT proxy and without it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yandexcloud
from api_fakes import JOB, PROJECT, TOKEN, Fakes
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2_grpc import ProjectJobServiceStub

from jobsphere.api.codec import encode_job
from jobsphere.api.proxy import Proxy, offline_proxy_url
from jobsphere.api.server import GrpcServer
from jobsphere.api.tls import TlsFiles, ensure_certificates
from jobsphere.domain import errors
from jobsphere.domain.ports import JobView

HANG_S = 120
CLI = Path(sys.executable).parent / "datasphere"


@dataclass(frozen=True)
class Live:
    """A server and a proxy that leads to it."""

    fakes: Fakes
    port: int
    proxy_port: int
    tls: TlsFiles

    def environment(self, home: Path) -> dict[str, str]:
        """What a user exports to work offline."""
        ca = str(self.tls.ca_pem)
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "grpc_proxy": f"http://127.0.0.1:{self.proxy_port}",
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": ca,
            "YC_IAM_TOKEN": TOKEN,
            "no_proxy": "127.0.0.1",
            "no_grpc_proxy": "",
            "HTTPS_PROXY": offline_proxy_url("127.0.0.1", self.proxy_port),
            "REQUESTS_CA_BUNDLE": ca,
        }


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    tls = ensure_certificates(tmp_path / "tls")
    fakes = Fakes()
    server = GrpcServer(fakes.services())
    port = await server.start("127.0.0.1", 0, tls)
    proxy = Proxy(("127.0.0.1", port), tls)
    yield Live(fakes, port, await proxy.start("127.0.0.1", 0), tls)
    await proxy.stop()
    await server.stop(0)


async def cli(live: Live, home: Path, *arguments: str, **changed: str) -> tuple[int, str, str]:
    """Run a command of the CLI: exit code, stdout, stderr."""
    environment = live.environment(home) | changed
    process = await asyncio.create_subprocess_exec(
        CLI, *arguments, env=environment, cwd=home, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(HANG_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, out.decode(), err.decode()


async def test_project_get(live: Live, tmp_path: Path) -> None:
    command = ("project", "get", "--id", PROJECT.id, "--format", "json", "-o", "project.json")
    code, out, err = await cli(live, tmp_path, *command)
    assert code == 0, err
    assert json.loads((tmp_path / "project.json").read_text()) == {
        "id": PROJECT.id,
        "name": PROJECT.name,
        "community_id": PROJECT.community_id,
    }
    assert "No released packages found" in out
    assert err == ""


async def test_project_list(live: Live, tmp_path: Path) -> None:
    code, out, err = await cli(live, tmp_path, "project", "list", "-c", PROJECT.community_id)
    assert code == 0, err
    assert PROJECT.id in out
    assert live.fakes.recorder.calls == [("projects", "alice", PROJECT.community_id, 50, "", "", "")]


async def test_job_list_over_several_pages(live: Live, tmp_path: Path) -> None:
    jobs = [replace(JOB, id=f"job{i:017}") for i in range(120)]
    live.fakes.jobs.views = [JobView(PROJECT.id, encode_job(j)) for j in jobs]
    code, out, err = await cli(live, tmp_path, "project", "job", "list", "-p", PROJECT.id)
    assert code == 0, err
    assert all(j.id in out for j in jobs)
    assert "EXECUTING" in out
    assert [c[4:] for c in live.fakes.recorder.calls] == [(50, ""), (50, "50"), (50, "100")]


async def test_a_failure_shows_its_status_sentence_and_request_id(live: Live, tmp_path: Path) -> None:
    live.fakes.recorder.error = errors.NotFoundError("there is no such job")
    code, out, err = await cli(live, tmp_path, "project", "job", "get", "--id", "x")
    assert code == 1
    assert "there is no such job" in err
    assert "x-request-id: " in out


async def test_without_the_offline_mark_the_index_is_refused(live: Live, tmp_path: Path) -> None:
    plain = f"http://127.0.0.1:{live.proxy_port}"
    code, out, err = await cli(live, tmp_path, "project", "get", "--id", PROJECT.id, HTTPS_PROXY=plain)
    assert PROJECT.id in out
    assert code == 1
    assert "403" in err


def ask_with_sdk(live: Live, **login: str) -> str:
    sdk = yandexcloud.SDK(endpoint=f"127.0.0.1:{live.port}", root_certificates=live.tls.ca_pem.read_bytes(), **login)
    client: Any = sdk.client(ProjectJobServiceStub)
    return client.Get(pb.GetProjectJobRequest(job_id=JOB.id)).id


async def test_the_sdk_finds_its_way_from_one_address(live: Live) -> None:
    assert await asyncio.to_thread(ask_with_sdk, live, iam_token=TOKEN) == JOB.id
