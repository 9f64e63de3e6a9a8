"""The writes of access control: each function gives the work for one transaction; see :mod:`jobsphere.store.writes`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from jobsphere.domain.access_ports import Removal
from jobsphere.domain.errors import AlreadyExistsError, no_such
from jobsphere.store import access_statements as sql
from jobsphere.store import statements
from jobsphere.store.records import Row
from jobsphere.store.statements import Statement
from jobsphere.store.writer import Work
from jobsphere.store.writes import add_row, run, store_operation

Connection = sqlite3.Connection
_CUT_AT_ONCE = 1000
"""Rows in one transaction: other writes wait for it."""


def add_account(account: Row) -> Work[None]:
    """A new account."""
    taken = f"there is a user or service account {account['name']!r} already, or one of its id or external id"
    return lambda connection: add_row(connection, sql.ADD_ACCOUNT, account, taken)


def remove_account(account_id: str) -> Work[bool]:
    """Remove an account, its tokens and its roles."""

    def work(connection: Connection) -> bool:
        for statement in (sql.REMOVE_CREDENTIALS_OF, sql.REMOVE_BINDINGS_OF):
            run(connection, statement, {"account_id": account_id})
        return run(connection, sql.REMOVE_ACCOUNT, {"account_id": account_id}) > 0

    return work


def add_credential(credential: Row) -> Work[None]:
    """A new token of an account that is there."""

    def work(connection: Connection) -> None:
        _require_account(connection, credential["account_id"])
        taken = f"the account has a token {credential['name']!r} already; revoke it, or choose another name"
        add_row(connection, sql.ADD_CREDENTIAL, credential, taken)

    return work


def remove_credential(credential_id: str) -> Work[bool]:
    """Revoke a token."""
    return lambda connection: run(connection, sql.REMOVE_CREDENTIAL, {"id": credential_id}) > 0


def change_bindings(
    resource_id: str, add: Sequence[Row], remove: Sequence[Row] | None, operation: Row | None
) -> Work[None]:
    """Take roles away (None: all on the resource), then give some."""

    def work(connection: Connection) -> None:
        if remove is None:
            run(connection, sql.REMOVE_BINDINGS_ON, {"resource_id": resource_id})
        for binding in remove or ():
            run(connection, sql.REMOVE_BINDING, binding)
        for binding in add:
            _require_account(connection, binding["account_id"])
            run(connection, sql.ADD_BINDING, binding)
        _store_optional(connection, operation)

    return work


def add_community(community: Row, operation: Row | None) -> Work[None]:
    """A new community."""

    def work(connection: Connection) -> None:
        add_row(connection, sql.ADD_COMMUNITY, community, f"there is a community {community['name']!r} already")
        _store_optional(connection, operation)

    return work


def create_project(project: Row, owner: Row | None, operation: Row | None) -> Work[None]:
    """A new project with its first role, in a community that is there."""

    def work(connection: Connection) -> None:
        community_id = str(project["community_id"])
        if _absent(connection, sql.GET_COMMUNITY, community_id):
            raise no_such("community", community_id)
        taken = f"there is a project {project['name']!r} in this community already, or one of its id"
        add_row(connection, statements.ADD_PROJECT, project, taken)
        _own(connection, owner, operation)

    return work


def update(statement: Statement, new: Row, was: Row, operation: Row) -> Work[bool]:
    """Replace a project or a community if it is still ``was``."""

    def work(connection: Connection) -> bool:
        guard = {f"was_{name}": was[name] for name in ("id", "name", "description", "details")}
        try:
            changed = run(connection, statement, new | guard)
        except sqlite3.IntegrityError as error:
            raise AlreadyExistsError(f"there is one of the name {new['name']!r} already") from error
        if changed:
            store_operation(connection, operation)
        return changed > 0

    return work


def delete_community(community_id: str, operation: Row) -> Work[Sequence[str]]:
    """Remove a community without projects."""

    def work(connection: Connection) -> Sequence[str]:
        if projects := _column(connection, sql.PROJECT_NAMES, {"community_id": community_id}):
            return projects
        if run(connection, sql.DELETE_COMMUNITY, {"id": community_id}) == 0:
            raise no_such("community", community_id)
        run(connection, sql.REMOVE_BINDINGS_ON, {"resource_id": community_id})
        run(connection, sql.DELETE_OPERATIONS_OF_COMMUNITY, {"community_id": community_id})
        store_operation(connection, operation)
        return ()

    return work


def delete_project(project_id: str, operation: Row) -> Work[Removal]:
    """Remove a project without live jobs and all that is its own."""

    def work(connection: Connection) -> Removal:
        named: Row = {"project_id": project_id}
        if live := _column(connection, sql.LIVE_JOBS, named):
            return Removal(live=live)
        attempts = _column(connection, sql.ATTEMPTS_OF_PROJECT, named)
        if run(connection, sql.DELETE_PROJECT, named) == 0:
            raise no_such("project", project_id)
        for statement in (
            sql.DELETE_JOBS_OF_PROJECT,
            sql.DELETE_BLOBS_OF_PROJECT,
            sql.DELETE_RESOURCES_OF_PROJECT,
            sql.DELETE_OPERATIONS_OF_PROJECT,
        ):
            run(connection, statement, named)
        run(connection, sql.REMOVE_BINDINGS_ON, {"resource_id": project_id})
        store_operation(connection, operation)
        return Removal(attempts=attempts)

    return work


def append_audit(row: Row) -> Work[None]:
    """One more row of the audit log."""

    def work(connection: Connection) -> None:
        run(connection, sql.ADD_AUDIT, row)

    return work


def cut_audit(before: int) -> Work[int]:
    """Take the rows before a time away, from the oldest on, up to the first that is younger; how many those were."""

    def work(connection: Connection) -> int:
        gone: list[int] = []
        for seq, at in connection.execute(sql.OLDEST_AUDIT.sql):
            if at >= before or len(gone) == _CUT_AT_ONCE:
                break
            gone.append(seq)
        # One by one: only the oldest may go.
        for seq in gone:
            run(connection, sql.CUT_AUDIT, {"gone": seq})
        return len(gone)

    return work


def _own(connection: Connection, owner: Row | None, operation: Row | None) -> None:
    if owner is not None:
        _require_account(connection, owner["account_id"])
        run(connection, sql.ADD_BINDING, owner)
    _store_optional(connection, operation)


def _store_optional(connection: Connection, operation: Row | None) -> None:
    if operation is not None:
        store_operation(connection, operation)


def _require_account(connection: Connection, account_id: object) -> None:
    if _absent(connection, sql.GET_ACCOUNT, str(account_id)):
        raise no_such("account", str(account_id))


def _absent(connection: Connection, statement: Statement, id_: str) -> bool:
    return connection.execute(statement.sql, (id_,)).fetchone() is None


def _column(connection: Connection, statement: Statement, values: Row) -> tuple[str, ...]:
    return tuple(row[0] for row in connection.execute(statement.sql, statement.bind(values)))
