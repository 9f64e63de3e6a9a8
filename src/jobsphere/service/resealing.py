"""Sealing anew, after a new key: whatever is stored sealed, with the key that seals now.

Each is one guarded write: it may break off anywhere, run beside a server, and be repeated. What is done is not done
again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jobsphere.domain.errors import NotFoundError
from jobsphere.domain.job import Job, JobStatus
from jobsphere.domain.ports import JobStore
from jobsphere.domain.resource_ports import ResourceStore, Sealer
from jobsphere.domain.resources import DockerImage, Resource, Secret


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many there are, and how many of them were sealed anew now."""

    found: int
    changed: int


async def reseal(resources: ResourceStore, jobs: JobStore, sealer: Sealer) -> Resealed:
    """Seal anew all secrets, and all passwords of images and of jobs.

    Raises:
        CorruptedError: one of them is opened by none of the keys.
    """
    changed = [await _reseal_secret(resources, sealer, s) for s in await resources.list_resources(Secret)]
    images = [i for i in await resources.list_resources(DockerImage) if i.body.password_sealed]
    changed += [await _reseal_image(resources, sealer, image) for image in images]
    for status in JobStatus:
        having = [job for job in await jobs.jobs_in([status]) if _password(job)]
        changed += [await _reseal_job(jobs, sealer, job) for job in having]
    return Resealed(len(changed), sum(changed))


async def _reseal_secret(resources: ResourceStore, sealer: Sealer, was: Resource[Secret]) -> bool:
    while (sealed := sealer.resealed(was.project_id, was.body.sealed)) != was.body.sealed:
        new = replace(was, body=replace(was.body, sealed=sealed), version=was.version + 1)
        if await resources.update_resource(new, was):
            return True
        try:
            was = await resources.get_resource(Secret, was.id)
        except NotFoundError:
            break
    return False


async def _reseal_image(resources: ResourceStore, sealer: Sealer, was: Resource[DockerImage]) -> bool:
    """An image is never changed: it can only be gone meanwhile, or sealed by another one like this."""
    sealed = sealer.resealed(was.project_id, was.body.password_sealed)
    if sealed == was.body.password_sealed:
        return False
    new = replace(was, body=replace(was.body, password_sealed=sealed), version=was.version + 1)
    return await resources.update_resource(new, was)


async def _reseal_job(jobs: JobStore, sealer: Sealer, was: Job) -> bool:
    while (sealed := sealer.resealed(was.project_id, _password(was))) != _password(was):
        if await jobs.update_job(_with_password(was, sealed), was):
            return True
        try:
            was = await jobs.get_job(was.id)
        except NotFoundError:
            break
    return False


def _password(job: Job) -> str:
    image = job.spec.env.docker_image_spec
    return image.password_sealed if image else ""


def _with_password(job: Job, sealed: str) -> Job:
    env = job.spec.env
    image = replace(env.docker_image_spec, password_sealed=sealed) if env.docker_image_spec else None
    return replace(job, spec=replace(job.spec, env=replace(env, docker_image_spec=image)), version=job.version + 1)
