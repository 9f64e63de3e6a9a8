"""ApiEndpointService: where the vendor's SDK learns which host serves what. Here one address serves all."""

from __future__ import annotations

from yandex.cloud.endpoint import api_endpoint_service_pb2 as pb
from yandex.cloud.endpoint.api_endpoint_pb2 import ApiEndpoint

from jobsphere.api.registrar import Implementation
from jobsphere.domain.errors import NotFoundError
from jobsphere.domain.resource import Subject

SERVICE_IDS = ("datasphere", "iam", "operation")


class ApiEndpointService:
    """The published service of endpoints. ``address``: ``host:port`` as clients reach this server."""

    def __init__(self, address: str) -> None:
        self._endpoints = {i: ApiEndpoint(id=i, address=address) for i in SERVICE_IDS}

    def implementation(self) -> Implementation:
        """All of its methods. Clients call it before they have a token."""
        return Implementation(
            pb.DESCRIPTOR.services_by_name["ApiEndpointService"], {"Get": self.get, "List": self.list}, public=True
        )

    async def get(self, who: Subject, request: pb.GetApiEndpointRequest) -> ApiEndpoint:  # noqa: ARG002
        """The address of one service."""
        endpoint = self._endpoints.get(request.api_endpoint_id)
        if endpoint is None:
            raise NotFoundError(
                f"there is no endpoint {request.api_endpoint_id!r}; there are: {', '.join(SERVICE_IDS)}"
            )
        return endpoint

    async def list(self, who: Subject, request: pb.ListApiEndpointsRequest) -> pb.ListApiEndpointsResponse:  # noqa: ARG002
        """The addresses of all services, on one page."""
        return pb.ListApiEndpointsResponse(endpoints=self._endpoints.values())
