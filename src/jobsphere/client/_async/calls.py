"""Calls of one server, with the errors that they end in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from yandex.cloud.datasphere.v2.community_service_pb2_grpc import CommunityServiceStub
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2_grpc import ProjectJobServiceStub
from yandex.cloud.datasphere.v2.project_service_pb2_grpc import ProjectServiceStub
from yandex.cloud.operation.operation_service_pb2_grpc import OperationServiceStub

from jobsphere.client._async.transport import Http, open_channel
from jobsphere.client.connection import Connection
from jobsphere.client.failure import failure_of

CALL_TIMEOUT_S = 60.0


class AsyncCalls:
    """The services that a client needs, and HTTP for files."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._channel = open_channel(connection)
        self.jobs = ProjectJobServiceStub(self._channel)
        self.operations = OperationServiceStub(self._channel)
        self.projects = ProjectServiceStub(self._channel)
        self.communities = CommunityServiceStub(self._channel)
        # The addresses of files are the server's own: no proxy stands between.
        self.http = Http(trust_env=False, timeout=CALL_TIMEOUT_S)

    async def close(self) -> None:
        """Let go of all connections."""
        await self.http.aclose()
        await self._channel.close()

    async def call(self, method: Any, request: Any) -> Any:
        """One call.

        Raises:
            JobsphereError: the server's answer, or that there is none.
        """
        try:
            return await method(request, metadata=self.connection.metadata, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self.failure(error) from None

    async def stream(self, method: Any, request: Any, timeout_s: float | None = None) -> AsyncIterator[Any]:
        """The messages of a call as they come.

        Raises:
            grpc.RpcError: as it is: the caller knows which he can live with.
        """
        call = method(request, metadata=self.connection.metadata, timeout=timeout_s)
        try:
            async for message in call:
                yield message
        finally:
            call.cancel()

    def failure(self, error: grpc.RpcError) -> Exception:
        """What to raise for a failed call."""
        return failure_of(error, self.connection.endpoint)
