"""The operator's desk: what concerns teams and access rather than single jobs.

A server has one; so has each of the operator's commands, which works beside a running server or without one. What a
command changes is written to the audit log as a call is.
"""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jobsphere.api.errors import code_of
from jobsphere.blob.datasets import FOLDER as DATASETS
from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.project_disk import ProjectDisk
from jobsphere.config import Settings, load
from jobsphere.domain.access_ports import AccountStore
from jobsphere.domain.capacity import NodeCapacity
from jobsphere.domain.node_ports import Nodes, OneNode
from jobsphere.domain.ports import BlobStore
from jobsphere.domain.resource import Subject
from jobsphere.runner.directories import Takers
from jobsphere.runner.local import LocalRunner
from jobsphere.service.access import Access
from jobsphere.service.accounts import Accounts
from jobsphere.service.audit import OK, Audit
from jobsphere.service.communities import Communities
from jobsphere.service.data import JobData
from jobsphere.service.grants import Grants
from jobsphere.service.identity import operator
from jobsphere.service.projects import Projects
from jobsphere.service.trail import begin
from jobsphere.store.access import SqlAccounts, SqlAudit, SqlTeams
from jobsphere.store.jobs import SqlJobStore
from jobsphere.system import RandomIds, SystemClock
from jobsphere.wiring.blobs import blobs_of
from jobsphere.wiring.database import open_store

T = TypeVar("T")
ORIGIN = "command line"
CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Desk:
    """The use cases of teams and access."""

    access: Access
    projects: Projects
    communities: Communities
    grants: Grants
    accounts: Accounts
    audit: Audit
    account_store: AccountStore


def local_subject() -> Subject:
    """The operator: the user that this process runs as."""
    try:
        return operator(getpass.getuser())
    except (KeyError, OSError):
        return operator(f"uid-{os.getuid()}")


def desk_of(store: SqlJobStore, drop: Callable[[str, Sequence[str]], Awaitable[None]]) -> Desk:
    """The desk of an open store. ``drop``: frees the files of a project that is deleted, and of those attempts."""
    clock, ids = SystemClock(), RandomIds()
    teams, accounts = store.beside(SqlTeams), store.beside(SqlAccounts)
    access = Access(store, teams, accounts)
    communities = Communities(teams, access, clock, ids)
    return Desk(
        access,
        Projects(store, teams, communities, access, drop, clock, ids),
        communities,
        Grants(accounts, access, clock, ids),
        Accounts(accounts, clock, ids),
        Audit(store.beside(SqlAudit), clock),
        accounts,
    )


def dropping(store: SqlJobStore, data_dir: Path) -> Callable[[str, Sequence[str]], Awaitable[None]]:
    """What frees the files of a project that a command deletes."""

    async def drop(project_id: str, attempts: Sequence[str]) -> None:
        settings = load({"data_dir": data_dir})
        blobs = blobs_of(settings, settings.node_dir, store).store
        async with AsyncExitStack() as stack:
            nodes = await _nodes_of(settings, blobs, stack)
            data = JobData(store, blobs, nodes, SystemClock())
            await drop_files(data, settings.shared, project_id, attempts)

    return drop


async def _nodes_of(settings: Settings, blobs: BlobStore, stack: AsyncExitStack) -> Nodes:
    from jobsphere.wiring.cluster import is_cluster, open_nodes  # it needs the key, which needs this module

    if is_cluster(settings) and not settings.slurm_partition:
        return await open_nodes(settings, stack)
    runner = LocalRunner(settings.node_dir, "", (), Takers(blobs, LocalDatasets(settings.shared / DATASETS)))
    stack.push_async_callback(runner.close)
    return OneNode(runner, NodeCapacity(0, 0))


async def drop_files(data: JobData, shared: Path, project_id: str, attempts: Sequence[str]) -> None:
    """Free all files of a project that is deleted: those of its jobs, its datasets, its disk. May be repeated."""
    await data.drop(project_id, attempts)
    await LocalDatasets(shared / DATASETS).drop(project_id)
    await asyncio.to_thread(ProjectDisk(shared, project_id).drop)


async def default_project_id(data_dir: Path) -> str:
    """The id of the default project."""
    return (await read(data_dir, lambda desk, who: desk.projects.ensure_default(who))).id


async def read(data_dir: Path, work: Callable[[Desk, Subject], Awaitable[T]]) -> T:
    """Do some reading as the operator: ``work(desk, operator)``."""
    async with opened(data_dir) as (_, desk):
        await desk.projects.ensure_default(local_subject())
        return await work(desk, local_subject())


async def change(
    data_dir: Path, action: str, ids: Sequence[tuple[str, str]], work: Callable[[Desk, Subject], Awaitable[T]]
) -> T:
    """Do something as the operator, and write it to the audit log, whatever becomes of it.

    Args:
        data_dir: The data directory, whose server may run.
        action: What it is called there.
        ids: What it is done to, by name.
        work: ``work(desk, operator)``.
    """
    async with opened(data_dir) as (_, desk):
        await desk.projects.ensure_default(local_subject())
        async with audited(desk, action, ids):
            return await work(desk, local_subject())


@asynccontextmanager
async def audited(
    desk: Desk, action: str, ids: Sequence[tuple[str, str]], who: Subject | None = None, origin: str = ORIGIN
) -> AsyncGenerator[None]:
    """Write what ``who`` (None: the operator) does meanwhile to the audit log, whatever becomes of it; as above."""
    trail, result = begin(), CANCELLED
    try:
        yield
        result = OK
    except Exception as error:
        result = code_of(error).name
        raise
    finally:
        await desk.audit.record(who or local_subject(), action, ids, trail, origin, result)


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncGenerator[tuple[SqlJobStore, Desk]]:
    """The store of a data directory, whose server may run, and its desk."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = await open_store(load({"data_dir": data_dir}), data_dir)
    try:
        yield store, desk_of(store, dropping(store, data_dir))
    finally:
        await store.close()
