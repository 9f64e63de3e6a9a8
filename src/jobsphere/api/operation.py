"""OperationService: the state of what a call set off."""

from __future__ import annotations

from yandex.cloud.operation import operation_service_pb2 as pb
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.api.operation_codec import encode_status
from jobsphere.api.registrar import Implementation
from jobsphere.domain.resource import Subject
from jobsphere.service.operations import Operations


class OperationService:
    """The published service of operations."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def implementation(self) -> Implementation:
        """All of its methods."""
        return Implementation(
            pb.DESCRIPTOR.services_by_name["OperationService"],
            {"Get": self.get, "Cancel": self.cancel},
            quick=frozenset({"Get"}),
        )

    async def get(self, who: Subject, request: pb.GetOperationRequest) -> Operation:
        """An operation as it is now."""
        return encode_status(await self._operations.get(who, request.operation_id))

    async def cancel(self, who: Subject, request: pb.CancelOperationRequest) -> Operation:
        """Cancel what an operation stands for."""
        return encode_status(await self._operations.cancel(who, request.operation_id))
