"""Who can call: registered users and service accounts, their long-lived tokens, and the roles that they were given."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from jobsphere.domain.access import ROLES, Role


class AccountKind(StrEnum):
    """Whether a person stands behind it or a program; the values are the published types of subjects."""

    USER = "userAccount"
    SERVICE_ACCOUNT = "serviceAccount"


@dataclass(frozen=True, slots=True)
class Account:
    """A registered user or service account.

    ``external_id`` is what an OpenID provider calls it; empty for those that come with tokens of this server only.
    """

    id: str
    name: str
    kind: AccountKind
    created_at: datetime
    created_by_id: str
    external_id: str = ""


@dataclass(frozen=True, slots=True)
class Credential:
    """A long-lived token of an account, without the token itself: only its hash is stored, and beside this."""

    id: str
    account_id: str
    name: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, order=True)
class Binding:
    """One role that an account has on a project or a community."""

    resource_id: str
    account_id: str
    role_id: str

    @property
    def role(self) -> Role:
        """The role of that published name."""
        return ROLES[self.role_id]


@dataclass(frozen=True, slots=True)
class Holder:
    """A long-lived token and whose it is."""

    account: Account
    credential: Credential
