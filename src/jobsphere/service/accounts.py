"""Users, service accounts and their long-lived tokens. All of it is the operator's to do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

from jobsphere.domain.access_ports import AccountStore
from jobsphere.domain.accounts import Account, AccountKind, Credential
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError, no_such
from jobsphere.domain.ports import Clock, Ids
from jobsphere.domain.resource import Subject
from jobsphere.service import trail
from jobsphere.service.access import only_operator
from jobsphere.service.tokens import hash_of, new_long_token

MAX_LIFE = timedelta(days=3660)
_NAME = re.compile(r"[0-9A-Za-z]([-_.@0-9A-Za-z]{0,62})")
_MAX_EXTERNAL_CHARS = 255


class Accounts:
    """What can be done with accounts and tokens."""

    def __init__(self, store: AccountStore, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids

    async def add(self, who: Subject, name: str, kind: AccountKind, external_id: str = "") -> Account:
        """A new user or service account, without tokens and roles.

        Raises:
            PermissionDeniedError: the caller is not the operator.
            InvalidArgumentError: the name is none.
            AlreadyExistsError: its name or external id is taken.
        """
        only_operator(who, "add users")
        check_account(who, name, external_id)
        account = Account(self._ids.new(), name, kind, self._clock.now(), who.id, external_id)
        await self._store.add_account(account)
        trail.note("account_id", account.id)
        return account

    async def all(self, who: Subject) -> Sequence[Account]:
        """All accounts, oldest first.

        Raises:
            PermissionDeniedError: the caller is not the operator.
        """
        only_operator(who, "list users")
        return await self._store.list_accounts()

    async def find(self, who: Subject, name_or_id: str) -> Account:
        """The account of that name or id.

        Raises:
            PermissionDeniedError: the caller is not the operator.
            NotFoundError: there is none.
        """
        for account in await self.all(who):
            if name_or_id in {account.id, account.name}:
                return account
        raise NotFoundError(f"there is no user or service account {name_or_id!r}; `jobsphere user list` shows all")

    async def remove(self, who: Subject, name_or_id: str) -> Account:
        """Remove an account with its tokens and its roles. What it made stays.

        Raises:
            PermissionDeniedError: the caller is not the operator.
            NotFoundError: there is none.
        """
        account = await self.find(who, name_or_id)
        await self._store.remove_account(account.id)
        return account

    async def create_token(self, who: Subject, name_or_id: str, name: str, life: timedelta) -> tuple[Credential, str]:
        """A new long-lived token of an account, and its text, which nobody can ever read again.

        Raises:
            PermissionDeniedError: the caller is not the operator.
            NotFoundError: there is no such account.
            InvalidArgumentError: the name is none, or the life is too long.
            AlreadyExistsError: the account has a token of that name.
        """
        account = await self.find(who, name_or_id)
        if not _NAME.fullmatch(name):
            raise InvalidArgumentError(f"name: {name!r} must have 1 to 63 of the characters a-z A-Z 0-9 - _ . @")
        if not timedelta() < life <= MAX_LIFE:
            raise InvalidArgumentError(f"days: a token lives 1 to {MAX_LIFE.days} days")
        now = self._clock.now()
        credential, text = Credential(self._ids.new(), account.id, name, now, now + life), new_long_token(self._ids)
        await self._store.add_credential(credential, hash_of(text))
        trail.note("token_id", credential.id)
        return credential, text

    async def tokens(self, who: Subject, name_or_id: str = "") -> list[tuple[Credential, Account]]:
        """All tokens, or those of one account, each with its account, oldest first.

        Raises:
            PermissionDeniedError: the caller is not the operator.
            NotFoundError: there is no such account.
        """
        accounts = [await self.find(who, name_or_id)] if name_or_id else await self.all(who)
        by_id = {account.id: account for account in accounts}
        found = await self._store.list_credentials()
        return [(c, by_id[c.account_id]) for c in found if c.account_id in by_id]

    async def revoke_token(self, who: Subject, credential_id: str) -> None:
        """End a token, and all short-lived ones that were made of it.

        Raises:
            PermissionDeniedError: the caller is not the operator.
            NotFoundError: there is none of that id.
        """
        only_operator(who, "revoke tokens")
        if not await self._store.remove_credential(credential_id):
            raise no_such("token", credential_id)


def check_account(operator: Subject, name: str, external_id: str) -> None:
    """Refuse what can be no account.

    Raises:
        InvalidArgumentError: the name is none, or the operator's; or the external id is too long.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgumentError(f"name: {name!r} must have 1 to 63 of the characters a-z A-Z 0-9 - _ . @")
    if name == operator.id:
        raise InvalidArgumentError(f"name: {name!r} is the operator's own; the audit log could not tell the two apart")
    if len(external_id) > _MAX_EXTERNAL_CHARS:
        raise InvalidArgumentError(f"external id: has more than {_MAX_EXTERNAL_CHARS} characters")
