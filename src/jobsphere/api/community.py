"""CommunityService: communities and who has which role on them."""

from __future__ import annotations

from yandex.cloud.access import access_pb2
from yandex.cloud.datasphere.v2 import community_pb2
from yandex.cloud.datasphere.v2 import community_service_pb2 as pb
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.api.bindings import Bindings
from jobsphere.api.operation_codec import encode_done
from jobsphere.api.registrar import Implementation
from jobsphere.api.team_codec import community_edit, decode_labels, encode_community
from jobsphere.domain.access import Scope
from jobsphere.domain.resource import Subject
from jobsphere.service.communities import Communities
from jobsphere.service.grants import Grants

_NO_RESTRICTIONS = "there are no restrictions here; what members may do, their roles say"
_NO_SHARING = "resources are not shared with a community here; make them in each project"


class CommunityService:
    """The published service of communities."""

    def __init__(self, communities: Communities, grants: Grants) -> None:
        self._communities = communities
        self._bindings = Bindings(grants, Scope.COMMUNITY)

    def implementation(self) -> Implementation:
        """All of its methods, but for those that only make sense in the vendor's cloud."""
        return Implementation(
            pb.DESCRIPTOR.services_by_name["CommunityService"],
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
                "AddResource": _NO_SHARING,
                "RemoveResource": _NO_SHARING,
                "GetRestrictionsMeta": _NO_RESTRICTIONS,
                "GetRestrictions": _NO_RESTRICTIONS,
                "SetRestrictions": _NO_RESTRICTIONS,
            },
        )

    async def create(self, who: Subject, request: pb.CreateCommunityRequest) -> Operation:
        """Make a community; the operation is done. There is no billing account to charge."""
        community, operation = await self._communities.create(
            who,
            request.name,
            request.description,
            decode_labels(request.labels),
            request.organization_id,
            request.zone_id,
        )
        return encode_done(operation, community)

    async def get(self, who: Subject, request: pb.GetCommunityRequest) -> community_pb2.Community:
        """A community."""
        return encode_community(await self._communities.get(who, request.community_id))

    async def list(self, who: Subject, request: pb.ListCommunitiesRequest) -> pb.ListCommunitiesResponse:
        """A page of communities."""
        page, next_token = await self._communities.page(
            who,
            request.page_size,
            request.page_token,
            request.name_or_description_pattern,
            request.owned_by_id,
            request.organization_id,
        )
        return pb.ListCommunitiesResponse(communities=[encode_community(c) for c in page], next_page_token=next_token)

    async def update(self, who: Subject, request: pb.UpdateCommunityRequest) -> Operation:
        """Change a community; the operation is done."""
        community, operation = await self._communities.update(who, request.community_id, community_edit(request))
        return encode_done(operation, community)

    async def delete(self, who: Subject, request: pb.DeleteCommunityRequest) -> Operation:
        """Delete a community; the operation is done."""
        return encode_done(await self._communities.delete(who, request.community_id))

    async def set_access_bindings(self, who: Subject, request: access_pb2.SetAccessBindingsRequest) -> Operation:
        """Let these be all roles on a community; the operation is done."""
        return encode_done(await self._bindings.set(who, request))

    async def update_access_bindings(self, who: Subject, request: access_pb2.UpdateAccessBindingsRequest) -> Operation:
        """Give and take roles on a community; the operation is done."""
        return encode_done(await self._bindings.update(who, request))
