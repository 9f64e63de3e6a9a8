"""The secrets of projects: set, list and delete. A value goes in and never comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jobsphere.domain.errors import AlreadyExistsError, NotFoundError, ResourceExhaustedError
from jobsphere.domain.job import LIVE_STATUSES, Job
from jobsphere.domain.ports import Clock, Ids, JobStore
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import ResourceStore, Sealer
from jobsphere.domain.resources import MAX_SECRETS, Resource, Secret, check_secret, check_unused
from jobsphere.service.access import Access


class Secrets:
    """What can be done with secrets. ``jobs`` tells who uses them."""

    def __init__(
        self, resources: ResourceStore, jobs: JobStore, access: Access, sealer: Sealer, clock: Clock, ids: Ids
    ) -> None:
        self._resources = resources
        self._jobs = jobs
        self._access = access
        self._sealer = sealer
        self._clock = clock
        self._ids = ids

    async def set(self, who: Subject, project_id: str, name: str, value: str) -> Resource[Secret]:
        """Make the secret, or give it another value: jobs that start from now on get it.

        Raises:
            NotFoundError: no such project.
            InvalidArgumentError: the name or the value cannot be a variable's.
            ResourceExhaustedError: the project has as many as it may.
        """
        await self._access.project(who, project_id)
        check_secret(name, value)
        sealed = self._sealer.seal(project_id, value)
        while True:
            try:
                was = await self._resources.find_resource(Secret, project_id, name)
            except NotFoundError:
                new = await self._new(who, project_id, name, sealed)
                try:
                    await self._resources.add_resource(new)
                except AlreadyExistsError:
                    continue  # somebody was first
                return new
            body = Secret(sealed, self._clock.now())
            changed = replace(was, body=body, version=was.version + 1)
            if await self._resources.update_resource(changed, was):
                return changed

    async def all(self, who: Subject, project_id: str) -> Sequence[Resource[Secret]]:
        """The project's secrets, oldest first.

        Raises:
            NotFoundError: no such project.
        """
        await self._access.project(who, project_id)
        return await self._resources.list_resources(Secret, project_id)

    async def delete(self, who: Subject, project_id: str, name: str) -> None:
        """Remove the secret. Programs that run keep the variable that they were started with.

        Raises:
            NotFoundError: no such project, or no such secret.
            FailedPreconditionError: live jobs name it; the text says which.
        """
        await self._access.project(who, project_id)
        while True:
            was = await self._resources.find_resource(Secret, project_id, name)
            live = await self._jobs.jobs_in(LIVE_STATUSES)
            check_unused(f"secret {name!r}", (job for job in live if _names(job, was)))
            if await self._resources.delete_resource(was):
                return

    async def _new(self, who: Subject, project_id: str, name: str, sealed: str) -> Resource[Secret]:
        if len(await self._resources.list_resources(Secret, project_id)) >= MAX_SECRETS:
            raise ResourceExhaustedError(f"the project has {MAX_SECRETS} secrets, as many as it may; delete one first")
        now = self._clock.now()
        return Resource(self._ids.new(), project_id, name, now, who.id, Secret(sealed, now))


def _names(job: Job, secret: Resource[Secret]) -> bool:
    image = job.spec.env.docker_image_spec
    named = image.password_ds_secret_name if image else ""
    return job.project_id == secret.project_id and named in (secret.name, secret.id)
