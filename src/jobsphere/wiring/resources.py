"""What the operator's commands about resources are put together from; they run beside a server or without one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from jobsphere.blob.datasets import FOLDER as DATASETS
from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.project_disk import Entry, ProjectDisk
from jobsphere.blob.usage import WalkedBlobBytes, WalkedDiskBytes
from jobsphere.config import load, shared_of
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.job import JobStatus
from jobsphere.domain.quota import Quota, Usage
from jobsphere.domain.resource import Subject
from jobsphere.domain.resources import Dataset, Resource, check_unused
from jobsphere.secretbox import KEY_VARIABLE, Keys, new_key
from jobsphere.service.connectors import Connectors
from jobsphere.service.datasets import Datasets
from jobsphere.service.images import ImageResources
from jobsphere.service.quotas import Quotas
from jobsphere.service.resealing import Resealed, reseal
from jobsphere.service.resources import Backing
from jobsphere.service.secrets import Secrets
from jobsphere.service.sparks import Sparks
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.usage import SqlJobCounts
from jobsphere.system import RandomIds, SystemClock
from jobsphere.wiring.desk import Desk, audited, local_subject, opened
from jobsphere.wiring.keys import secret_key
from jobsphere.wiring.parts import keys_of, quota_of

T = TypeVar("T")
Work: TypeAlias = "Callable[[Operator, Subject, str], Awaitable[T]]"


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator's hands on resources: the use cases of one data directory, as a server has them.

    ``shared``: the folder of all servers of its database.
    """

    shared: Path
    store: SqlJobStore
    keys: Keys
    desk: Desk
    secrets: Secrets
    images: ImageResources
    datasets: Datasets
    connectors: Connectors
    sparks: Sparks
    quotas: Quotas

    async def project_id(self, named: str) -> str:
        """The project that a command names, else the default one."""
        return named or (await self.desk.projects.ensure_default(local_subject())).id


@asynccontextmanager
async def operator_of(data_dir: Path) -> AsyncGenerator[Operator]:
    """The operator at a data directory, whose server may run."""
    settings = load({"data_dir": data_dir})
    shared = settings.shared
    secret_key(shared)  # made if it is not there
    keys = keys_of(settings)
    async with opened(data_dir) as (store, desk):
        quotas = Quotas(
            quota_of(settings),
            store,
            store.beside(SqlJobCounts),
            WalkedBlobBytes(shared / "blobs"),
            store.resources,
            WalkedDiskBytes(shared),
        )
        backing = Backing(store.resources, store, desk.access, SystemClock(), RandomIds())
        yield Operator(
            shared,
            store,
            keys,
            desk,
            Secrets(backing, keys),
            ImageResources(backing, keys),
            Datasets(backing, LocalDatasets(shared / DATASETS), quotas),
            Connectors(backing),
            Sparks(backing),
            quotas,
        )


async def read(data_dir: Path, project_id: str, work: Work[T]) -> T:
    """Do some reading in a project (by default the first one) as the operator: ``work(operator, who, project)``."""
    async with operator_of(data_dir) as op:
        return await work(op, local_subject(), await op.project_id(project_id))


async def change(data_dir: Path, action: str, project_id: str, named: str, work: Work[T]) -> T:
    """Do something in a project as the operator, and write it to the audit log, whatever becomes of it.

    Args:
        data_dir: The data directory, whose server may run.
        action: What it is called there.
        project_id: The project; by default the first one.
        named: What it is done to.
        work: ``work(operator, who, project)``.
    """
    async with operator_of(data_dir) as op:
        project = await op.project_id(project_id)
        async with audited(op.desk, action, [("project_id", project), ("name", named)]):
            return await work(op, local_subject(), project)


async def show_dataset(data_dir: Path, project_id: str, named: str) -> tuple[Resource[Dataset], Path]:
    """A dataset of a project, and where its files are."""
    found = await read(data_dir, project_id, lambda op, who, project: op.datasets.find(who, project, named))
    return found, LocalDatasets(shared_of(data_dir) / DATASETS).folder(found.project_id, found.id)


async def read_disk(data_dir: Path, project_id: str, work: Callable[[ProjectDisk], T]) -> T:
    """Read from the disk of a project.

    Raises:
        NotFoundError: no such project.
    """

    async def on_disk(op: Operator, who: Subject, project: str) -> T:
        return work(await _disk(op, who, project))

    return await read(data_dir, project_id, on_disk)


async def put_on_disk(data_dir: Path, project_id: str, source: Path, path: str) -> list[Entry]:
    """Put files on the disk of a project: those that it has now; see :meth:`ProjectDisk.put`.

    Raises:
        NotFoundError: no such project.
        ResourceExhaustedError: no room, or the project would have more than it may.
    """

    async def put(op: Operator, who: Subject, project: str) -> list[Entry]:
        disk = await _disk(op, who, project)
        async with op.quotas.adding(project, max(disk.growth(source, path), 0)):
            return disk.put(source, path)

    return await change(data_dir, "jobsphere project disk put", project_id, path, put)


async def project_usage(data_dir: Path, project_id: str) -> tuple[Quota, Usage]:
    """What a project may have, and what it has.

    Raises:
        NotFoundError: no such project.
    """

    async def look(op: Operator, who: Subject, project: str) -> tuple[Quota, Usage]:
        found = (await op.desk.projects.get(who, project)).id
        return await op.quotas.of(found), await op.quotas.usage(found)

    return await read(data_dir, project_id, look)


async def change_disk(data_dir: Path, project_id: str, verb: str, path: str, work: Callable[[ProjectDisk], T]) -> T:
    """Change something on the disk of a project, by the command ``verb``.

    Raises:
        NotFoundError: no such project.
    """

    async def on_disk(op: Operator, who: Subject, project: str) -> T:
        return work(await _disk(op, who, project))

    return await change(data_dir, f"jobsphere project disk {verb}", project_id, path, on_disk)


async def _disk(op: Operator, who: Subject, project_id: str) -> ProjectDisk:
    return ProjectDisk(op.shared, (await op.desk.projects.get(who, project_id)).id)


async def rotate_keys(data_dir: Path, *, fresh: bool, drop_old: bool) -> Resealed:
    """Seal everything with the first key; ``fresh``: make one first; ``drop_old``: take the others out of the file.

    Raises:
        FailedPreconditionError: the keys are not in a file, or jobs that are about to start need an old one.
    """

    async def rotate(op: Operator, _: Subject, __: str) -> Resealed:
        keys = op.keys
        if keys.by_variable and (fresh or drop_old):
            raise FailedPreconditionError(
                f"the keys come from the variable {KEY_VARIABLE}: put a new one before the others in it, start the "
                "server and this command with it, and leave the others out once `secret rotate-keys` is through"
            )
        if fresh:
            keys.replace_file([new_key(), *(keys.in_file() if keys.file.exists() else ())])
        done = await reseal(op.store.resources, op.store, keys.box())
        if drop_old:
            check_unused("an old key", await op.store.jobs_in([JobStatus.PREPARING]))
            keys.replace_file(keys.in_file()[:1])
        return done

    return await change(data_dir, "jobsphere secret rotate-keys", "", "", rotate)
