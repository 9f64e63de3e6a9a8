"""S3Service and the two services of Docker images: activation. What they are about is made by the operator."""

from __future__ import annotations

from yandex.cloud.datasphere.v2 import docker_image_service_pb2, docker_image_v2_service_pb2, s3_service_pb2
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.api.operation_codec import encode_done
from jobsphere.api.registrar import Implementation
from jobsphere.domain.resource import Subject
from jobsphere.service.connectors import Connectors
from jobsphere.service.images import ImageResources


class S3Service:
    """The published service of S3 connectors."""

    def __init__(self, connectors: Connectors) -> None:
        self._connectors = connectors

    def implementation(self) -> Implementation:
        """All of its methods."""
        return Implementation(
            s3_service_pb2.DESCRIPTOR.services_by_name["S3Service"],
            {"Activate": self.activate, "Deactivate": self.deactivate},
        )

    async def activate(self, who: Subject, request: s3_service_pb2.ActivateS3Request) -> Operation:
        """Let jobs use a connector; the operation is done."""
        return encode_done(await self._connectors.activate(who, request.project_id, request.s3_id))

    async def deactivate(self, who: Subject, request: s3_service_pb2.DeactivateS3Request) -> Operation:
        """Let no job use a connector; the operation is done."""
        return encode_done(await self._connectors.deactivate(who, request.project_id, request.s3_id))


class DockerImageService:
    """The published service of Docker images."""

    def __init__(self, images: ImageResources) -> None:
        self._images = images

    def implementation(self) -> Implementation:
        """All of its methods."""
        return Implementation(
            docker_image_service_pb2.DESCRIPTOR.services_by_name["DockerImageService"], {"Activate": self.activate}
        )

    async def activate(self, who: Subject, request: docker_image_service_pb2.ActivateDockerImageRequest) -> Operation:
        """Make sure that jobs can use an image; the operation is done."""
        return encode_done(await self._images.activate(who, request.project_id, request.docker_id))


class DockerImageV2Service:
    """The published service of Docker images of the second kind: here there is one kind."""

    def __init__(self, images: ImageResources) -> None:
        self._images = images

    def implementation(self) -> Implementation:
        """All of its methods."""
        return Implementation(
            docker_image_v2_service_pb2.DESCRIPTOR.services_by_name["DockerImageV2Service"],
            {"SetActive": self.set_active},
        )

    async def set_active(self, who: Subject, request: docker_image_v2_service_pb2.SetActiveRequest) -> Operation:
        """Make sure that jobs can use an image; the operation is done."""
        return encode_done(await self._images.activate(who, request.project_id, request.image_id))
