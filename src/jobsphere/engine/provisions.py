"""What a job gets from its project besides its own files: looked up at the launch, as it is then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from jobsphere.domain.attempt import ImagePlan, Mount, S3Mode, S3Mount
from jobsphere.domain.command import DATASETS, PROJECT_DISK, S3
from jobsphere.domain.errors import CorruptedError, FailedPreconditionError, JobsphereError, NotFoundError
from jobsphere.domain.job import Job, Phase
from jobsphere.domain.limits import PROJECT_HOME
from jobsphere.domain.ports import Images
from jobsphere.domain.resource_ports import (
    DatasetFiles,
    ResourceStore,
    find_connector,
    find_dataset,
    find_spark,
    sealed_secret,
)
from jobsphere.domain.resources import Secret
from jobsphere.domain.spark import SparkPlan

_FOR_GOOD = (FailedPreconditionError, NotFoundError, CorruptedError)


@dataclass(frozen=True, slots=True)
class Provision:
    """The part of a plan that comes from resources. ``secrets``: name and sealed value."""

    image: ImagePlan | None = None
    secrets: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    mask_secrets: bool = False
    mounts: tuple[Mount, ...] = ()
    s3_mounts: tuple[S3Mount, ...] = ()
    s3_mode: S3Mode = S3Mode.AUTO
    spark: SparkPlan | None = None


class ProvisionError(Exception):
    """The job can never have what it asks for; the text is for the user. ``phase``: the part of its way that fails."""

    def __init__(self, phase: Phase, error: JobsphereError) -> None:
        super().__init__(error.public)
        self.phase = phase


class Provisioner:
    """Finds what jobs get.

    Args:
        resources: Where the projects' resources are.
        images: The images that jobs may run in.
        disk: The folder, on the node, of a project's disk; made if it is not there.
        datasets: Where the content of datasets is.
        mask_secrets: Whether secrets are kept out of the jobs' logs.
        s3_mode: How jobs get at buckets.
    """

    def __init__(
        self,
        resources: ResourceStore,
        images: Images,
        disk: Callable[[str], Path],
        datasets: DatasetFiles,
        mask_secrets: bool = False,
        s3_mode: S3Mode = S3Mode.AUTO,
    ) -> None:
        self._resources = resources
        self._images = images
        self._disk = disk
        self._datasets = datasets
        self._mask_secrets = mask_secrets
        self._s3_mode = s3_mode

    async def provide(self, job: Job) -> Provision:
        """What the job gets now.

        Raises:
            ProvisionError: something of it is gone for good.
            UnavailableError: it cannot be told now; try again.
        """
        try:
            image = await self._images.plan(job.project_id, job.spec)
        except _FOR_GOOD as error:
            raise ProvisionError(Phase.IMAGE, error) from error
        try:
            secrets = await self._secrets(job)
        except _FOR_GOOD as error:
            raise ProvisionError(Phase.ENVIRONMENT, error) from error
        try:
            mounts = [mount async for mount in self._mounts(job)]
            buckets = [await self._bucket(job, connector_id) for connector_id in job.spec.s3_mount_ids]
            spark = await self._spark(job)
        except _FOR_GOOD as error:
            raise ProvisionError(Phase.STAGE, error) from error
        return Provision(image, secrets, self._mask_secrets, tuple(mounts), tuple(buckets), self._s3_mode, spark)

    async def _mounts(self, job: Job) -> AsyncIterator[Mount]:
        for dataset_id in job.spec.dataset_ids:
            dataset = await find_dataset(self._resources, job.project_id, dataset_id)
            await self._datasets.used(job.project_id, dataset.id)
            source = str(self._datasets.folder(job.project_id, dataset.id))
            yield Mount(source, f"{DATASETS}/{dataset.id}", (dataset.id,))
        if job.spec.attach_project_disk:
            yield Mount(str(self._disk(job.project_id)), PROJECT_DISK, variable=PROJECT_HOME)

    async def _bucket(self, job: Job, connector_id: str) -> S3Mount:
        connector = await find_connector(self._resources, job.project_id, connector_id)
        body, where = connector.body, f"S3 connector {connector.name!r}"
        access, secret = [
            await sealed_secret(self._resources, job.project_id, name, where) if name else ""
            for name in (body.access_key_secret, body.secret_key_secret)
        ]
        return S3Mount(
            connector.id,
            connector.name,
            f"{S3}/{connector.id}",
            body.bucket,
            body.endpoint,
            body.region,
            body.prefix,
            access,
            secret,
            body.read_only,
        )

    async def _spark(self, job: Job) -> SparkPlan | None:
        if not job.spec.spark_connector_id:
            return None
        connector = await find_spark(self._resources, job.project_id, job.spec.spark_connector_id)
        body, where = connector.body, f"Spark connector {connector.name!r}"
        sealed = [
            (param, await sealed_secret(self._resources, job.project_id, secret, where))
            for param, secret in body.secret_params
        ]
        return SparkPlan(connector.name, body.mode, body.host, body.params, tuple(sealed))

    async def _secrets(self, job: Job) -> tuple[tuple[str, str], ...]:
        """All of the project's but those that the job sets a variable of its own for."""
        own = {name for name, _ in job.spec.env.vars}
        found = await self._resources.list_resources(Secret, job.project_id)
        return tuple((secret.name, secret.body.sealed) for secret in found if secret.name not in own)
