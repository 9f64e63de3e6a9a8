"""The queries of access control; compiled with the others, see :mod:`jobsphere.store.queries`."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table, and_, bindparam, delete, insert, literal_column, select, update

from jobsphere.store.access_tables import accounts, audit, bindings, communities, credentials
from jobsphere.store.query import Query, names
from jobsphere.store.tables import LIVE, job_blobs, jobs, operations, projects, resources

# Accounts, tokens, roles.

_ACCOUNT = (
    accounts.c.id,
    accounts.c.name,
    accounts.c.kind,
    accounts.c.created_at,
    accounts.c.created_by_id,
    accounts.c.external_id,
)
_CREDENTIAL = (
    credentials.c.id,
    credentials.c.account_id,
    credentials.c.name,
    credentials.c.created_at,
    credentials.c.expires_at,
)
_BINDING = (bindings.c.resource_id, bindings.c.account_id, bindings.c.role_id)
_HOLDER = select(*_ACCOUNT, *_CREDENTIAL).select_from(
    credentials.join(accounts, accounts.c.id == credentials.c.account_id)
)

ADD_ACCOUNT = Query(insert(accounts), names(*accounts.c))
GET_ACCOUNT = Query(select(*_ACCOUNT).where(accounts.c.id == bindparam("id")))
ACCOUNT_OF = Query(select(*_ACCOUNT).where(accounts.c.external_id == bindparam("external_id")))
LIST_ACCOUNTS = Query(select(*_ACCOUNT).order_by(accounts.c.seq))
REMOVE_ACCOUNT = Query(delete(accounts).where(accounts.c.id == bindparam("account_id")))
REMOVE_CREDENTIALS_OF = Query(delete(credentials).where(credentials.c.account_id == bindparam("account_id")))
REMOVE_BINDINGS_OF = Query(delete(bindings).where(bindings.c.account_id == bindparam("account_id")))

ADD_CREDENTIAL = Query(insert(credentials), names(*credentials.c))
HOLDER = Query(_HOLDER.where(credentials.c.sha256 == bindparam("sha256")))
HOLDER_OF = Query(_HOLDER.where(credentials.c.id == bindparam("id")))
LIST_CREDENTIALS = Query(select(*_CREDENTIAL).order_by(credentials.c.seq))
LIST_CREDENTIALS_OF = Query(
    select(*_CREDENTIAL).where(credentials.c.account_id == bindparam("account_id")).order_by(credentials.c.seq)
)
REMOVE_CREDENTIAL = Query(delete(credentials).where(credentials.c.id == bindparam("id")))

ADD_BINDING = Query(insert(bindings), names(*bindings.c), unless_there=True)
BINDINGS_OF = Query(select(*_BINDING).where(bindings.c.account_id == bindparam("account_id")))
BINDINGS_ON = Query(select(*_BINDING).where(bindings.c.resource_id == bindparam("resource_id")))
REMOVE_BINDING = Query(delete(bindings).where(*(column == bindparam(column.name) for column in bindings.c)))
REMOVE_BINDINGS_ON = Query(delete(bindings).where(bindings.c.resource_id == bindparam("resource_id")))

# Communities and projects.

_COMMUNITY = (
    communities.c.id,
    communities.c.name,
    communities.c.created_at,
    communities.c.created_by_id,
    communities.c.description,
    communities.c.details,
)
_CHANGING = ("name", "description", "details")


def _same_as_before(table: Table) -> ColumnElement[bool]:
    return and_(table.c.id == bindparam("was_id"), *(table.c[name] == bindparam(f"was_{name}") for name in _CHANGING))


ADD_COMMUNITY = Query(insert(communities), names(*communities.c))
GET_COMMUNITY = Query(select(*_COMMUNITY).where(communities.c.id == bindparam("id")))
LIST_COMMUNITIES = Query(select(*_COMMUNITY).order_by(communities.c.seq))
UPDATE_COMMUNITY = Query(update(communities).where(_same_as_before(communities)), _CHANGING)
DELETE_COMMUNITY = Query(delete(communities).where(communities.c.id == bindparam("id")))
DELETE_OPERATIONS_OF_COMMUNITY = Query(delete(operations).where(operations.c.community_id == bindparam("community_id")))
PROJECT_NAMES = Query(select(projects.c.name).where(projects.c.community_id == bindparam("community_id")))

UPDATE_PROJECT = Query(update(projects).where(_same_as_before(projects)), _CHANGING)
DELETE_PROJECT = Query(delete(projects).where(projects.c.id == bindparam("project_id")))
LIVE_JOBS = Query(select(jobs.c.id).where(LIVE, jobs.c.project_id == bindparam("project_id")))
ATTEMPTS_OF_PROJECT = Query(
    select(jobs.c.attempt_id).where(
        jobs.c.project_id == bindparam("project_id"), jobs.c.attempt_id != literal_column("''")
    )
)
DELETE_JOBS_OF_PROJECT = Query(delete(jobs).where(jobs.c.project_id == bindparam("project_id")))
DELETE_BLOBS_OF_PROJECT = Query(delete(job_blobs).where(job_blobs.c.project_id == bindparam("project_id")))
DELETE_RESOURCES_OF_PROJECT = Query(delete(resources).where(resources.c.project_id == bindparam("project_id")))
DELETE_OPERATIONS_OF_PROJECT = Query(delete(operations).where(operations.c.project_id == bindparam("project_id")))

# The audit log.

_ROW = (
    audit.c.at,
    audit.c.subject_id,
    audit.c.subject_name,
    audit.c.action,
    audit.c.project_id,
    audit.c.target,
    audit.c.origin,
    audit.c.result,
    audit.c.request_id,
    audit.c.seq,
)
_NEWEST_FIRST = (
    select(*_ROW)
    .where(audit.c.seq < bindparam("before"), audit.c.at >= bindparam("since"))
    .order_by(audit.c.seq.desc())
)

OLDEST_AUDIT = Query(select(audit.c.seq, audit.c.at).order_by(audit.c.seq.asc()), cut=True)
CUT_AUDIT = Query(delete(audit).where(audit.c.seq == bindparam("gone")))
ADD_AUDIT = Query(insert(audit), names(*audit.c))
AUDIT = Query(_NEWEST_FIRST, cut=True)
AUDIT_OF_PROJECT = Query(_NEWEST_FIRST.where(audit.c.project_id == bindparam("project_id")), cut=True)
