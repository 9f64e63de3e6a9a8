"""Letting go of a job's bytes: clear the data and keep the job, or delete all of it.

The database says first what is gone; bytes follow. A crash in between leaves bytes that nobody refers to, which the
sweep after the next start finds. A byte that somebody refers to is never removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import suppress

from jobsphere.domain.attempt import job_id_of
from jobsphere.domain.attempt_ports import KeepingRunner
from jobsphere.domain.errors import FailedPreconditionError, NotFoundError, UnavailableError
from jobsphere.domain.job import Job
from jobsphere.domain.lifecycle import DataCleared, decide
from jobsphere.domain.node_ports import Nodes
from jobsphere.domain.operation import Operation
from jobsphere.domain.ports import BlobStore, Clock, JobStore

_BATCH = 200
"""As many are looked at before others have their turn."""


class JobData:
    """The bytes of jobs: blobs, run directories and logs."""

    def __init__(self, store: JobStore, blobs: BlobStore, nodes: Nodes, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._nodes = nodes
        self._clock = clock

    async def clear(self, job: Job) -> Job:
        """Clear the data of an ended (or never executed) job; the job stays. A repeat finishes what was left.

        Raises:
            FailedPreconditionError: the job is under way.
        """
        while True:
            cleared, _ = decide(job, DataCleared(), self._clock.now())
            if cleared is job or await self._store.update_job(cleared, job):
                break
            job = await self._store.get_job(job.id)
        await self._free(cleared)
        return cleared

    async def delete(self, job: Job, operation: Operation) -> None:
        """Delete an ended (or never executed) job with all that is its own.

        Raises:
            FailedPreconditionError: the job is under way.
        """
        while True:
            decide(job, DataCleared(), self._clock.now())
            if await self._store.delete_job(job, operation):
                break
            job = await self._store.get_job(job.id)
        await self._free(job)

    async def drop(self, project_id: str, attempts: Iterable[str]) -> None:
        """Free the bytes of a project that is deleted, and of its attempts."""
        gone = set(attempts)
        for name in self._nodes.all():
            with suppress(UnavailableError):  # the sweep finds them once the node is back
                runner = self._nodes.runner(name)
                for attempt_id in gone.intersection([*await runner.attempts(), *await runner.tidied()]):
                    await runner.remove(attempt_id)
        await self._blobs.drop(project_id)

    async def settle(self, project_id: str, sha256: str) -> None:
        """A blob has come in by a URL that may have outlived its job or its project: nobody's bytes do not stay.

        Raises:
            NotFoundError: the project is gone.
        """
        try:
            await self._store.get_project(project_id)
        except NotFoundError:
            await self._blobs.drop(project_id)
            raise
        await self._remove(project_id, await self._store.unreferenced(project_id, {sha256}))

    async def sweep(self) -> None:
        """Remove what a crash left behind: bytes that no job refers to, and those of projects that are gone.

        Takes the longer the more there is; done beside all else.
        """
        holding = await self._blobs.projects()  # before the projects: one that is made meanwhile is none that is gone
        projects = {project.id for project in await self._store.list_projects()}
        for project_id in holding:
            if project_id not in projects:
                await self._blobs.drop(project_id)
        for project_id in projects:
            for hashes in _batches(await self._blobs.held(project_id)):
                await self._remove(project_id, await self._store.unreferenced(project_id, hashes))
                await asyncio.sleep(0)
        for name in self._nodes.all():
            with suppress(UnavailableError):  # what is on a node that is away goes after it is back
                await self._sweep_node(self._nodes.runner(name))

    async def _sweep_node(self, runner: KeepingRunner) -> None:
        for attempts in _batches(await runner.tidied()):
            for attempt_id in attempts:
                if not await self._has_data(job_id_of(attempt_id)):
                    await runner.remove(attempt_id)
            await asyncio.sleep(0)

    async def _has_data(self, job_id: str) -> bool:
        try:
            return not (await self._store.get_job(job_id)).data_cleared
        except NotFoundError:
            return False

    async def _free(self, job: Job) -> None:
        for attempt in job.attempts:
            with suppress(UnavailableError):  # as above
                await self._nodes.runner(attempt.node).remove(attempt.id)
        hashes = {f.sha256 for f in job.spec.uploads() + job.artifacts.files()}
        await self._remove(job.project_id, await self._store.unreferenced(job.project_id, hashes))

    async def _remove(self, project_id: str, hashes: set[str]) -> None:
        if not hashes:
            return

        async def wanted(hidden: set[str]) -> set[str]:
            return hidden - await self._store.unreferenced(project_id, hidden)

        await self._blobs.remove(project_id, hashes, wanted)


def _batches(items: Iterable[str]) -> Iterator[set[str]]:
    left = list(items)
    for begin in range(0, len(left), _BATCH):
        yield set(left[begin : begin + _BATCH])


def require_data(job: Job) -> None:
    """Refuse a use of files that are gone.

    Raises:
        FailedPreconditionError: the job's data was cleared.
    """
    if job.data_cleared:
        raise FailedPreconditionError("the job's data has been cleared (its time to live passed, or it was deleted)")
