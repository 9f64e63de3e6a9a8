"""Access bindings: the published messages to grants and back, the same for projects and communities."""

from __future__ import annotations

from collections.abc import Iterable

from yandex.cloud.access import access_pb2 as pb

from jobsphere.domain.access import Scope
from jobsphere.domain.accounts import Account, AccountKind, Binding
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.operation import Operation
from jobsphere.domain.resource import Subject
from jobsphere.service.grants import FEDERATED_USER, Grant, Grants


class Bindings:
    """The three methods that projects and communities have in common."""

    def __init__(self, grants: Grants, scope: Scope) -> None:
        self._grants = grants
        self._scope = scope

    async def list(self, who: Subject, request: pb.ListAccessBindingsRequest) -> pb.ListAccessBindingsResponse:
        """A page of the roles on something."""
        page, next_token = await self._grants.page(
            who, self._scope, request.resource_id, request.page_size, request.page_token
        )
        encoded = [_encode(binding, account) for binding, account in page]
        return pb.ListAccessBindingsResponse(access_bindings=encoded, next_page_token=next_token)

    async def set(self, who: Subject, request: pb.SetAccessBindingsRequest) -> Operation:
        """Let these be all roles on something."""
        wanted = [_decode(binding) for binding in request.access_bindings]
        return await self._grants.replace(who, self._scope, request.resource_id, wanted)

    async def update(self, who: Subject, request: pb.UpdateAccessBindingsRequest) -> Operation:
        """Give and take roles on something."""
        give = _those(request.access_binding_deltas, pb.AccessBindingAction.ADD)
        take = _those(request.access_binding_deltas, pb.AccessBindingAction.REMOVE)
        if len(give) + len(take) < len(request.access_binding_deltas):
            raise InvalidArgumentError("access_binding_deltas.action: must be ADD or REMOVE")
        return await self._grants.update(who, self._scope, request.resource_id, give, take)


def _those(deltas: Iterable[pb.AccessBindingDelta], action: int) -> list[Grant]:
    return [_decode(delta.access_binding) for delta in deltas if delta.action == action]


def _decode(binding: pb.AccessBinding) -> Grant:
    return Grant(binding.role_id, binding.subject.id, binding.subject.type)


def _encode(binding: Binding, account: Account) -> pb.AccessBinding:
    federated = account.kind is AccountKind.USER and account.external_id
    subject = pb.Subject(id=account.id, type=FEDERATED_USER if federated else account.kind.value)
    return pb.AccessBinding(role_id=binding.role_id, subject=subject)
