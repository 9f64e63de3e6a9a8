"""The images of a project's jobs: what its own resources say, before the container engine is asked."""

from __future__ import annotations

from dataclasses import replace

from jobsphere.domain.attempt import ImagePlan
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.job import JobSpec
from jobsphere.domain.ports import Images
from jobsphere.domain.resource_ports import ResourceStore
from jobsphere.domain.resources import Secret


class ProjectImages:
    """The :class:`jobsphere.domain.ports.Images` that jobs are given.

    Args:
        engine: The images of the host, which know nothing of projects.
        resources: Where the projects' secrets are.
    """

    def __init__(self, engine: Images, resources: ResourceStore) -> None:
        self._engine = engine
        self._resources = resources

    async def accept(self, project_id: str, spec: JobSpec) -> JobSpec:
        """See :meth:`jobsphere.domain.ports.Images.accept`."""
        await self._password(project_id, spec)
        return await self._engine.accept(project_id, spec)

    async def plan(self, project_id: str, spec: JobSpec) -> ImagePlan | None:
        """See :meth:`jobsphere.domain.ports.Images.plan`."""
        plan = await self._engine.plan(project_id, spec)
        password = await self._password(project_id, spec)
        return replace(plan, password_sealed=password) if plan and password else plan

    async def _password(self, project_id: str, spec: JobSpec) -> str:
        """The sealed password that the spec names, by the secret's name or id; empty if it names none."""
        image = spec.env.docker_image_spec
        name = image.password_ds_secret_name if image else ""
        if not name:
            return ""
        for secret in await self._resources.list_resources(Secret, project_id):
            if name in (secret.name, secret.id):
                return secret.body.sealed
        raise FailedPreconditionError(
            f"env.docker_image_spec.password_ds_secret_name: the project has no secret {name!r}; "
            f"set it with `jobsphere secret set {name} --project {project_id}`"
        )
