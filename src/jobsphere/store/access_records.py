"""Values of access control to rows and back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jobsphere.domain.accounts import Account, AccountKind, Binding, Credential, Holder
from jobsphere.domain.audit import AuditRow
from jobsphere.domain.resource import Community
from jobsphere.store.records import Row, from_micros, to_micros

_ACCOUNT_COLUMNS = 6


def account_row(account: Account) -> Row:
    """What the table of accounts holds."""
    return {
        "id": account.id,
        "name": account.name,
        "kind": account.kind.value,
        "created_at": to_micros(account.created_at),
        "created_by_id": account.created_by_id,
        "external_id": account.external_id or None,
    }


def to_account(row: Sequence[Any]) -> Account:
    """The account of a row of GET_ACCOUNT."""
    account_id, name, kind, created_at, created_by_id, external_id = row
    return Account(account_id, name, AccountKind(kind), from_micros(created_at), created_by_id, external_id or "")


def credential_row(credential: Credential, sha256: str) -> Row:
    """What the table of tokens holds."""
    return {
        "id": credential.id,
        "account_id": credential.account_id,
        "name": credential.name,
        "created_at": to_micros(credential.created_at),
        "expires_at": to_micros(credential.expires_at),
        "sha256": sha256,
    }


def to_credential(row: Sequence[Any]) -> Credential:
    """The token of a row of LIST_CREDENTIALS."""
    credential_id, account_id, name, created_at, expires_at = row
    return Credential(credential_id, account_id, name, from_micros(created_at), from_micros(expires_at))


def to_holder(row: Sequence[Any]) -> Holder:
    """The holder of a row of HOLDER."""
    return Holder(to_account(row[:_ACCOUNT_COLUMNS]), to_credential(row[_ACCOUNT_COLUMNS:]))


def binding_row(binding: Binding) -> Row:
    """What the table of roles holds."""
    return {"account_id": binding.account_id, "resource_id": binding.resource_id, "role_id": binding.role_id}


def to_bindings(rows: Sequence[Sequence[Any]]) -> list[Binding]:
    """The roles of rows of BINDINGS_OF or BINDINGS_ON, in their order."""
    return sorted(Binding(*row) for row in rows)


def community_row(community: Community) -> Row:
    """What the table of communities holds."""
    details = {
        "labels": dict(community.labels),
        "organization_id": community.organization_id,
        "zone_id": community.zone_id,
    }
    return {
        "id": community.id,
        "name": community.name,
        "created_at": to_micros(community.created_at),
        "created_by_id": community.created_by_id,
        "description": community.description,
        "details": json.dumps({name: value for name, value in details.items() if value}),
    }


def to_community(row: Sequence[Any]) -> Community:
    """The community of a row of GET_COMMUNITY."""
    community_id, name, created_at, created_by_id, description, details = row
    more: dict[str, Any] = json.loads(details)
    labels = tuple(more.pop("labels", {}).items())
    return Community(community_id, name, from_micros(created_at), created_by_id, description, labels, **more)


def audit_row(row: AuditRow) -> Row:
    """What the audit log holds."""
    return {
        "at": to_micros(row.at),
        "subject_id": row.subject_id,
        "subject_name": row.subject_name,
        "action": row.action,
        "project_id": row.project_id,
        "target": row.target,
        "origin": row.origin,
        "result": row.result,
        "request_id": row.request_id,
    }


def to_audit_row(row: Sequence[Any]) -> AuditRow:
    """The row of a row of AUDIT."""
    return AuditRow(from_micros(row[0]), *row[1:])
