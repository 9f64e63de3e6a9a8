"""What people look at: jobs by a piece of text, one job with its relatives, who waits for what, what nodes have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from jobsphere.domain.access import Action
from jobsphere.domain.access_ports import AccountStore
from jobsphere.domain.capacity import Need, NodeCapacity
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.errors import CorruptedError, NotFoundError
from jobsphere.domain.finding import Found, JobFinder
from jobsphere.domain.job import Job, JobStatus
from jobsphere.domain.live import BEYOND_PREPARING, id_pages, job_pages
from jobsphere.domain.node_ports import Node
from jobsphere.domain.ports import JobStore
from jobsphere.domain.resource import Project, Subject
from jobsphere.service.access import Access

PAGE = 50
_ANCESTORS = 5
_FORKS = 20
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Family:
    """A job, those it was forked from (the first of them first), and its forks (newest first)."""

    job: Job
    ancestors: tuple[Job, ...]
    forks: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Queued:
    """A job under way; ``job`` is None where the caller may not see it."""

    job: Job | None
    project: Project | None


@dataclass(frozen=True, slots=True)
class NodeUse:
    """A node, what is left of what it has for jobs, and how many attempts it carries."""

    node: Node
    free: NodeCapacity
    running: int

    @property
    def has(self) -> NodeCapacity:
        """What it has for jobs."""
        return self.node.capacity


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs under way, oldest first: the first of those that run and of those that wait, and how many there are."""

    running: tuple[Queued, ...]
    waiting: tuple[Queued, ...]
    all_running: int
    all_waiting: int
    nodes: tuple[NodeUse, ...]


class Board:
    """Reading only. What a caller may not see is not in it."""

    def __init__(
        self, jobs: JobStore, finder: JobFinder, access: Access, accounts: AccountStore, types: ClusterTypes
    ) -> None:
        self._jobs = jobs
        self._finder = finder
        self._access = access
        self._accounts = accounts
        self._types = types

    async def projects(self, who: Subject) -> Sequence[Project]:
        """Every project that the caller may see, oldest first."""
        return [p for p in await self._jobs.list_projects() if await self._access.sees_project(who, p)]

    async def project(self, who: Subject, project_id: str) -> Project:
        """A project.

        Raises:
            NotFoundError: there is none of that id, or not for them.
        """
        return await self._access.project(who, project_id, Action.PROJECT_VIEW)

    async def find(
        self, who: Subject, project_id: str, statuses: Sequence[JobStatus] | None, text: str, token: str
    ) -> Found:
        """A page of the project's jobs that fit a text; see :class:`jobsphere.domain.finding.JobFinder`.

        Raises:
            NotFoundError: no such project.
            InvalidArgumentError: the token is none.
        """
        await self._access.project(who, project_id, Action.JOB_VIEW)
        return await self._finder.find(project_id, statuses, text.strip(), PAGE, token)

    async def job(self, who: Subject, job_id: str) -> Job:
        """A job.

        Raises:
            NotFoundError: there is none of that id, or not for them.
        """
        job = await self._jobs.get_job(job_id)
        await self._access.require(who, job.project_id, Action.JOB_VIEW, "job", job_id)
        return job

    async def family(self, who: Subject, job_id: str) -> Family:
        """A job and its relatives: a fork stays in the project of its source, so who sees one sees all.

        Raises:
            NotFoundError: there is none of that id, or not for them.
        """
        job = await self.job(who, job_id)
        ancestors: list[Job] = []
        parent_id = job.parent_job_id
        while parent_id and len(ancestors) < _ANCESTORS:
            try:
                parent = await self._jobs.get_job(parent_id)
            except NotFoundError:
                break  # deleted
            ancestors.append(parent)
            parent_id = parent.parent_job_id
        return Family(job, tuple(reversed(ancestors)), tuple(await self._finder.forks(job, _FORKS)))

    async def queue(self, who: Subject) -> Queue:
        """The jobs under way and the nodes, as the attempts that are under way leave them."""
        seen = {project.id: project for project in await self.projects(who)}
        live, all_waiting = await self._live()

        def shown(jobs: Sequence[Job]) -> tuple[Queued, ...]:
            of = ((job, seen.get(job.project_id)) for job in jobs[:_SHOWN])
            return tuple(Queued(job if project else None, project) for job, project in of)

        running = [job for job in live if job.attempt is not None]
        waiting = [job for job in live if job.attempt is None]
        return Queue(shown(running), shown(waiting), len(running), all_waiting, self._use(running))

    def types(self) -> Sequence[Need]:
        """The instance types that jobs may ask for."""
        return self._types.offered()

    async def _live(self) -> tuple[Sequence[Job], int]:
        """Every job that has an attempt and the first of those that wait, oldest first; and how many wait.

        Of those that wait far behind only the number is read: there may be a million.
        """
        jobs: dict[str, Job] = {}
        all_waiting = shown = 0
        async for page in id_pages(self._jobs, JobStatus.PREPARING):
            placed = [entry.id for entry in page if entry.has_attempt]
            waiting = [entry.id for entry in page if not entry.has_attempt]
            all_waiting += len(waiting)
            for job_id in placed + waiting[: _SHOWN - shown]:
                with suppress(NotFoundError, CorruptedError):
                    jobs[job_id] = await self._jobs.get_job(job_id)
            shown = min(shown + len(waiting), _SHOWN)
        async for page in job_pages(self._jobs, BEYOND_PREPARING):
            all_waiting += sum(job.attempt is None for job in page)
            jobs |= {job.id: job for job in page}
        live = [job for job in jobs.values() if not job.status.terminal]
        return sorted(live, key=lambda job: (job.created_at, job.id)), all_waiting

    def _use(self, running: Sequence[Job]) -> tuple[NodeUse, ...]:
        nodes = self._types.nodes()
        alone = next(iter(nodes)) if len(nodes) == 1 else ""
        free = {name: node.capacity for name, node in nodes.items()}
        count = Counter[str]()
        for job in running:
            if job.attempt is None:
                continue
            name = job.attempt.node if job.attempt.node in nodes else alone  # a machine may be renamed
            count[name] += 1
            if name in free and job.attempt.limits is not None:
                free[name] = free[name].without(job.attempt.limits)
        return tuple(NodeUse(node, free[name], count[name]) for name, node in sorted(nodes.items()))

    async def name_of(self, subject_id: str) -> str:
        """What people call somebody: the account's name; of the operator and of accounts that are gone, the id."""
        try:
            return (await self._accounts.get_account(subject_id)).name
        except NotFoundError:
            return subject_id
