"""Placing jobs: who runs now and with what, who waits, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from jobsphere.domain.capacity import Grant, InstanceTypes, Limits, Need, NodeCapacity
from jobsphere.domain.job import Job

_NAMED = 3
_COUNTED = 10
"""How many before it a waiting job is told of: one that is far behind would else be written anew with every change."""


@dataclass(frozen=True, slots=True)
class _Holder:
    name: str
    project_id: str
    grant: Grant


class Dispatcher:
    """Gives the jobs of one node what they need of it: projects take turns, within a project the first comes first.

    A job runs when one of its types fits into what is free; the first that does, in its order of preference, is given.
    Whoever waits before others has what there is of its best type kept for it, so that the small ones behind it take
    only what it could not use, and it never starves. What was given comes back only when no process is left.
    """

    def __init__(self, types: InstanceTypes) -> None:
        self._types = types
        self._holders: dict[str, _Holder] = {}
        self._waiting: dict[str, dict[str, Sequence[Need]]] = {}
        """Jobs by project, in their order; the projects in the order of their turns."""
        self._at_once: dict[str, int | None] = {}

    @property
    def running(self) -> int:
        """How many attempts hold a part of the node."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many jobs wait for a part of the node."""
        return sum(len(queue) for queue in self._waiting.values())

    @property
    def free(self) -> NodeCapacity:
        """What is left of the node."""
        free = self._types.node
        for holder in self._holders.values():
            free = free.without(holder.grant.limits)
        return free

    def known(self) -> list[str]:
        """The ids of all that hold a part or wait for one."""
        return [*self._holders, *(job_id for _, job_id, _ in self._turns())]

    def keep(self, job: Job) -> None:
        """The job holds what its attempt was given."""
        if job.attempt is not None:
            limits = job.attempt.limits or Limits(0, 0)
            self._hold(job, Grant(job.actual_instance_type, limits, job.attempt.note))

    def place(self, job: Job, at_once: int | None = None) -> Grant | None:
        """Give the job its part of the node if it is its turn; None if it has to wait.

        ``at_once``: how many jobs of its project may run at a time, from now on; None for any number.

        Asked again, for its placing could not be stored, the job has what it was given.
        """
        if job.id in self._holders:
            return self._holders[job.id].grant
        self._at_once[job.project_id] = at_once
        queue = self._waiting.setdefault(job.project_id, {})
        if job.id not in queue:
            queue[job.id] = self._types.needs(job.spec.instance_types, job.spec.storage_bytes)
        grant = next((grant for job_id, grant in self._startable() if job_id == job.id), None)
        if grant is not None:
            self._hold(job, grant)
            others = self._waiting.pop(job.project_id, None)
            if others:
                self._waiting[job.project_id] = others
        return grant

    def why_waiting(self, job: Job) -> str:
        """The sentence for a job that waits: for what, how many are before it, and who holds the node."""
        needs = self._waiting.get(job.project_id, {}).get(job.id, ())
        if not needs:
            wanted = " or ".join(job.spec.instance_types)
            return f"Waiting: this server no longer has {wanted}; ask its operator, or cancel"
        running, at_once = self._running_of(job.project_id), self._at_once.get(job.project_id)
        if at_once is not None and running >= at_once:
            return f"Waiting: {running} jobs of this project run, as many as its quota allows at a time"
        ahead = next((i for i, (_, job_id, _) in enumerate(self._turns()) if job_id == job.id or i > _COUNTED), 0)
        if ahead > _COUNTED:
            return f"Waiting for {needs[0].words()} behind more than {_COUNTED} others"
        names = [holder.name or job_id for job_id, holder in islice(self._holders.items(), _NAMED)]
        more = f" and {len(self._holders) - _NAMED} more" if len(self._holders) > _NAMED else ""
        others = f"; running: {', '.join(names)}{more}" if names else ""
        return f"Waiting for {needs[0].words()}, number {ahead + 1} in the queue{others}"

    def release(self, job_id: str) -> list[str]:
        """The job needs nothing any more: the ids of those whose turn it is now, in their order."""
        self._forget(job_id)
        self._holders.pop(job_id, None)
        return [other for other, _ in self._startable()]

    def _hold(self, job: Job, grant: Grant) -> None:
        self._forget(job.id)
        self._holders[job.id] = _Holder(job.name, job.project_id, grant)

    def _running_of(self, project_id: str) -> int:
        return sum(holder.project_id == project_id for holder in self._holders.values())

    def _startable(self) -> Iterator[tuple[str, Grant]]:
        """All whose turn it is, with what they would be given."""
        free = self.free
        given: Counter[str] = Counter(holder.project_id for holder in self._holders.values())

        def full(project_id: str) -> bool:
            """Nothing is kept for who waits for its own project and not for the node."""
            at_once = self._at_once.get(project_id)
            return at_once is not None and given[project_id] >= at_once

        for project_id, job_id, needs in self._turns(full):
            if free.exhausted:
                return
            grants = (self._types.grant(free, need) for need in needs)
            grant = next((g for g in grants if g is not None), None)
            if grant is not None:
                yield job_id, grant
                given[project_id] += 1
                free = free.without(grant.limits)
            elif needs:
                free = free.reserving(needs[0])

    def _turns(self, full: Callable[[str], bool] = lambda _: False) -> Iterator[tuple[str, str, Sequence[Need]]]:
        """All who wait, in the order in which they are served: one of each project, round after round.

        Those of a project that is ``full`` when its turn comes are left out.
        """
        queues = [(project_id, iter(jobs.items())) for project_id, jobs in self._waiting.items()]
        while queues:
            left: list[tuple[str, Iterator[tuple[str, Sequence[Need]]]]] = []
            for project_id, queue in queues:
                head = None if full(project_id) else next(queue, None)
                if head is not None:
                    yield project_id, *head
                    left.append((project_id, queue))
            queues = left

    def _forget(self, job_id: str) -> None:
        for project, jobs in list(self._waiting.items()):
            jobs.pop(job_id, None)
            if not jobs:
                del self._waiting[project]
                self._at_once.pop(project, None)
