"""Placing jobs: who runs now, who waits, and why."""

from __future__ import annotations

from itertools import islice

from jobsphere.domain.job import Job


class Dispatcher:
    """Places on the one local node: first come, first served, at most ``places`` attempts at a time.

    A place is given back only when no process of its attempt is left. The node scales every instance type down to the
    machine that it is, so that the first named type is the one given.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._holders: dict[str, str] = {}
        self._queue: dict[str, None] = {}

    def keep(self, job: Job) -> None:
        """The job holds a place already: it has an attempt."""
        self._queue.pop(job.id, None)
        self._holders[job.id] = job.name

    def place(self, job: Job) -> str | None:
        """Give the job a place if it is its turn: the name of its instance type, else None."""
        self._queue.setdefault(job.id)
        free = self._places - len(self._holders)
        ahead = self._ahead(job.id)
        if ahead >= free:
            return None
        self.keep(job)
        return job.spec.instance_types[0]

    def why_waiting(self, job: Job) -> str:
        """The sentence for a job that has no place yet: its position and who holds the places."""
        position = self._ahead(job.id) + 1
        some = ", ".join(name or job_id for job_id, name in list(self._holders.items())[:3])
        more = f" and {len(self._holders) - 3} more" if len(self._holders) > 3 else ""
        return f"Waiting for a free place, number {position} in the queue; running: {some}{more}"

    def release(self, job_id: str) -> list[str]:
        """The job needs no place any more: the ids of those whose turn it is now, in their order."""
        self._queue.pop(job_id, None)
        self._holders.pop(job_id, None)
        return list(islice(self._queue, max(0, self._places - len(self._holders))))

    def _ahead(self, job_id: str) -> int:
        for position, waiting in enumerate(self._queue):
            if waiting == job_id:
                return position
        return len(self._queue)
