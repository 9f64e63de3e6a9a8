"""The datasets of projects: create from files, list, delete, and clear away what a crash left of one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from jobsphere.domain.access import Action
from jobsphere.domain.errors import AlreadyExistsError, InvalidArgumentError
from jobsphere.domain.job import LIVE_STATUSES, Job, JobStatus
from jobsphere.domain.limits import MAX_LABELS, MAX_PATH_CHARS
from jobsphere.domain.live import attempted_jobs, job_pages
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import DatasetFiles
from jobsphere.domain.resources import Dataset, Resource, check_name, output_dataset_id
from jobsphere.domain.text import has_controls
from jobsphere.service.quotas import Quotas
from jobsphere.service.resources import Backing, Resources


class Datasets(Resources[Dataset]):
    """What can be done with datasets."""

    def __init__(self, backing: Backing, files: DatasetFiles, quotas: Quotas) -> None:
        super().__init__(Dataset, backing)
        self._files = files
        self._quotas = quotas

    async def create(
        self,
        who: Subject,
        project_id: str,
        name: str,
        sources: Sequence[Path],
        description: str = "",
        labels: tuple[tuple[str, str], ...] = (),
    ) -> Resource[Dataset]:
        """Make a dataset of files of this host; see :meth:`jobsphere.domain.resource_ports.DatasetFiles.take`.

        Raises:
            NotFoundError: no such project, or no such file.
            AlreadyExistsError: the project has a dataset of that name.
            InvalidArgumentError: the name cannot be, or something in the files.
            ResourceExhaustedError: no room, or the project has as many, or as many bytes, as it may; nothing stays.
        """
        check_dataset(name, description, labels)
        if not sources:
            raise InvalidArgumentError("sources: name a folder, an archive, or files")
        if any(known.name == name for known in await self.all(who, project_id, Action.RESOURCE_CHANGE)):
            raise AlreadyExistsError(f"the project has the dataset {name!r} already; a dataset never changes")
        dataset_id = self._backing.ids.new()
        async with self._files.making(project_id):
            content = await self._files.take(project_id, dataset_id, sources)
            body = Dataset(content.size_bytes, content.files, description, labels)
            try:
                async with self._quotas.adding(project_id, content.size_bytes):
                    return await self._add(who, project_id, name, body, dataset_id)
            except BaseException:
                await self._files.remove(project_id, dataset_id)
                raise

    async def describe(
        self, who: Subject, project_id: str, name: str, description: str, labels: tuple[tuple[str, str], ...]
    ) -> Resource[Dataset]:
        """Give it another description and other labels; its content never changes.

        Raises:
            NotFoundError: no such project, or no such dataset.
            InvalidArgumentError: they are too long, or too many.
        """
        check_dataset(name, description, labels)
        found = (await self.find(who, project_id, name, Action.RESOURCE_CHANGE)).body
        return await self._set(
            who, project_id, name, lambda was: replace(was or found, description=description, labels=labels)
        )

    async def holds(self, who: Subject, project_id: str, name: str, folder: Path) -> bool:
        """Whether its content is that of a folder; see :meth:`jobsphere.domain.resource_ports.DatasetFiles.holds`."""
        found = await self.find(who, project_id, name)
        return await self._files.holds(project_id, found.id, folder)

    def folder(self, dataset: Resource[Dataset]) -> Path:
        """Where its content is."""
        return self._files.folder(dataset.project_id, dataset.id)

    async def delete(self, who: Subject, project_id: str, named: str) -> Resource[Dataset]:
        """Remove it with its content; see :meth:`jobsphere.service.resources.Resources.delete`."""
        gone = await super().delete(who, project_id, named)
        await self._files.remove(project_id, gone.id)
        return gone

    async def activate(self, who: Subject, project_id: str, dataset_id: str) -> Operation:
        """Make sure that jobs can use it: they always can.

        Raises:
            NotFoundError: no such project, or no such dataset in it.
        """
        await self.find(who, project_id, dataset_id, Action.RESOURCE_CHANGE)
        return await self._done(who, project_id, OperationKind.ACTIVATE_DATASET)

    async def expire(self, days: int) -> AsyncGenerator[Resource[Dataset]]:
        """Remove those that no job refers to and that nobody has used for so many days; each once it is gone.

        What a job refers to that waits, runs, or may be executed yet is in use, and so noted.
        """
        before = self._backing.clock.now() - timedelta(days=days)
        referred = await self._referred()
        for dataset in await self._backing.resources.list_resources(Dataset):
            if dataset.id in referred:
                await self._files.used(dataset.project_id, dataset.id)
            elif await self._is_old(dataset, before) and await self._backing.resources.delete_resource(dataset):
                if dataset.id in await self._referred():  # a job was created in between: it shall find it
                    await self._backing.resources.add_resource(dataset)
                    continue
                await self._files.remove(dataset.project_id, dataset.id)
                yield dataset

    async def _is_old(self, dataset: Resource[Dataset], before: datetime) -> bool:
        last_used = await self._files.last_used(dataset.project_id, dataset.id)
        return dataset.created_at < before and last_used is not None and last_used < before

    async def _referred(self) -> set[str]:
        """The ids of the datasets that jobs read or will read."""
        found = _inputs(await self._backing.jobs.jobs_in([JobStatus.CREATING]))
        async for page in job_pages(self._backing.jobs, LIVE_STATUSES):
            found |= _inputs(page)
        return found

    async def sweep(self) -> None:
        """Free what no dataset names: a crash came in between, or its project is deleted.

        Where somebody is making one just now, that is for the next sweep.
        """
        holding = await self._files.projects()  # before the projects: one that is made meanwhile is none that is gone
        projects = {project.id for project in await self._backing.jobs.list_projects()}
        for project_id in holding:
            if project_id in projects:
                await self._files.sweep(project_id, partial(self._wanted, project_id))
            else:
                await self._files.drop(project_id)

    async def _wanted(self, project_id: str) -> set[str]:
        """Those that jobs are making first: they become datasets before their jobs end."""
        made = {dataset_id async for job in attempted_jobs(self._backing.jobs) for dataset_id in _outputs(job)}
        known = await self._backing.resources.list_resources(Dataset, project_id)
        return made | {dataset.id for dataset in known}

    def _uses(self, job: Job, resource: Resource[Dataset]) -> bool:
        return resource.id in job.spec.dataset_ids


def check_dataset(name: str, description: str, labels: tuple[tuple[str, str], ...]) -> None:
    """Refuse what can be no dataset.

    Raises:
        InvalidArgumentError: the name is none, or the others are too long.
    """
    check_name(name)
    if has_controls(description, lines=True):
        raise InvalidArgumentError("description: holds a control character")
    if len(description) > MAX_PATH_CHARS or len(labels) > MAX_LABELS:
        raise InvalidArgumentError(f"description, labels: at most {MAX_PATH_CHARS} characters, and {MAX_LABELS} labels")


def _inputs(jobs: Iterable[Job]) -> set[str]:
    """The ids of the datasets that jobs read or will read."""
    return {dataset_id for job in jobs if not job.data_cleared for dataset_id in job.spec.dataset_ids}


def _outputs(job: Job) -> list[str]:
    """The ids that the job's output datasets will have."""
    numbers = range(len(job.spec.output_datasets)) if job.attempt else ()
    return [output_dataset_id(job.attempt.id, number) for number in numbers if job.attempt]
