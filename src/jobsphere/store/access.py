"""Accounts, communities and the audit log in a database, whichever it is."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from contextlib import aclosing
from datetime import datetime
from operator import itemgetter
from typing import Any

from jobsphere.domain.access_ports import Removal
from jobsphere.domain.accounts import Account, Binding, Credential, Holder
from jobsphere.domain.audit import AuditQuery, AuditRow
from jobsphere.domain.errors import no_such
from jobsphere.domain.operation import Operation
from jobsphere.domain.resource import Community, Project
from jobsphere.store import access_statements as sql
from jobsphere.store import access_writes as writes
from jobsphere.store.access_records import (
    account_row,
    audit_row,
    binding_row,
    community_row,
    credential_row,
    to_account,
    to_audit_row,
    to_bindings,
    to_community,
    to_credential,
    to_holder,
)
from jobsphere.store.database import PIECE, Database, walk
from jobsphere.store.records import Row, operation_row, project_row, to_micros
from jobsphere.store.tokens import FIRST_PAGE


class SqlAccounts:
    """:class:`jobsphere.domain.access_ports.AccountStore`; made by ``SqlJobStore.beside``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_account(self, account: Account) -> None:
        """Store a new account."""
        await self._database.write(writes.add_account(account_row(account)))

    async def get_account(self, account_id: str) -> Account:
        """The account."""
        row = await self._database.one(sql.GET_ACCOUNT, account_id)
        if row is None:
            raise no_such("account", account_id)
        return to_account(row)

    async def account_of(self, external_id: str) -> Account | None:
        """The account that an OpenID provider calls so."""
        row = await self._database.one(sql.ACCOUNT_OF, external_id)
        return None if row is None else to_account(row)

    async def list_accounts(self) -> Sequence[Account]:
        """All accounts, oldest first."""
        return [to_account(row) for row in await self._database.all(sql.LIST_ACCOUNTS, {})]

    async def remove_account(self, account_id: str) -> bool:
        """Remove the account with its tokens and its roles."""
        return await self._database.write(writes.remove_account(account_id))

    async def add_credential(self, credential: Credential, sha256: str) -> None:
        """Store a long-lived token by the hash of its text."""
        await self._database.write(writes.add_credential(credential_row(credential, sha256)))

    async def holder(self, sha256: str) -> Holder | None:
        """Whose token has that hash."""
        row = await self._database.one(sql.HOLDER, sha256)
        return None if row is None else to_holder(row)

    async def holder_of(self, credential_id: str) -> Holder | None:
        """Whose token has that id."""
        row = await self._database.one(sql.HOLDER_OF, credential_id)
        return None if row is None else to_holder(row)

    async def list_credentials(self, account_id: str | None = None) -> Sequence[Credential]:
        """Tokens, oldest first."""
        statement = sql.LIST_CREDENTIALS if account_id is None else sql.LIST_CREDENTIALS_OF
        return [to_credential(row) for row in await self._database.all(statement, {"account_id": account_id})]

    async def remove_credential(self, credential_id: str) -> bool:
        """Revoke a token."""
        return await self._database.write(writes.remove_credential(credential_id))

    async def bindings_of(self, account_id: str) -> Sequence[Binding]:
        """All roles of an account."""
        return to_bindings(await self._database.all(sql.BINDINGS_OF, {"account_id": account_id}))

    async def bindings_on(self, resource_id: str) -> Sequence[Binding]:
        """All roles on a project or a community."""
        return to_bindings(await self._database.all(sql.BINDINGS_ON, {"resource_id": resource_id}))

    async def change_bindings(
        self, resource_id: str, add: Sequence[Binding], remove: Sequence[Binding] | None, operation: Operation | None
    ) -> None:
        """Take roles away, then give some."""
        gone = None if remove is None else [binding_row(binding) for binding in remove]
        await self._database.write(
            writes.change_bindings(resource_id, [binding_row(b) for b in add], gone, _optional(operation))
        )


class SqlTeams:
    """:class:`jobsphere.domain.access_ports.TeamStore`; made by ``SqlJobStore.beside``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_community(self, community: Community, operation: Operation | None) -> None:
        """Store a new community."""
        await self._database.write(writes.add_community(community_row(community), _optional(operation)))

    async def get_community(self, community_id: str) -> Community:
        """The community."""
        row = await self._database.one(sql.GET_COMMUNITY, community_id)
        if row is None:
            raise no_such("community", community_id)
        return to_community(row)

    async def list_communities(self) -> Sequence[Community]:
        """All communities, oldest first."""
        return [to_community(row) for row in await self._database.all(sql.LIST_COMMUNITIES, {})]

    async def update_community(self, new: Community, was: Community, operation: Operation) -> bool:
        """Replace ``was`` by ``new``."""
        work = writes.update(sql.UPDATE_COMMUNITY, community_row(new), community_row(was), operation_row(operation))
        return await self._database.write(work)

    async def delete_community(self, community_id: str, operation: Operation) -> Sequence[str]:
        """Remove a community if it has no projects."""
        return await self._database.write(writes.delete_community(community_id, operation_row(operation)))

    async def create_project(self, project: Project, owner: Binding | None, operation: Operation | None) -> None:
        """Store a new project with its first role."""
        role = None if owner is None else binding_row(owner)
        await self._database.write(writes.create_project(project_row(project), role, _optional(operation)))

    async def update_project(self, new: Project, was: Project, operation: Operation) -> bool:
        """Replace ``was`` by ``new``."""
        work = writes.update(sql.UPDATE_PROJECT, project_row(new), project_row(was), operation_row(operation))
        return await self._database.write(work)

    async def delete_project(self, project_id: str, operation: Operation) -> Removal:
        """Remove a project with all that is its own, if no job is live."""
        return await self._database.write(writes.delete_project(project_id, operation_row(operation)))


class SqlAudit:
    """:class:`jobsphere.domain.access_ports.AuditStore`; made by ``SqlJobStore.beside``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, row: AuditRow) -> None:
        """Store a row."""
        await self._database.write(writes.append_audit(audit_row(row)))

    async def cut(self, before: datetime) -> int:
        """Take the oldest rows away, a thousand at most."""
        return await self._database.write(writes.cut_audit(to_micros(before)))

    async def find(self, query: AuditQuery) -> Sequence[AuditRow]:
        """The newest rows that fit; walks back through the log until there are enough."""
        statement = sql.AUDIT_OF_PROJECT if query.project_id else sql.AUDIT
        since = 0 if query.since is None else to_micros(query.since)

        def rows_before(number: int) -> Awaitable[Sequence[Any]]:
            values: Row = {"project_id": query.project_id, "since": since, "before": number}
            return self._database.first(statement, values, PIECE)

        found: list[AuditRow] = []
        async with aclosing(walk(rows_before, FIRST_PAGE, itemgetter(-1))) as rows:
            async for row in rows:
                if len(found) == query.limit:
                    break
                if query.fits(audited := to_audit_row(row)):
                    found.append(audited)
        return found


def _optional(operation: Operation | None) -> Row | None:
    return None if operation is None else operation_row(operation)
