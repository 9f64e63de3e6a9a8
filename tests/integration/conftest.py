"""The API over a real TLS port, with use cases that answer from memory: for the ``test_api_*`` modules beside this."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from api_fakes import Fakes
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2_grpc import ProjectJobServiceStub

from jobsphere.api.server import GrpcServer
from jobsphere.api.tls import TlsFiles, ensure_certificates


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return ensure_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
async def server(fakes: Fakes) -> AsyncIterator[GrpcServer]:
    server = GrpcServer(fakes.services())
    yield server
    await server.stop(0)


@pytest.fixture
async def port(server: GrpcServer, tls: TlsFiles) -> int:
    return await server.start("127.0.0.1", 0, tls)


@pytest.fixture
async def channel(port: int, tls: TlsFiles) -> AsyncIterator[grpc.aio.Channel]:
    credentials = grpc.ssl_channel_credentials(tls.ca_pem.read_bytes())
    options = (("grpc.enable_http_proxy", 0),)
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        yield channel


@pytest.fixture
def jobs(channel: grpc.aio.Channel) -> Any:
    return ProjectJobServiceStub(channel)
