"""ProjectService: projects and who has which role on them."""

from __future__ import annotations

from yandex.cloud.access import access_pb2
from yandex.cloud.datasphere.v2 import project_pb2
from yandex.cloud.datasphere.v2 import project_service_pb2 as pb
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.api.bindings import Bindings
from jobsphere.api.operation_codec import encode_done
from jobsphere.api.registrar import Implementation
from jobsphere.api.team_codec import decode_kept, decode_labels, encode_project, project_edit
from jobsphere.domain.access import Scope
from jobsphere.domain.resource import Subject
from jobsphere.service.grants import Grants
from jobsphere.service.projects import Projects

_NO_UNITS = "there are no units here, and nothing is charged"
_NO_IDE = "this server runs jobs and has no IDE; open the project's files on your own machine"
_NO_RESTRICTIONS = "there are no restrictions here; what members may do, their roles say"
_NO_SHARING = "resources are not shared between projects here; make them in each project"


class ProjectService:
    """The published service of projects."""

    def __init__(self, projects: Projects, grants: Grants) -> None:
        self._projects = projects
        self._bindings = Bindings(grants, Scope.PROJECT)

    def implementation(self) -> Implementation:
        """All of its methods, but for those that only make sense in the vendor's cloud."""
        return Implementation(
            pb.DESCRIPTOR.services_by_name["ProjectService"],
            {
                "Create": self.create,
                "Get": self.get,
                "List": self.list,
                "Update": self.update,
                "Delete": self.delete,
                "ListAccessBindings": self._bindings.list,
                "SetAccessBindings": self.set_access_bindings,
                "UpdateAccessBindings": self.update_access_bindings,
            },
            without={
                "Open": _NO_IDE,
                "Execute": "notebooks are not executed here; submit a job instead",
                "GetUnitBalance": _NO_UNITS,
                "SetUnitBalance": _NO_UNITS,
                "ResizeDisk": "a project's disk has no size of its own here",
                "AddResource": _NO_SHARING,
                "RemoveResource": _NO_SHARING,
                "GetRestrictionsMeta": _NO_RESTRICTIONS,
                "GetRestrictions": _NO_RESTRICTIONS,
                "SetRestrictions": _NO_RESTRICTIONS,
            },
        )

    async def create(self, who: Subject, request: pb.CreateProjectRequest) -> Operation:
        """Make a project; the operation is done."""
        project, operation = await self._projects.create(
            who,
            request.name,
            request.description,
            request.community_id,
            decode_labels(request.labels),
            decode_kept(request, "settings"),
            decode_kept(request, "limits"),
        )
        return encode_done(operation, project)

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

    async def update(self, who: Subject, request: pb.UpdateProjectRequest) -> Operation:
        """Change a project; the operation is done."""
        project, operation = await self._projects.update(who, request.project_id, project_edit(request))
        return encode_done(operation, project)

    async def delete(self, who: Subject, request: pb.DeleteProjectRequest) -> Operation:
        """Delete a project; the operation is done."""
        return encode_done(await self._projects.delete(who, request.project_id))

    async def set_access_bindings(self, who: Subject, request: access_pb2.SetAccessBindingsRequest) -> Operation:
        """Let these be all roles on a project; the operation is done."""
        return encode_done(await self._bindings.set(who, request))

    async def update_access_bindings(self, who: Subject, request: access_pb2.UpdateAccessBindingsRequest) -> Operation:
        """Give and take roles on a project; the operation is done."""
        return encode_done(await self._bindings.update(who, request))
