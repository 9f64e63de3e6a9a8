"""The writes of access control: each function gives the work for one transaction; see :mod:`jobsphere.store.writes`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from jobsphere.domain.access_ports import Removal
from jobsphere.domain.errors import AlreadyExistsError, no_such
from jobsphere.store import access_statements as sql
from jobsphere.store import statements
from jobsphere.store.database import Alone, Ask, Change, ChangeEach, Steps, TakenError, Work
from jobsphere.store.records import Row
from jobsphere.store.statements import Statement
from jobsphere.store.writes import add_row, store_audit, store_operation

_CUT_AT_ONCE = 1000
"""Rows in one transaction: other writes wait for it."""


def add_account(account: Row) -> Work[None]:
    """A new account."""
    taken = f"there is a user or service account {account['name']!r} already, or one of its id or external id"
    return lambda: add_row(sql.ADD_ACCOUNT, account, taken, only=True)


def remove_account(account_id: str) -> Work[bool]:
    """Remove an account, its tokens and its roles."""

    def work() -> Steps[bool]:
        yield Alone()
        for statement in (sql.REMOVE_CREDENTIALS_OF, sql.REMOVE_BINDINGS_OF):
            yield Change(statement, {"account_id": account_id})
        return (yield Change(sql.REMOVE_ACCOUNT, {"account_id": account_id})) > 0

    return work


def add_credential(credential: Row) -> Work[None]:
    """A new token of an account that is there."""

    def work() -> Steps[None]:
        yield Alone()
        yield from _require_account(credential["account_id"])
        taken = f"the account has a token {credential['name']!r} already; revoke it, or choose another name"
        yield from add_row(sql.ADD_CREDENTIAL, credential, taken)

    return work


def remove_credential(credential_id: str) -> Work[bool]:
    """Revoke a token."""

    def work() -> Steps[bool]:
        return (yield Change(sql.REMOVE_CREDENTIAL, {"id": credential_id}, only=True)) > 0

    return work


def change_bindings(
    resource_id: str, add: Sequence[Row], remove: Sequence[Row] | None, operation: Row | None
) -> Work[None]:
    """Take roles away (None: all on the resource), then give some."""

    def work() -> Steps[None]:
        yield Alone()
        if remove is None:
            yield Change(sql.REMOVE_BINDINGS_ON, {"resource_id": resource_id})
        for binding in remove or ():
            yield Change(sql.REMOVE_BINDING, binding)
        for binding in add:
            yield from _require_account(binding["account_id"])
            yield Change(sql.ADD_BINDING, binding)
        yield from _store_optional(operation)

    return work


def add_community(community: Row, operation: Row | None) -> Work[None]:
    """A new community."""

    def work() -> Steps[None]:
        yield from add_row(sql.ADD_COMMUNITY, community, f"there is a community {community['name']!r} already")
        yield from _store_optional(operation)

    return work


def create_project(project: Row, owner: Row | None, operation: Row | None) -> Work[None]:
    """A new project with its first role, in a community that is there."""

    def work() -> Steps[None]:
        yield Alone()
        community_id = str(project["community_id"])
        if (yield from _absent(sql.GET_COMMUNITY, community_id)):
            raise no_such("community", community_id)
        taken = f"there is a project {project['name']!r} in this community already, or one of its id"
        yield from add_row(statements.ADD_PROJECT, project, taken)
        yield from _own(owner, operation)

    return work


def update(statement: Statement, new: Row, was: Row, operation: Row) -> Work[bool]:
    """Replace a project or a community if it is still ``was``."""

    def work() -> Steps[bool]:
        guard = {f"was_{name}": was[name] for name in ("id", "name", "description", "details")}
        try:
            changed: int = yield Change(statement, new | guard)
        except TakenError:
            raise AlreadyExistsError(f"there is one of the name {new['name']!r} already") from None
        if changed:
            yield from store_operation(operation)
        return changed > 0

    return work


def delete_community(community_id: str, operation: Row) -> Work[Sequence[str]]:
    """Remove a community without projects."""

    def work() -> Steps[Sequence[str]]:
        yield Alone()
        if projects := (yield from _column(sql.PROJECT_NAMES, {"community_id": community_id})):
            return projects
        if (yield Change(sql.DELETE_COMMUNITY, {"id": community_id})) == 0:
            raise no_such("community", community_id)
        yield Change(sql.REMOVE_BINDINGS_ON, {"resource_id": community_id})
        yield Change(sql.DELETE_OPERATIONS_OF_COMMUNITY, {"community_id": community_id})
        yield from store_operation(operation)
        return ()

    return work


def delete_project(project_id: str, operation: Row) -> Work[Removal]:
    """Remove a project without live jobs and all that is its own."""

    def work() -> Steps[Removal]:
        yield Alone()
        named: Row = {"project_id": project_id}
        if live := (yield from _column(sql.LIVE_JOBS, named)):
            return Removal(live=live)
        attempts = yield from _column(sql.ATTEMPTS_OF_PROJECT, named)
        if (yield Change(sql.DELETE_PROJECT, named)) == 0:
            raise no_such("project", project_id)
        for statement in (
            sql.DELETE_JOBS_OF_PROJECT,
            sql.DELETE_BLOBS_OF_PROJECT,
            sql.DELETE_RESOURCES_OF_PROJECT,
            sql.DELETE_OPERATIONS_OF_PROJECT,
        ):
            yield Change(statement, named)
        yield Change(sql.REMOVE_BINDINGS_ON, {"resource_id": project_id})
        yield from store_operation(operation)
        return Removal(attempts=attempts)

    return work


def append_audit(row: Row) -> Work[None]:
    """One more row of the audit log."""
    return lambda: store_audit(row, only=True)


def cut_audit(before: int) -> Work[int]:
    """Take the rows before a time away, from the oldest on, up to the first that is younger; how many those were."""

    def work() -> Steps[int]:
        oldest = yield Ask(sql.OLDEST_AUDIT, {}, _CUT_AT_ONCE)
        gone = [seq for seq, _ in takewhile(lambda row: row[1] < before, oldest)]
        # One by one: only the oldest may go.
        yield ChangeEach(sql.CUT_AUDIT, [{"gone": seq} for seq in gone])
        return len(gone)

    return work


def _own(owner: Row | None, operation: Row | None) -> Steps[None]:
    if owner is not None:
        yield from _require_account(owner["account_id"])
        yield Change(sql.ADD_BINDING, owner)
    yield from _store_optional(operation)


def _store_optional(operation: Row | None) -> Steps[None]:
    if operation is not None:
        yield from store_operation(operation)


def _require_account(account_id: object) -> Steps[None]:
    if (yield from _absent(sql.GET_ACCOUNT, str(account_id))):
        raise no_such("account", str(account_id))


def _absent(statement: Statement, id_: str) -> Steps[bool]:
    return not (yield Ask(statement, {"id": id_}))


def _column(statement: Statement, values: Row) -> Steps[tuple[str, ...]]:
    return tuple(row[0] for row in (yield Ask(statement, values)))
