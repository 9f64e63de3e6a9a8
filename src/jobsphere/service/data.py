"""Letting go of a job's bytes: clear the data and keep the job, or delete all of it.

The database says first what is gone; bytes follow. A crash in between leaves bytes that nobody refers to, which the
sweep at the next start finds. A byte that somebody refers to is never removed.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobsphere.domain.errors import FailedPreconditionError, NotFoundError
from jobsphere.domain.job import Job
from jobsphere.domain.lifecycle import DataCleared, decide
from jobsphere.domain.operation import Operation
from jobsphere.domain.ports import BlobStore, Clock, JobStore, Runner


class JobData:
    """The bytes of jobs: blobs, run directories and logs."""

    def __init__(self, store: JobStore, blobs: BlobStore, runner: Runner, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._runner = runner
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
        for attempt_id in attempts:
            await self._runner.remove(attempt_id)
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
        """Remove what a crash left behind: blobs that no job refers to, and those of projects that are gone."""
        projects = {project.id for project in await self._store.list_projects()}
        for project_id in await self._blobs.projects():
            if project_id not in projects:
                await self._blobs.drop(project_id)
        for project_id in projects:
            held = await self._blobs.held(project_id)
            await self._remove(project_id, await self._store.unreferenced(project_id, held))

    async def _free(self, job: Job) -> None:
        if job.attempt is not None:
            await self._runner.remove(job.attempt.id)
        hashes = {f.sha256 for f in job.spec.uploads() + job.artifacts.files()}
        await self._remove(job.project_id, await self._store.unreferenced(job.project_id, hashes))

    async def _remove(self, project_id: str, hashes: set[str]) -> None:
        if not hashes:
            return

        async def wanted(hidden: set[str]) -> set[str]:
            return hidden - await self._store.unreferenced(project_id, hidden)

        await self._blobs.remove(project_id, hashes, wanted)


def require_data(job: Job) -> None:
    """Refuse a use of files that are gone.

    Raises:
        FailedPreconditionError: the job's data was cleared.
    """
    if job.data_cleared:
        raise FailedPreconditionError("the job's data has been cleared (its time to live passed, or it was deleted)")
