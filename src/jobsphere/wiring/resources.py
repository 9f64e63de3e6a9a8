"""What the operator's commands about resources are put together from; they run beside a server or without one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from jobsphere.blob.datasets import FOLDER as DATASETS
from jobsphere.blob.datasets import LocalDatasets
from jobsphere.blob.project_disk import ProjectDisk
from jobsphere.config import load
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.job import JobStatus
from jobsphere.domain.resources import Dataset, DockerImage, Resource, S3Connector, Secret, SparkConnector, check_unused
from jobsphere.secretbox import KEY_VARIABLE, Keys, new_key
from jobsphere.service.connectors import Connectors
from jobsphere.service.datasets import Datasets
from jobsphere.service.images import ImageResources
from jobsphere.service.resealing import Resealed, reseal
from jobsphere.service.resources import Backing
from jobsphere.service.secrets import Secrets
from jobsphere.service.sparks import Sparks
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.system import RandomIds, SystemClock
from jobsphere.wiring.desk import Desk, audited, local_subject, opened
from jobsphere.wiring.keys import secret_key
from jobsphere.wiring.parts import keys_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator's hands on resources: the use cases of one data directory, as a server has them."""

    store: SqliteJobStore
    keys: Keys
    desk: Desk
    secrets: Secrets
    images: ImageResources
    datasets: Datasets
    connectors: Connectors
    sparks: Sparks

    async def project_id(self, named: str) -> str:
        """The project that a command names, else the default one."""
        return named or (await self.desk.projects.ensure_default(local_subject())).id


@asynccontextmanager
async def operator_of(data_dir: Path) -> AsyncGenerator[Operator]:
    """The operator at a data directory, whose server may run."""
    secret_key(data_dir)  # made if it is not there
    keys = keys_of(load({"data_dir": data_dir}), data_dir)
    async with opened(data_dir) as (store, desk):
        backing = Backing(store.resources, store, desk.access, SystemClock(), RandomIds())
        yield Operator(
            store,
            keys,
            desk,
            Secrets(backing, keys),
            ImageResources(backing, keys),
            Datasets(backing, LocalDatasets(data_dir / DATASETS)),
            Connectors(backing),
            Sparks(backing),
        )


@asynccontextmanager
async def _changing(data_dir: Path, action: str, project_id: str, named: str) -> AsyncGenerator[tuple[Operator, str]]:
    """Do something in a project as the operator, and write it to the audit log, whatever becomes of it."""
    async with operator_of(data_dir) as op:
        project_id = await op.project_id(project_id)
        async with audited(op.desk, action, [("project_id", project_id), ("name", named)]):
            yield op, project_id


async def set_secret(data_dir: Path, project_id: str, name: str, value: str) -> Resource[Secret]:
    """Make or change a secret as the operator; see :meth:`jobsphere.service.secrets.Secrets.set`."""
    async with _changing(data_dir, "jobsphere secret set", project_id, name) as (op, project):
        return await op.secrets.set(local_subject(), project, name, value)


async def list_secrets(data_dir: Path, project_id: str) -> Sequence[Resource[Secret]]:
    """The secrets of a project."""
    async with operator_of(data_dir) as op:
        return await op.secrets.all(local_subject(), await op.project_id(project_id))


async def delete_secret(data_dir: Path, project_id: str, name: str) -> None:
    """Remove a secret; see :meth:`jobsphere.service.secrets.Secrets.delete`."""
    async with _changing(data_dir, "jobsphere secret delete", project_id, name) as (op, project):
        await op.secrets.delete(local_subject(), project, name)


async def add_image(
    data_dir: Path, project_id: str, name: str, image: str, username: str, secret: str, password: str
) -> Resource[DockerImage]:
    """Name an image as the operator; see :meth:`jobsphere.service.images.ImageResources.add`."""
    async with _changing(data_dir, "jobsphere image add", project_id, name) as (op, project):
        return await op.images.add(local_subject(), project, name, image, username, secret, password)


async def list_images(data_dir: Path, project_id: str) -> Sequence[Resource[DockerImage]]:
    """The images of a project."""
    async with operator_of(data_dir) as op:
        return await op.images.all(local_subject(), await op.project_id(project_id))


async def delete_image(data_dir: Path, project_id: str, named: str) -> None:
    """Remove an image's name; see :meth:`jobsphere.service.resources.Resources.delete`."""
    async with _changing(data_dir, "jobsphere image delete", project_id, named) as (op, project):
        await op.images.delete(local_subject(), project, named)


async def create_dataset(
    data_dir: Path,
    project_id: str,
    name: str,
    sources: Sequence[Path],
    description: str,
    labels: tuple[tuple[str, str], ...],
) -> Resource[Dataset]:
    """Make a dataset as the operator; see :meth:`jobsphere.service.datasets.Datasets.create`."""
    async with _changing(data_dir, "jobsphere dataset create", project_id, name) as (op, project):
        return await op.datasets.create(local_subject(), project, name, sources, description, labels)


