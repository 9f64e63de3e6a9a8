"""What ``jobsphere project`` and ``jobsphere community`` have in common: roles given, taken and shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jobsphere.cli.listing import show_all
from jobsphere.domain.access import ROLES, Scope, role_named
from jobsphere.domain.accounts import Account, Binding
from jobsphere.domain.resource import Community, Project, Subject

if TYPE_CHECKING:
    from jobsphere.wiring.desk import Desk

P = TypeVar("P", Project, Community)


def grant_role(data_dir: Path, scope: Scope, resource_id: str, account: str, role: str) -> None:
    """Give a role on a project or a community."""
    _change(data_dir, "grant", scope, resource_id, account, role)


def revoke_role(data_dir: Path, scope: Scope, resource_id: str, account: str, role: str | None) -> None:
    """Take a role away on a project or a community; all of the account's, if none is named."""
    _change(data_dir, "revoke", scope, resource_id, account, role)


def show_members(data_dir: Path, scope: Scope, resource_id: str, as_json: bool) -> None:
    """Print who has which role."""
    from jobsphere.wiring import desk

    async def work(desk: Desk, who: Subject) -> list[tuple[Binding, Account]]:
        found, token = await desk.grants.page(who, scope, resource_id)
        while token:
            page, token = await desk.grants.page(who, scope, resource_id, page_token=token)
            found += page
        return found

    members = asyncio.run(desk.read(data_dir, work))
    from rich.table import Column

    show_all(members, _fields, ("Name", "ID", "Kind", Column("Role", overflow="fold")), _row, as_json=as_json)


def renamed(name: str | None, description: str | None) -> Callable[[P], P]:
    """What changes a project or a community as asked; None leaves it as it is."""
    told = {"name": name, "description": description}
    new = {field: text for field, text in told.items() if text is not None}
    return lambda was: replace(was, **new)


def _change(data_dir: Path, verb: str, scope: Scope, resource_id: str, account: str, role: str | None) -> None:
    from jobsphere.service.grants import Grant
    from jobsphere.wiring import desk

    async def work(desk: Desk, who: Subject) -> None:
        account_id = (await desk.accounts.find(who, account)).id
        if verb == "grant":
            grant = Grant(role_named(role or "", scope).id, account_id)
            await desk.grants.update(who, scope, resource_id, [grant], [])
            return
        named = list(ROLES) if role is None else [role_named(role, scope).id]
        take = [Grant(r, account_id) for r in named if scope is Scope.COMMUNITY or ROLES[r].scope is scope]
        await desk.grants.update(who, scope, resource_id, [], take)

    kind = "project" if scope is Scope.PROJECT else "community"
    ids = [(f"{kind}_id", resource_id), ("account", account), ("role", role or "")]
    asyncio.run(desk.change(data_dir, f"jobsphere {kind} {verb}", ids, work))


def _row(member: tuple[Binding, Account]) -> tuple[str, ...]:
    binding, account = member
    return account.name, account.id, account.kind.value, binding.role_id


def _fields(member: tuple[Binding, Account]) -> dict[str, str]:
    binding, account = member
    return {
        "account_id": account.id,
        "name": account.name,
        "kind": account.kind.value,
        "role": binding.role_id,
    }
