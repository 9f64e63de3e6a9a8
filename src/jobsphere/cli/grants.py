"""What ``jobsphere project`` and ``jobsphere community`` have in common: roles given, taken and shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from jobsphere.domain.access import ROLES, Scope, role_named
from jobsphere.domain.accounts import Account, Binding
from jobsphere.domain.resource import Subject

if TYPE_CHECKING:
    from jobsphere.desk import Desk


def grant_role(data_dir: Path, scope: Scope, resource_id: str, account: str, role: str) -> None:
    """Give a role on a project or a community."""
    _change(data_dir, "grant", scope, resource_id, account, role)


def revoke_role(data_dir: Path, scope: Scope, resource_id: str, account: str, role: str | None) -> None:
    """Take a role away on a project or a community; all of the account's, if none is named."""
    _change(data_dir, "revoke", scope, resource_id, account, role)


def show_members(data_dir: Path, scope: Scope, resource_id: str, as_json: bool) -> None:
    """Print who has which role."""
    from jobsphere import desk

    async def work(desk: Desk, who: Subject) -> list[tuple[Binding, Account]]:
        found, token = await desk.grants.page(who, scope, resource_id)
        while token:
            page, token = await desk.grants.page(who, scope, resource_id, page_token=token)
            found += page
        return found

    members = asyncio.run(desk.read(data_dir, work))
    if as_json:
        print(json.dumps([_fields(b, a) for b, a in members], indent=2))  # noqa: T201
        return
    from rich.console import Console
    from rich.table import Column, Table

    table = Table("Name", "ID", "Kind", Column("Role", overflow="fold"))
    for binding, account in members:
        table.add_row(account.name, account.id, account.kind.value, binding.role_id)
    Console().print(table)


def _change(data_dir: Path, verb: str, scope: Scope, resource_id: str, account: str, role: str | None) -> None:
    from jobsphere import desk
    from jobsphere.service.grants import Grant

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


def _fields(binding: Binding, account: Account) -> dict[str, str]:
    return {
        "account_id": account.id,
        "name": account.name,
        "kind": account.kind.value,
        "role": binding.role_id,
    }
