"""ProjectService: reading projects."""

from __future__ import annotations

from yandex.cloud.datasphere.v2 import project_pb2
from yandex.cloud.datasphere.v2 import project_service_pb2 as pb

from jobsphere.api.codec import encode_project
from jobsphere.api.registrar import Implementation
from jobsphere.domain.resource import Subject
from jobsphere.service.projects import Projects


class ProjectService:
    """The part of the published service of projects that jobs need."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    def implementation(self) -> Implementation:
        """Get and List; projects are made and changed by the operator."""
        return Implementation(pb.DESCRIPTOR.services_by_name["ProjectService"], {"Get": self.get, "List": self.list})

    async def get(self, who: Subject, request: pb.GetProjectRequest) -> project_pb2.Project:
        """A project."""
        return encode_project(await self._projects.get(who, request.project_id))

    async def list(self, who: Subject, request: pb.ListProjectsRequest) -> pb.ListProjectsResponse:
        """A page of a community's projects."""
        projects, next_token = await self._projects.page(
            who,
            request.community_id,
            request.page_size,
            request.page_token,
            request.project_name_pattern,
            request.owned_by_id,
        )
        return pb.ListProjectsResponse(projects=[encode_project(p) for p in projects], next_page_token=next_token)
