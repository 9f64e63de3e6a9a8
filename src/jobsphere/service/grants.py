"""Roles given and taken: the access bindings of projects and communities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobsphere.domain.access import Action, Scope, role_named
from jobsphere.domain.access_ports import AccountStore
from jobsphere.domain.accounts import Account, AccountKind, Binding
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import Clock, Ids
from jobsphere.domain.resource import Subject
from jobsphere.service import trail
from jobsphere.service.access import Access
from jobsphere.service.paging import page_of

MAX_GRANTS = 1000
FEDERATED_USER = "federatedUser"
_KINDS = {
    AccountKind.USER.value: AccountKind.USER,
    FEDERATED_USER: AccountKind.USER,
    AccountKind.SERVICE_ACCOUNT.value: AccountKind.SERVICE_ACCOUNT,
}
_VIEW = {Scope.PROJECT: Action.ACCESS_VIEW, Scope.COMMUNITY: Action.COMMUNITY_ACCESS_VIEW}
_CHANGE = {Scope.PROJECT: Action.ACCESS_CHANGE, Scope.COMMUNITY: Action.COMMUNITY_ACCESS_CHANGE}
_SET = {Scope.PROJECT: OperationKind.SET_PROJECT_ACCESS, Scope.COMMUNITY: OperationKind.SET_COMMUNITY_ACCESS}
_UPDATE = {Scope.PROJECT: OperationKind.UPDATE_PROJECT_ACCESS, Scope.COMMUNITY: OperationKind.UPDATE_COMMUNITY_ACCESS}


@dataclass(frozen=True, slots=True)
class Grant:
    """A role for an account, as a client names it. ``subject_type`` is the published one; empty means any."""

    role: str
    account_id: str
    subject_type: str = ""


class Grants:
    """Who has which role on what. A ``resource_id`` is that of a project or a community, as ``scope`` says."""

    def __init__(self, accounts: AccountStore, access: Access, clock: Clock, ids: Ids) -> None:
        self._accounts = accounts
        self._access = access
        self._clock = clock
        self._ids = ids

    async def page(
        self, who: Subject, scope: Scope, resource_id: str, page_size: int = 0, page_token: str = ""
    ) -> tuple[list[tuple[Binding, Account]], str]:
        """The roles on it, each with its account, and the next page's token.

        Raises:
            NotFoundError: no such resource, or not for them.
            InvalidArgumentError: a page size or token that cannot be.
        """
        await self._permit(who, scope, resource_id, _VIEW[scope])
        page, next_token = page_of(await self._accounts.bindings_on(resource_id), page_size, page_token)
        return [(b, await self._accounts.get_account(b.account_id)) for b in page], next_token

    async def replace(self, who: Subject, scope: Scope, resource_id: str, wanted: Sequence[Grant]) -> Operation:
        """Let these be all the roles on it.

        Raises:
            NotFoundError: no such resource, or not for them.
            PermissionDeniedError: their role is too small.
            InvalidArgumentError: a role or an account that cannot be.
        """
        await self._permit(who, scope, resource_id, _CHANGE[scope])
        _check_count(wanted)
        add = [await self._binding(scope, resource_id, grant) for grant in wanted]
        return await self._change(who, _SET[scope], scope, resource_id, add, None)

    async def update(
        self, who: Subject, scope: Scope, resource_id: str, give: Sequence[Grant], take: Sequence[Grant]
    ) -> Operation:
        """Take some roles away, then give some. What is taken need not be there.

        Raises:
            NotFoundError: no such resource, or not for them.
            PermissionDeniedError: their role is too small.
            InvalidArgumentError: a role or an account that cannot be.
        """
        await self._permit(who, scope, resource_id, _CHANGE[scope])
        _check_count([*give, *take])
        remove = [Binding(resource_id, g.account_id, role_named(g.role, scope).id) for g in take]
        add = [await self._binding(scope, resource_id, grant) for grant in give]
        return await self._change(who, _UPDATE[scope], scope, resource_id, add, remove)

    async def _permit(self, who: Subject, scope: Scope, resource_id: str, action: Action) -> None:
        if scope is Scope.PROJECT:
            await self._access.project(who, resource_id, action)
        else:
            await self._access.community(who, resource_id, action)

    async def _binding(self, scope: Scope, resource_id: str, grant: Grant) -> Binding:
        role = role_named(grant.role, scope)
        if grant.subject_type and grant.subject_type not in _KINDS:
            raise InvalidArgumentError(
                f"subject type: {grant.subject_type!r} has no roles here; these have: {', '.join(_KINDS)}"
            )
        try:
            account = await self._accounts.get_account(grant.account_id)
        except NotFoundError:
            account = None
        if account is None or _KINDS.get(grant.subject_type, account.kind) is not account.kind:
            kind = grant.subject_type or "account"
            raise InvalidArgumentError(
                f"subject: there is no {kind} {grant.account_id!r}; `jobsphere user list` shows all"
            )
        return Binding(resource_id, account.id, role.id)

    async def _change(
        self,
        who: Subject,
        kind: OperationKind,
        scope: Scope,
        resource_id: str,
        add: Sequence[Binding],
        remove: Sequence[Binding] | None,
    ) -> Operation:
        of_project = scope is Scope.PROJECT
        operation = Operation(
            self._ids.new(),
            kind,
            resource_id if of_project else "",
            "",
            self._clock.now(),
            who.id,
            "" if of_project else resource_id,
        )
        for word, bindings in (("take", remove or ()), ("give", add)):
            for binding in bindings:
                trail.note(word, f"{binding.role_id}:{binding.account_id}")
        await self._accounts.change_bindings(resource_id, add, remove, operation)
        self._access.forget()
        return operation


def _check_count(grants: Sequence[Grant]) -> None:
    if len(grants) > MAX_GRANTS:
        raise InvalidArgumentError(f"access bindings: {len(grants)}, while one call changes {MAX_GRANTS} at most")
