"""Placing jobs: who runs now, who waits, and why."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from jobsphere.domain.job import Job


class Dispatcher:
    """Places on the one local node: projects take turns, and within a project who came first is served first.

    At most ``places`` attempts run at a time; a place is given back only when no process of its attempt is left. The
    node scales every instance type down to the machine that it is, so that the first named type is the one given.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._holders: dict[str, str] = {}
        self._waiting: dict[str, dict[str, None]] = {}
        """Jobs by project, in their order; the projects in the order of their turns."""

    @property
    def running(self) -> int:
        """How many attempts hold a place."""
        return len(self._holders)

    def known(self) -> list[str]:
        """The ids of all that hold a place or wait for one."""
        return [*self._holders, *self._turns()]

    def keep(self, job: Job) -> None:
        """The job holds a place already: it has an attempt."""
        self._forget(job.id)
        self._holders[job.id] = job.name

    def place(self, job: Job) -> str | None:
        """Give the job a place if it is its turn: the name of its instance type, else None.

        Asked again, for its placing could not be stored, the job has the place that it was given.
        """
        if job.id in self._holders:
            return job.spec.instance_types[0]
        self._waiting.setdefault(job.project_id, {}).setdefault(job.id)
        if self._ahead(job.id) >= self._places - len(self._holders):
            return None
        self.keep(job)
        others = self._waiting.pop(job.project_id, None)
        if others:
            self._waiting[job.project_id] = others
        return job.spec.instance_types[0]

    def why_waiting(self, job: Job) -> str:
        """The sentence for a job that has no place yet: its position and who holds the places."""
        position = self._ahead(job.id) + 1
        some = ", ".join(name or job_id for job_id, name in islice(self._holders.items(), 3))
        more = f" and {len(self._holders) - 3} more" if len(self._holders) > 3 else ""
        return f"Waiting for a free place, number {position} in the queue; running: {some}{more}"

    def release(self, job_id: str) -> list[str]:
        """The job needs no place any more: the ids of those whose turn it is now, in their order."""
        self._forget(job_id)
        self._holders.pop(job_id, None)
        return list(islice(self._turns(), max(0, self._places - len(self._holders))))

    def _turns(self) -> Iterator[str]:
        """All who wait, in the order in which they get a place: one of each project, round after round."""
        queues = [iter(jobs) for jobs in self._waiting.values()]
        while queues:
            heads = [(queue, next(queue, None)) for queue in queues]
            yield from (job_id for _, job_id in heads if job_id is not None)
            queues = [queue for queue, job_id in heads if job_id is not None]

    def _ahead(self, job_id: str) -> int:
        return next((i for i, waiting in enumerate(self._turns()) if waiting == job_id), 0)

    def _forget(self, job_id: str) -> None:
        for project, jobs in list(self._waiting.items()):
            jobs.pop(job_id, None)
            if not jobs:
                del self._waiting[project]
