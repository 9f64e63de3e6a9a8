"""What access control needs from the world; see :mod:`jobsphere.domain.ports` for what all ports promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from jobsphere.domain.accounts import Account, Binding, Credential, Holder
from jobsphere.domain.audit import AuditQuery, AuditRow
from jobsphere.domain.operation import Operation
from jobsphere.domain.resource import Community, Project


class AccountStore(Protocol):
    """Accounts, the hashes of their long-lived tokens, and their roles."""

    async def add_account(self, account: Account) -> None:
        """Store a new account.

        Raises:
            AlreadyExistsError: its id, its name or its external id is taken.
        """
        ...

    async def get_account(self, account_id: str) -> Account:
        """The account.

        Raises:
            NotFoundError: no such account.
        """
        ...

    async def account_of(self, external_id: str) -> Account | None:
        """The account that an OpenID provider calls so; None if there is none."""
        ...

    async def list_accounts(self) -> Sequence[Account]:
        """All accounts, oldest first."""
        ...

    async def remove_account(self, account_id: str) -> bool:
        """Remove the account with its tokens and its roles. False if there was none."""
        ...

    async def add_credential(self, credential: Credential, sha256: str) -> None:
        """Store a long-lived token by the hash of its text.

        Raises:
            AlreadyExistsError: the account has a token of that name, or the id or the hash is taken.
            NotFoundError: there is no such account.
        """
        ...

    async def holder(self, sha256: str) -> Holder | None:
        """Whose token has that hash; None if nobody's. Says nothing about whether it has expired."""
        ...

    async def holder_of(self, credential_id: str) -> Holder | None:
        """Whose token has that id; None if it was revoked."""
        ...

    async def list_credentials(self, account_id: str | None = None) -> Sequence[Credential]:
        """Tokens, oldest first; of one account if it is named."""
        ...

    async def remove_credential(self, credential_id: str) -> bool:
        """Revoke a token. False if there was none."""
        ...

    async def bindings_of(self, account_id: str) -> Sequence[Binding]:
        """All roles of an account, in their order."""
        ...

    async def bindings_on(self, resource_id: str) -> Sequence[Binding]:
        """All roles on a project or a community, in their order."""
        ...

    async def change_bindings(
        self, resource_id: str, add: Sequence[Binding], remove: Sequence[Binding] | None, operation: Operation | None
    ) -> None:
        """Take roles away, then give some; ``remove`` None takes all on the resource. Repeats do no harm.

        Raises:
            NotFoundError: an account that is to get a role does not exist.
        """
        ...


@dataclass(frozen=True, slots=True)
class Removal:
    """What came of the wish to delete a project: its live jobs, and nothing was done; or the attempts of those gone."""

    live: tuple[str, ...] = ()
    attempts: tuple[str, ...] = ()


class TeamStore(Protocol):
    """Communities, and what changes projects once they are there."""

    async def add_community(self, community: Community, operation: Operation | None) -> None:
        """Store a new community.

        Raises:
            AlreadyExistsError: its id or its name is taken.
        """
        ...

    async def get_community(self, community_id: str) -> Community:
        """The community.

        Raises:
            NotFoundError: no such community.
        """
        ...

    async def list_communities(self) -> Sequence[Community]:
        """All communities, oldest first."""
        ...

    async def update_community(self, new: Community, was: Community, operation: Operation) -> bool:
        """Replace ``was`` by ``new``. False if it is not ``was`` any more: nothing was written.

        Raises:
            AlreadyExistsError: the new name is taken.
        """
        ...

    async def delete_community(self, community_id: str, operation: Operation) -> Sequence[str]:
        """Remove a community, the roles on it and its other operations, if it has no projects.

        Returns:
            The names of its projects: if there are any, nothing was done.

        Raises:
            NotFoundError: no such community.
        """
        ...

    async def create_project(self, project: Project, owner: Binding | None, operation: Operation | None) -> None:
        """Store a new project with its first role.

        Raises:
            AlreadyExistsError: its id, or its name within the community, is taken.
            NotFoundError: there is no such community.
        """
        ...

    async def update_project(self, new: Project, was: Project, operation: Operation) -> bool:
        """Replace ``was`` by ``new``. False if it is not ``was`` any more: nothing was written.

        Raises:
            AlreadyExistsError: the new name is taken.
        """
        ...

    async def delete_project(self, project_id: str, operation: Operation) -> Removal:
        """Remove a project with its jobs, their references and operations, and the roles on it, if no job is live.

        Raises:
            NotFoundError: no such project.
        """
        ...


class AuditStore(Protocol):
    """The audit log. There is no way to change a row, nor to remove one from among others."""

    async def append(self, row: AuditRow) -> None:
        """Store a row; its ``number`` is given here."""
        ...

    async def cut(self, before: datetime) -> int:
        """Take the oldest rows away, up to the first that is not older than ``before``; some at a time.

        Rows of the last day stay, whatever is asked.

        Returns:
            How many went; 0 when all have.
        """
        ...

    async def find(self, query: AuditQuery) -> Sequence[AuditRow]:
        """The newest rows that fit, newest first, ``query.limit`` at most."""
        ...


@dataclass(frozen=True, slots=True)
class ExternalIdentity:
    """What a verified token of an OpenID provider says: who, and until when."""

    external_id: str
    expires_at: datetime


class IdentityProvider(Protocol):
    """Verifies tokens of an OpenID provider."""

    async def verify(self, token: str) -> ExternalIdentity:
        """Whom the token speaks for.

        Raises:
            UnauthenticatedError: forged, expired, of another issuer or for another audience.
            UnavailableError: the issuer's keys cannot be fetched now.
        """
        ...
