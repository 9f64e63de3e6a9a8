"""Projects and communities: domain values to published messages, and updates by field mask."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from google.protobuf.empty_pb2 import Empty
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from yandex.cloud.datasphere.v2 import community_pb2, project_pb2
from yandex.cloud.datasphere.v2 import community_service_pb2 as communities_pb
from yandex.cloud.datasphere.v2 import project_service_pb2 as projects_pb

from jobsphere.api.wire import timestamp
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.resource import Community, Labels, Project

M = TypeVar("M", bound=Message)

PROJECT_FIELDS = ("name", "description", "labels", "settings", "limits")
COMMUNITY_FIELDS = ("name", "description", "labels")

DESCRIPTIONS = {
    OperationKind.CREATE_PROJECT: "Create project",
    OperationKind.UPDATE_PROJECT: "Update project",
    OperationKind.DELETE_PROJECT: "Delete project",
    OperationKind.SET_PROJECT_ACCESS: "Set access bindings of project",
    OperationKind.UPDATE_PROJECT_ACCESS: "Update access bindings of project",
    OperationKind.CREATE_COMMUNITY: "Create community",
    OperationKind.UPDATE_COMMUNITY: "Update community",
    OperationKind.DELETE_COMMUNITY: "Delete community",
    OperationKind.SET_COMMUNITY_ACCESS: "Set access bindings of community",
    OperationKind.UPDATE_COMMUNITY_ACCESS: "Update access bindings of community",
}
"""Of the operations of projects and communities: those that this module knows."""

_OF_PROJECT: Mapping[OperationKind, Callable[..., Message]] = {
    OperationKind.CREATE_PROJECT: projects_pb.CreateProjectMetadata,
    OperationKind.UPDATE_PROJECT: projects_pb.UpdateProjectMetadata,
    OperationKind.DELETE_PROJECT: projects_pb.DeleteProjectMetadata,
    OperationKind.SET_PROJECT_ACCESS: projects_pb.SetProjectAccessBindingsMetadata,
    OperationKind.UPDATE_PROJECT_ACCESS: projects_pb.UpdateProjectAccessBindingsMetadata,
}
_OF_COMMUNITY: Mapping[OperationKind, Callable[..., Message]] = {
    OperationKind.CREATE_COMMUNITY: communities_pb.CreateCommunityMetadata,
    OperationKind.UPDATE_COMMUNITY: communities_pb.UpdateCommunityMetadata,
    OperationKind.DELETE_COMMUNITY: communities_pb.DeleteCommunityMetadata,
    OperationKind.SET_COMMUNITY_ACCESS: communities_pb.SetCommunityAccessBindingsMetadata,
    OperationKind.UPDATE_COMMUNITY_ACCESS: communities_pb.UpdateCommunityAccessBindingsMetadata,
}


def encode_project(project: Project) -> project_pb2.Project:
    """The published form of a project."""
    return project_pb2.Project(
        id=project.id,
        created_at=timestamp(project.created_at),
        name=project.name,
        description=project.description,
        labels=dict(project.labels),
        created_by_id=project.created_by_id,
        community_id=project.community_id,
        settings=_kept(project_pb2.Project.Settings, project.settings),
        limits=_kept(project_pb2.Project.Limits, project.limits),
    )


def encode_community(community: Community) -> community_pb2.Community:
    """The published form of a community."""
    return community_pb2.Community(
        id=community.id,
        created_at=timestamp(community.created_at),
        name=community.name,
        description=community.description,
        labels=dict(community.labels),
        created_by_id=community.created_by_id,
        organization_id=community.organization_id,
        zone_id=community.zone_id,
    )


def decode_labels(labels: Mapping[str, str]) -> Labels:
    """Labels in the order of their names."""
    return tuple(sorted(labels.items()))


def decode_kept(request: Message, field: str) -> bytes:
    """The bytes of a part of a request that is only kept; none if it is not there."""
    return getattr(request, field).SerializeToString(deterministic=True) if request.HasField(field) else b""


def project_edit(request: projects_pb.UpdateProjectRequest) -> Callable[[Project], Project]:
    """What an update makes of a project.

    Raises:
        InvalidArgumentError: the mask names a field that cannot be changed.
    """
    mask = _mask(request.update_mask.paths, PROJECT_FIELDS, request)

    def edit(project: Project) -> Project:
        new = _merged(mask, request, encode_project(project), PROJECT_FIELDS)
        return replace(
            project,
            name=new.name,
            description=new.description,
            labels=decode_labels(new.labels),
            settings=decode_kept(new, "settings"),
            limits=decode_kept(new, "limits"),
        )

    return edit


def community_edit(request: communities_pb.UpdateCommunityRequest) -> Callable[[Community], Community]:
    """What an update makes of a community.

    Raises:
        InvalidArgumentError: the mask names a field that cannot be changed.
    """
    mask = _mask(request.update_mask.paths, COMMUNITY_FIELDS, request)

    def edit(community: Community) -> Community:
        new = _merged(mask, request, encode_community(community), COMMUNITY_FIELDS)
        return replace(community, name=new.name, description=new.description, labels=decode_labels(new.labels))

    return edit


def team_metadata(operation: Operation) -> Message:
    """The metadata of an operation of a project or a community."""
    if operation.kind in _OF_PROJECT:
        return _OF_PROJECT[operation.kind](project_id=operation.project_id)
    return _OF_COMMUNITY[operation.kind](community_id=operation.community_id)


def team_response(resource: Project | Community | None) -> Message:
    """The response of an operation of a project or a community."""
    if resource is None:
        return Empty()
    return encode_project(resource) if isinstance(resource, Project) else encode_community(resource)


def _mask(paths: Iterable[str], known: tuple[str, ...], request: Message) -> FieldMask:
    """The mask of an update; without one, all fields that can be changed: those not sent become empty."""
    mask = FieldMask(paths=paths)
    for path in mask.paths:
        # The stubs' type is that of one implementation, the value that of another.
        if path.partition(".")[0] not in known or not mask.IsValidForDescriptor(cast("Any", request.DESCRIPTOR)):
            raise InvalidArgumentError(f"update_mask: {path!r} cannot be changed; these can: {', '.join(known)}")
    return mask if mask.paths else FieldMask(paths=known)


def _merged(mask: FieldMask, request: Message, stored: M, known: tuple[str, ...]) -> M:
    """The stored message with what the mask names of the request."""
    wanted = type(stored)()
    for name in known:
        _copy(request, wanted, name)
    mask.MergeMessage(wanted, stored, True, True)
    return stored


def _copy(source: Message, target: Message, name: str) -> None:
    value = getattr(source, name)
    if isinstance(value, str):
        setattr(target, name, value)
    elif isinstance(value, Message):
        if source.HasField(name):
            getattr(target, name).CopyFrom(value)
    else:
        getattr(target, name).update(value)


def _kept(message: type[M], kept: bytes) -> M | None:
    return message.FromString(kept) if kept else None
