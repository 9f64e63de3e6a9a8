"""The gRPC server: all services on one TLS port, with health and reflection."""

from __future__ import annotations

from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health  # pyright: ignore[reportAttributeAccessIssue]
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection

from jobsphere.api.audit import Auditor, Origins
from jobsphere.api.community import CommunityService
from jobsphere.api.dataset import DatasetService
from jobsphere.api.endpoint import ApiEndpointService
from jobsphere.api.iam import IamTokenService
from jobsphere.api.jobs import ProjectJobService
from jobsphere.api.operation import OperationService
from jobsphere.api.project import ProjectService
from jobsphere.api.registrar import Implementation, Registrar
from jobsphere.api.requests import MAX_RECEIVE_BYTES
from jobsphere.api.resources import DockerImageService, DockerImageV2Service, S3Service
from jobsphere.api.tls import TlsFiles, key_and_chain
from jobsphere.domain.errors import UnavailableError
from jobsphere.domain.meter import SILENT, Meter
from jobsphere.domain.tracing import UNTRACED, Tracer
from jobsphere.service.audit import Audit
from jobsphere.service.communities import Communities
from jobsphere.service.connectors import Connectors
from jobsphere.service.datasets import Datasets
from jobsphere.service.grants import Grants
from jobsphere.service.identity import Identity
from jobsphere.service.images import ImageResources
from jobsphere.service.jobs import Jobs
from jobsphere.service.logs import Logs
from jobsphere.service.operations import Operations
from jobsphere.service.projects import Projects

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    ("grpc.max_concurrent_streams", 1024),
    # Two servers on one port would share its calls by chance.
    ("grpc.so_reuseport", 0),
    # Clients keep long log streams alive by pings: none of them is punished for it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1000),
    ("grpc.http2.max_ping_strikes", 0),
    # Who has no call under way for so long is asked to come back with the next one.
    ("grpc.max_connection_idle_ms", 600_000),
)


@dataclass(frozen=True, slots=True)
class Services:
    """The use cases that the API offers."""

    jobs: Jobs
    operations: Operations
    logs: Logs
    projects: Projects
    communities: Communities
    grants: Grants
    identity: Identity
    audit: Audit
    datasets: Datasets
    connectors: Connectors
    images: ImageResources


class GrpcServer:
    """Serves the API. Started once, stopped once.

    ``registrar`` has the handlers once it is started.

    Args:
        services: The use cases.
        origins: Where calls that come through the proxy came from.
        meter: Is told of each call.
        tracer: So is this.
        handshake_s: How long a connection may take until it can carry calls; a slower one is cut.
    """

    def __init__(
        self,
        services: Services,
        origins: Origins | None = None,
        meter: Meter = SILENT,
        handshake_s: float = 10.0,
        tracer: Tracer = UNTRACED,
    ) -> None:
        self._handshake_ms = int(handshake_s * 1000)
        self._services = services
        self._origins = origins or Origins()
        self._health = health.HealthServicer()
        self._server: grpc.aio.Server | None = None
        auditor = Auditor(services.audit, self._origins)
        self.registrar = Registrar(services.identity.authenticate, auditor, meter=meter, tracer=tracer)

    async def start(self, host: str, port: int, tls: TlsFiles | None, advertise: str = "") -> int:
        """Listen and serve.

        Args:
            host: The address to listen on.
            port: 0 for any free one.
            tls: The server's certificate; None to serve without TLS.
            advertise: The host by which clients reach the server, if it is not the one that it listens on.

        Returns:
            The port.

        Raises:
            UnavailableError: the port is taken, or the address is not this machine's.
        """
        server = grpc.aio.server(options=(*_OPTIONS, ("grpc.server_handshake_timeout_ms", self._handshake_ms)))
        bound = _listen(server, _address(host, port), tls)
        self._register(server, _address(advertise or host, bound))
        await server.start()
        await self.set_serving(True)
        self._server = server
        return bound

    async def set_serving(self, serving: bool) -> None:
        """Say to those who ask for the server's health, or one service's, whether it can do its work."""
        status = HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING
        for name in ("", *self.registrar.services):
            await self._health.set(name, status)

    async def stop(self, grace: float) -> None:
        """Take no new calls, let those under way end for ``grace`` seconds, then cut them off."""
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    def _register(self, server: grpc.aio.Server, address: str) -> None:
        registrar = self.registrar
        for implementation in implementations(self._services, address):
            registrar.add(implementation)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*registrar.services, HEALTH, reflection.SERVICE_NAME), server)
        # The last one: it answers for every path.
        server.add_generic_rpc_handlers((registrar,))


def implementations(services: Services, address: str) -> list[Implementation]:
    """All published services that this server has. ``address``: ``host:port`` as clients reach it."""
    servicers = (
        ProjectJobService(services.jobs, services.logs),
        OperationService(services.operations),
        ProjectService(services.projects, services.grants),
        CommunityService(services.communities, services.grants),
        DatasetService(services.datasets),
        S3Service(services.connectors),
        DockerImageService(services.images),
        DockerImageV2Service(services.images),
        IamTokenService(services.identity),
        ApiEndpointService(address),
    )
    return [servicer.implementation() for servicer in servicers]


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(server: grpc.aio.Server, address: str, tls: TlsFiles | None) -> int:
    try:
        if tls is None:
            return server.add_insecure_port(address)
        credentials = grpc.ssl_server_credentials([key_and_chain(tls.server_pem.read_bytes())])
        return server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise UnavailableError(
            f"cannot listen on {address}: the port is taken, or the address is not this machine's", cause=str(error)
        ) from error
