"""The secrets of projects: set, list and delete. A value goes in and never comes out."""

from __future__ import annotations

from jobsphere.domain.access import Action
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.job import Job
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import Sealer
from jobsphere.domain.resources import DockerImage, Resource, S3Connector, Secret, SparkConnector, check_secret
from jobsphere.service.resources import Backing, Resources


class Secrets(Resources[Secret]):
    """What can be done with secrets."""

    def __init__(self, backing: Backing, sealer: Sealer) -> None:
        super().__init__(Secret, backing)
        self._sealer = sealer

    async def set(self, who: Subject, project_id: str, name: str, value: str) -> Resource[Secret]:
        """Make the secret, or give it another value: jobs that start from now on get it.

        Raises:
            NotFoundError: no such project.
            InvalidArgumentError: the name or the value cannot be a variable's.
            ResourceExhaustedError: the project has as many as it may.
        """
        await self._backing.access.project(who, project_id, Action.RESOURCE_CHANGE)
        check_secret(name, value)
        body = Secret(self._sealer.seal(project_id, value), self._backing.clock.now())
        return await self._set(who, project_id, name, lambda _: body)

    async def holds(self, who: Subject, project_id: str, name: str, value: str) -> bool:
        """Whether that is the secret's value.

        Raises:
            NotFoundError: no such project, or no such secret.
            CorruptedError: none of the keys opens it.
        """
        found = await self.find(who, project_id, name, Action.RESOURCE_CHANGE)
        return self._sealer.holds(project_id, found.body.sealed, value)

    async def _check_unused(self, resource: Resource[Secret]) -> None:
        """Every live job of the project has it as a variable; in use is what is named.

        Raises:
            FailedPreconditionError: by a live job, by an image, or by a connector.
        """
        names, resources = (resource.name, resource.id), self._backing.resources
        images = await resources.list_resources(DockerImage, resource.project_id)
        connectors = await resources.list_resources(S3Connector, resource.project_id)
        users = [f"image {i.name!r}" for i in images if i.body.password_secret in names]
        users += [
            f"S3 connector {c.name!r}"
            for c in connectors
            if c.body.access_key_secret in names or c.body.secret_key_secret in names
        ]
        sparks = await resources.list_resources(SparkConnector, resource.project_id)
        users += [f"Spark connector {s.name!r}" for s in sparks if any(n in names for _, n in s.body.secret_params)]
        if users:
            raise FailedPreconditionError(f"secret {resource.name!r} is named by the {users[0]}; delete that first")
        await super()._check_unused(resource)

    def _uses(self, job: Job, resource: Resource[Secret]) -> bool:
        image = job.spec.env.docker_image_spec
        return image is not None and image.password_ds_secret_name in (resource.name, resource.id)
