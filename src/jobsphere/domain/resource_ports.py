"""What the service and the engine need for the resources of projects; see :mod:`jobsphere.domain.ports`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from jobsphere.domain.errors import FailedPreconditionError, NotFoundError
from jobsphere.domain.resources import B, Dataset, Resource, S3Connector, Secret, SparkConnector


class ResourceStore(Protocol):
    """The resources of all projects. A write that returned is durable."""

    async def add_resource(self, resource: Resource[B]) -> None:
        """Store a new one.

        Raises:
            AlreadyExistsError: its id, or its name for the kind within the project, is taken.
        """
        ...

    async def update_resource(self, new: Resource[B], was: Resource[B]) -> bool:
        """Replace ``was`` by ``new`` (of the same id, project, kind and name) if the stored version is ``was``'s.

        Returns:
            False if somebody was first, or it is gone: nothing was written; reload and decide again.
        """
        ...

    async def delete_resource(self, was: Resource[B]) -> bool:
        """Remove it; guarded like :meth:`update_resource`."""
        ...

    async def get_resource(self, kind: type[B], resource_id: str) -> Resource[B]:
        """The resource of that id.

        Raises:
            NotFoundError: there is none of that kind.
        """
        ...

    async def find_resource(self, kind: type[B], project_id: str, name: str) -> Resource[B]:
        """The project's resource of that name.

        Raises:
            NotFoundError: there is none of that kind.
        """
        ...

    async def list_resources(self, kind: type[B], project_id: str | None = None) -> Sequence[Resource[B]]:
        """The resources of a kind, oldest first; of all projects if none is named."""
        ...


class Sealer(Protocol):
    """Encrypts what is to be kept from everybody but the node, and from every other project."""

    def seal(self, project_id: str, secret: str) -> str:
        """The secret as ASCII text; no two are the same.

        Raises:
            FailedPreconditionError: the key cannot be had.
        """
        ...

    def holds(self, project_id: str, sealed: str, secret: str) -> bool:
        """Whether that is what was sealed.

        Raises:
            CorruptedError: none of the keys opens it.
            FailedPreconditionError: the key cannot be had.
        """
        ...

    def resealed(self, project_id: str, sealed: str) -> str:
        """The same secret sealed with the key that seals now; ``sealed`` itself if it is that already.

        Raises:
            CorruptedError: none of the keys opens it.
            FailedPreconditionError: the key cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """How much a dataset holds."""

    size_bytes: int
    files: int


class DatasetFiles(Protocol):
    """The content of datasets on the node. Once there it never changes, and whatever user a job runs as can read it."""

    def folder(self, project_id: str, dataset_id: str) -> Path:
        """Where it is, or would be."""
        ...

    async def take(self, project_id: str, dataset_id: str, sources: Sequence[Path]) -> Content:
        """Copy files, folders or an archive of this host: durable and whole on return, or not there.

        Of one folder, or one archive (ZIP or tar), it is what is in it; several sources keep their names.

        Raises:
            NotFoundError: a source is not there.
            InvalidArgumentError: a link, a device, a path that leads out, or two things of one name.
            ResourceExhaustedError: no room.
        """
        ...

    async def holds(self, project_id: str, dataset_id: str, folder: Path) -> bool:
        """Whether its content is that of a folder of this host, to the byte.

        Raises:
            NotFoundError: there is no such folder.
            InvalidArgumentError: there is what no dataset can hold in it.
        """
        ...

    async def adopt(self, project_id: str, dataset_id: str, folder: Path) -> None:
        """Take over a folder of this host, durably. After a crash it may be repeated, and the folder be gone.

        Raises:
            NotFoundError: neither the folder nor the dataset is there.
        """
        ...

    async def remove(self, project_id: str, dataset_id: str) -> None:
        """Free its bytes."""
        ...

    def making(self, project_id: str) -> AbstractAsyncContextManager[None]:
        """Meanwhile no :meth:`sweep` takes what was put in place, and has no name yet, for what a crash left."""
        ...

    async def used(self, project_id: str, dataset_id: str) -> None:
        """Note that it is used now. Nothing if it is gone."""
        ...

    async def last_used(self, project_id: str, dataset_id: str) -> datetime | None:
        """When it was used last, or made if it never was; None if it is gone."""
        ...

    async def projects(self) -> Sequence[str]:
        """The ids of all projects that may hold a dataset."""
        ...

    async def sweep(self, project_id: str, wanted: Callable[[], Awaitable[set[str]]]) -> bool:
        """Remove what a crash left of datasets that are not ``wanted``, which is asked after a look at what is there.

        Returns:
            False if somebody is making one just now: nothing was done.
        """
        ...

    async def drop(self, project_id: str) -> None:
        """Free all bytes of a project that is gone."""
        ...


async def find_dataset(resources: ResourceStore, project_id: str, dataset_id: str) -> Resource[Dataset]:
    """The project's dataset of that id.

    Raises:
        FailedPreconditionError: it has none; what to do.
    """
    return await _find(resources, Dataset, project_id, dataset_id, "dataset_ids", "dataset")


async def find_connector(resources: ResourceStore, project_id: str, connector_id: str) -> Resource[S3Connector]:
    """The project's S3 connector of that id.

    Raises:
        FailedPreconditionError: it has none, or that one is not active; what to do.
    """
    found = await _find(resources, S3Connector, project_id, connector_id, "s3_mount_ids", "s3")
    if not found.body.active:
        raise FailedPreconditionError(
            f"s3_mount_ids: the S3 connector {found.name!r} is not active; "
            f"`jobsphere s3 activate {found.name} --project {project_id}` makes it so"
        )
    return found


async def find_spark(resources: ResourceStore, project_id: str, connector_id: str) -> Resource[SparkConnector]:
    """The project's Spark connector of that id.

    Raises:
        FailedPreconditionError: it has none; what to do.
    """
    where = "spark_parameters.connector_id"
    return await _find(resources, SparkConnector, project_id, connector_id, where, "spark")


async def sealed_secret(resources: ResourceStore, project_id: str, named: str, where: str) -> str:
    """The sealed value of the project's secret of that name or id.

    Raises:
        FailedPreconditionError: there is none; ``where`` says who asked.
    """
    for secret in await resources.list_resources(Secret, project_id):
        if named in (secret.name, secret.id):
            return secret.body.sealed
    raise FailedPreconditionError(
        f"{where}: the project has no secret {named!r}; "
        f"set it with `jobsphere secret set {named} --project {project_id}`"
    )


async def _find(
    resources: ResourceStore, kind: type[B], project_id: str, resource_id: str, where: str, command: str
) -> Resource[B]:
    try:
        found = await resources.get_resource(kind, resource_id)
    except NotFoundError:
        found = None
    if found is None or found.project_id != project_id:
        raise FailedPreconditionError(
            f"{where}: the project has no {kind.KIND} {resource_id!r}; `jobsphere {command} list` shows those it has"
        )
    return found
