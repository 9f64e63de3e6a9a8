"""What a job gives to its project besides its own files: datasets, made when it succeeds."""

from __future__ import annotations

from contextlib import suppress

from jobsphere.domain.attempt import Collected, CollectedDataset
from jobsphere.domain.errors import AlreadyExistsError, NotFoundError
from jobsphere.domain.job import Attempt, Job
from jobsphere.domain.node_ports import Nodes
from jobsphere.domain.ports import Clock
from jobsphere.domain.resource_ports import DatasetFiles, ResourceStore
from jobsphere.domain.resources import Dataset, Resource, output_dataset_id


class Products:
    """Makes the output datasets of jobs. All of it may be repeated: an attempt's dataset has the same id each time."""

    def __init__(self, resources: ResourceStore, files: DatasetFiles, nodes: Nodes, clock: Clock) -> None:
        self._resources = resources
        self._files = files
        self._nodes = nodes
        self._clock = clock

    async def make(self, job: Job, attempt: Attempt, collected: Collected) -> None:
        """Make a dataset of each collected one: first its content, then what names it.

        Raises:
            NotFoundError: what was collected is gone from the node.
            UnavailableError: the node cannot be reached now.
        """
        runner = self._nodes.runner(attempt.node)
        for made in collected.datasets:
            dataset_id = output_dataset_id(attempt.id, made.number)
            await runner.deliver_dataset(job.project_id, attempt.id, made.name, dataset_id)
            await self._add(job, made, dataset_id)

    async def unmake(self, job: Job, attempt: Attempt, collected: Collected) -> None:
        """Take back what was made of a job that did not succeed in the end: it was cancelled in the last moment."""
        for made in collected.datasets:
            dataset_id = output_dataset_id(attempt.id, made.number)
            with suppress(NotFoundError):
                await self._resources.delete_resource(await self._resources.get_resource(Dataset, dataset_id))
            await self._files.remove(job.project_id, dataset_id)

    async def _add(self, job: Job, made: CollectedDataset, dataset_id: str) -> None:
        """Under its name, or, where that is taken by an earlier run's, with a part of its id behind."""
        try:
            await self._resources.get_resource(Dataset, dataset_id)
        except NotFoundError:
            desc, now = made.desc, self._clock.now()
            body = Dataset(made.size_bytes, made.files, desc.description, desc.labels, job.id)
            new = Resource(dataset_id, job.project_id, desc.name, now, job.created_by_id, body)
            try:
                await self._resources.add_resource(new)
            except AlreadyExistsError:
                name = f"{desc.name}-{dataset_id[:8]}"
                await self._resources.add_resource(
                    Resource(dataset_id, job.project_id, name, now, job.created_by_id, body)
                )
