"""The stores of access control in memory: their contract in its plainest form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobsphere.domain.access_ports import Removal
from jobsphere.domain.accounts import Account, Binding, Credential, Holder
from jobsphere.domain.errors import AlreadyExistsError, no_such
from jobsphere.domain.operation import Operation
from jobsphere.domain.resource import Community, Project
from jobsphere.store.memory import MemoryJobStore


class MemoryAccounts:
    """:class:`jobsphere.domain.access_ports.AccountStore` that forgets."""

    def __init__(self, jobs: MemoryJobStore) -> None:
        self._jobs = jobs
        self._accounts: dict[str, Account] = {}
        self._credentials: dict[str, Credential] = {}
        self._hashes: dict[str, str] = {}
        self._bindings: set[Binding] = set()

    async def add_account(self, account: Account) -> None:
        """Store a new account."""
        for other in self._accounts.values():
            same_outside = account.external_id and other.external_id == account.external_id
            if same_outside or other.id == account.id or other.name == account.name:
                raise AlreadyExistsError(f"there is a user or service account {account.name!r} already")
        self._accounts[account.id] = account

    async def get_account(self, account_id: str) -> Account:
        """The account."""
        self.require(account_id)
        return self._accounts[account_id]

    async def account_of(self, external_id: str) -> Account | None:
        """The account that an OpenID provider calls so."""
        found = (a for a in self._accounts.values() if external_id and a.external_id == external_id)
        return next(found, None)

    async def list_accounts(self) -> Sequence[Account]:
        """All accounts, oldest first."""
        return list(self._accounts.values())

    async def remove_account(self, account_id: str) -> bool:
        """Remove the account with its tokens and its roles."""
        for credential in await self.list_credentials(account_id):
            await self.remove_credential(credential.id)
        self._bindings = {b for b in self._bindings if b.account_id != account_id}
        return self._accounts.pop(account_id, None) is not None

    async def add_credential(self, credential: Credential, sha256: str) -> None:
        """Store a long-lived token by the hash of its text."""
        self.require(credential.account_id)
        taken = {(c.account_id, c.name) for c in self._credentials.values()}
        key = (credential.account_id, credential.name)
        if key in taken or credential.id in self._credentials or sha256 in self._hashes:
            raise AlreadyExistsError(f"the account has a token {credential.name!r} already")
        self._credentials[credential.id] = credential
        self._hashes[sha256] = credential.id

    async def holder(self, sha256: str) -> Holder | None:
        """Whose token has that hash."""
        return await self.holder_of(self._hashes.get(sha256, ""))

    async def holder_of(self, credential_id: str) -> Holder | None:
        """Whose token has that id."""
        credential = self._credentials.get(credential_id)
        return None if credential is None else Holder(self._accounts[credential.account_id], credential)

    async def list_credentials(self, account_id: str | None = None) -> Sequence[Credential]:
        """Tokens, oldest first."""
        return [c for c in self._credentials.values() if account_id in {None, c.account_id}]

    async def remove_credential(self, credential_id: str) -> bool:
        """Revoke a token."""
        self._hashes = {sha256: id_ for sha256, id_ in self._hashes.items() if id_ != credential_id}
        return self._credentials.pop(credential_id, None) is not None

    async def bindings_of(self, account_id: str) -> Sequence[Binding]:
        """All roles of an account."""
        return sorted(b for b in self._bindings if b.account_id == account_id)

    async def bindings_on(self, resource_id: str) -> Sequence[Binding]:
        """All roles on a project or a community."""
        return sorted(b for b in self._bindings if b.resource_id == resource_id)

    async def change_bindings(
        self, resource_id: str, add: Sequence[Binding], remove: Sequence[Binding] | None, operation: Operation | None
    ) -> None:
        """Take roles away, then give some."""
        for binding in add:
            self.require(binding.account_id)
        if operation is not None:
            await self._jobs.add_operation(operation)
        self._bindings -= set(await self.bindings_on(resource_id) if remove is None else remove)
        self._bindings |= set(add)

    def require(self, account_id: str) -> None:
        """Refuse an account that is not there."""
        if account_id not in self._accounts:
            raise no_such("account", account_id)


class MemoryTeams:
    """:class:`jobsphere.domain.access_ports.TeamStore` that forgets."""

    def __init__(self, jobs: MemoryJobStore, accounts: MemoryAccounts) -> None:
        self._jobs = jobs
        self._accounts = accounts
        self._communities: dict[str, Community] = {}

    async def add_community(self, community: Community, operation: Operation | None) -> None:
        """Store a new community."""
        self._refuse_taken(community)
        if operation is not None:
            await self._jobs.add_operation(operation)
        self._communities[community.id] = community

    async def get_community(self, community_id: str) -> Community:
        """The community."""
        if community_id not in self._communities:
            raise no_such("community", community_id)
        return self._communities[community_id]

    async def list_communities(self) -> Sequence[Community]:
        """All communities, oldest first."""
        return list(self._communities.values())

    async def update_community(self, new: Community, was: Community, operation: Operation) -> bool:
        """Replace ``was`` by ``new``."""
        if self._communities.get(was.id) != was:
            return False
        self._refuse_taken(replace(new, id=""), besides=was)
        await self._jobs.add_operation(operation)
        self._communities[was.id] = new
        return True

    async def delete_community(self, community_id: str, operation: Operation) -> Sequence[str]:
        """Remove a community if it has no projects."""
        if projects := await self._jobs.list_projects(community_id):
            return [p.name for p in projects]
        await self.get_community(community_id)
        await self._accounts.change_bindings(community_id, (), None, None)
        self._jobs.forget_operations(lambda o: o.community_id == community_id)
        await self._jobs.add_operation(operation)
        del self._communities[community_id]
        return ()

    async def create_project(self, project: Project, owner: Binding | None, operation: Operation | None) -> None:
        """Store a new project with its first role."""
        await self.get_community(project.community_id)
        if owner is not None:
            self._accounts.require(owner.account_id)
        self._jobs.add_project(project)
        await self._own(project.id, owner, operation)

    async def update_project(self, new: Project, was: Project, operation: Operation) -> bool:
        """Replace ``was`` by ``new``."""
        projects = await self._jobs.list_projects()
        if was not in projects:
            return False
        if any(p.name == new.name and p.community_id == was.community_id and p.id != was.id for p in projects):
            raise AlreadyExistsError(f"there is one of the name {new.name!r} already")
        await self._jobs.add_operation(operation)
        self._jobs.put_project(new)
        return True

    async def delete_project(self, project_id: str, operation: Operation) -> Removal:
        """Remove a project with all that is its own, if no job is live."""
        if live := self._jobs.live_jobs(project_id):
            return Removal(live=live)
        await self._jobs.get_project(project_id)
        attempts = self._jobs.forget_project(project_id)
        await self._accounts.change_bindings(project_id, (), None, None)
        self._jobs.forget_operations(lambda o: o.project_id == project_id)
        await self._jobs.add_operation(operation)
        return Removal(attempts=attempts)

    async def _own(self, resource_id: str, owner: Binding | None, operation: Operation | None) -> None:
        await self._accounts.change_bindings(resource_id, () if owner is None else (owner,), (), operation)

    def _refuse_taken(self, community: Community, besides: Community | None = None) -> None:
        others = [c for c in self._communities.values() if c != besides]
        if any(community.id == c.id or community.name == c.name for c in others):
            raise AlreadyExistsError(f"there is a community {community.name!r} already")