async def list_datasets(data_dir: Path, project_id: str) -> Sequence[Resource[Dataset]]:
    """The datasets of a project."""
    async with operator_of(data_dir) as op:
        return await op.datasets.all(local_subject(), await op.project_id(project_id))


async def show_dataset(data_dir: Path, project_id: str, named: str) -> tuple[Resource[Dataset], Path]:
    """A dataset of a project, and where its files are."""
    async with operator_of(data_dir) as op:
        found = await op.datasets.find(local_subject(), await op.project_id(project_id), named)
        return found, LocalDatasets(data_dir / DATASETS).folder(found.project_id, found.id)


async def delete_dataset(data_dir: Path, project_id: str, named: str) -> None:
    """Remove a dataset; see :meth:`jobsphere.service.datasets.Datasets.delete`."""
    async with _changing(data_dir, "jobsphere dataset delete", project_id, named) as (op, project):
        await op.datasets.delete(local_subject(), project, named)


async def add_connector(data_dir: Path, project_id: str, name: str, connector: S3Connector) -> Resource[S3Connector]:
    """Make a bucket known as the operator; see :meth:`jobsphere.service.connectors.Connectors.add`."""
    async with _changing(data_dir, "jobsphere s3 add", project_id, name) as (op, project):
        return await op.connectors.add(local_subject(), project, name, connector)


async def list_connectors(data_dir: Path, project_id: str) -> Sequence[Resource[S3Connector]]:
    """The S3 connectors of a project."""
    async with operator_of(data_dir) as op:
        return await op.connectors.all(local_subject(), await op.project_id(project_id))


async def activate_connector(data_dir: Path, project_id: str, named: str, *, active: bool) -> None:
    """Let jobs use an S3 connector, or not; see :meth:`jobsphere.service.connectors.Connectors.deactivate`."""
    action = f"jobsphere s3 {'activate' if active else 'deactivate'}"
    async with _changing(data_dir, action, project_id, named) as (op, project):
        act = op.connectors.activate if active else op.connectors.deactivate
        await act(local_subject(), project, named)


async def delete_connector(data_dir: Path, project_id: str, named: str) -> None:
    """Remove an S3 connector; see :meth:`jobsphere.service.resources.Resources.delete`."""
    async with _changing(data_dir, "jobsphere s3 delete", project_id, named) as (op, project):
        await op.connectors.delete(local_subject(), project, named)


async def add_spark(data_dir: Path, project_id: str, name: str, connector: SparkConnector) -> Resource[SparkConnector]:
    """Make a Spark known as the operator; see :meth:`jobsphere.service.sparks.Sparks.add`."""
    async with _changing(data_dir, "jobsphere spark add", project_id, name) as (op, project):
        return await op.sparks.add(local_subject(), project, name, connector)


async def list_sparks(data_dir: Path, project_id: str) -> Sequence[Resource[SparkConnector]]:
    """The Spark connectors of a project."""
    async with operator_of(data_dir) as op:
        return await op.sparks.all(local_subject(), await op.project_id(project_id))


async def show_spark(data_dir: Path, project_id: str, named: str) -> Resource[SparkConnector]:
    """A Spark connector of a project."""
    async with operator_of(data_dir) as op:
        return await op.sparks.find(local_subject(), await op.project_id(project_id), named)


async def delete_spark(data_dir: Path, project_id: str, named: str) -> None:
    """Remove a Spark connector; see :meth:`jobsphere.service.resources.Resources.delete`."""
    async with _changing(data_dir, "jobsphere spark delete", project_id, named) as (op, project):
        await op.sparks.delete(local_subject(), project, named)


async def read_disk(data_dir: Path, project_id: str, work: Callable[[ProjectDisk], T]) -> T:
    """Read from the disk of a project.

    Raises:
        NotFoundError: no such project.
    """
    async with operator_of(data_dir) as op:
        return work(await _disk(op, data_dir, await op.project_id(project_id)))


async def change_disk(data_dir: Path, project_id: str, verb: str, path: str, work: Callable[[ProjectDisk], T]) -> T:
    """Change something on the disk of a project, by the command ``verb``.

    Raises:
        NotFoundError: no such project.
    """
    async with _changing(data_dir, f"jobsphere project disk {verb}", project_id, path) as (op, project):
        return work(await _disk(op, data_dir, project))


async def _disk(op: Operator, data_dir: Path, project_id: str) -> ProjectDisk:
    return ProjectDisk(data_dir, (await op.desk.projects.get(local_subject(), project_id)).id)


async def rotate_keys(data_dir: Path, *, fresh: bool, drop_old: bool) -> Resealed:
    """Seal everything with the first key; ``fresh``: make one first; ``drop_old``: take the others out of the file.

    Raises:
        FailedPreconditionError: the keys are not in a file, or jobs that are about to start need an old one.
    """
    async with _changing(data_dir, "jobsphere secret rotate-keys", "", "") as (op, _):
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
