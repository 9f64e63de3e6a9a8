"""What is the same for the resources of every kind: list them, find one, add one, delete one that nobody uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic

from jobsphere.domain.access import Action
from jobsphere.domain.errors import AlreadyExistsError, NotFoundError, ResourceExhaustedError
from jobsphere.domain.job import LIVE_STATUSES, Job
from jobsphere.domain.live import job_pages
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import Clock, Ids, JobStore
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import ResourceStore
from jobsphere.domain.resources import MAX_OF_KIND, B, Resource, check_unused
from jobsphere.service.access import Access


@dataclass(frozen=True, slots=True)
class Backing:
    """What the services of resources stand on. ``jobs`` tells who uses them."""

    resources: ResourceStore
    jobs: JobStore
    access: Access
    clock: Clock
    ids: Ids


class Resources(Generic[B]):
    """What can be done with the resources of one kind. Everywhere a resource may be named by its id or its name."""

    def __init__(self, kind: type[B], backing: Backing) -> None:
        self._kind = kind
        self._backing = backing

    async def all(self, who: Subject, project_id: str, action: Action = Action.RESOURCE_VIEW) -> Sequence[Resource[B]]:
        """Those of the project, oldest first.

        Raises:
            NotFoundError: no such project.
        """
        await self._backing.access.project(who, project_id, action)
        return await self._backing.resources.list_resources(self._kind, project_id)

    async def find(
        self, who: Subject, project_id: str, named: str, action: Action = Action.RESOURCE_VIEW
    ) -> Resource[B]:
        """The project's resource of that id or name.

        Raises:
            NotFoundError: no such project, or no such resource.
        """
        for resource in await self.all(who, project_id, action):
            if named in (resource.id, resource.name):
                return resource
        raise NotFoundError(f"the project {project_id} has no {self._kind.KIND} {named!r}")

    async def delete(self, who: Subject, project_id: str, named: str) -> Resource[B]:
        """Remove it; what it was.

        Raises:
            NotFoundError: no such project, or no such resource.
            FailedPreconditionError: live jobs use it; the text says which.
        """
        while True:
            was = await self.find(who, project_id, named, Action.RESOURCE_CHANGE)
            await self._check_unused(was)
            if await self._backing.resources.delete_resource(was):
                return was

    async def users(self, resource: Resource[B]) -> list[Job]:
        """The live jobs that use it."""
        pages = job_pages(self._backing.jobs, LIVE_STATUSES)
        live = {job.id: job async for page in pages for job in page if job.project_id == resource.project_id}
        return [job for job in live.values() if self._uses(job, resource)]

    async def _done(self, who: Subject, project_id: str, kind: OperationKind) -> Operation:
        """The operation of something that is done."""
        backing = self._backing
        operation = Operation(backing.ids.new(), kind, project_id, "", backing.clock.now(), who.id)
        await backing.jobs.add_operation(operation)
        return operation

    async def _check_unused(self, resource: Resource[B]) -> None:
        check_unused(f"{self._kind.KIND} {resource.name!r}", await self.users(resource))

    def _uses(self, job: Job, resource: Resource[B]) -> bool:
        """Whether a job of its project names the resource."""
        raise NotImplementedError

    async def _set(self, who: Subject, project_id: str, name: str, body: Callable[[B | None], B]) -> Resource[B]:
        """Store a new one, or another body of the one that is there: its id stays.

        ``body`` makes the body of the one that is stored (None: none is); it is called again if another was faster.

        Raises:
            ResourceExhaustedError: the project has as many of the kind as it may.
        """
        resources = self._backing.resources
        while True:
            try:
                was = await resources.find_resource(self._kind, project_id, name)
            except NotFoundError:
                try:
                    return await self._add(who, project_id, name, body(None))
                except AlreadyExistsError:
                    continue  # somebody was first
            new = replace(was, body=body(was.body), version=was.version + 1)
            if await resources.update_resource(new, was):
                return new

    async def _add(self, who: Subject, project_id: str, name: str, body: B, resource_id: str = "") -> Resource[B]:
        """Store a new one.

        Raises:
            AlreadyExistsError: the project has one of that name.
            ResourceExhaustedError: it has as many of the kind as it may.
        """
        backing = self._backing
        if len(await backing.resources.list_resources(self._kind, project_id)) >= MAX_OF_KIND:
            raise ResourceExhaustedError(
                f"the project has {MAX_OF_KIND} of the kind {self._kind.KIND}, as many as it may; delete one first"
            )
        new = Resource(resource_id or backing.ids.new(), project_id, name, backing.clock.now(), who.id, body)
        await backing.resources.add_resource(new)
        return new
