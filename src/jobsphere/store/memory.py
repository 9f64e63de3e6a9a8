"""The store in memory: the contract in its plainest form, for tests of what stands above it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from jobsphere.domain.audit import AuditRow
from jobsphere.domain.errors import AlreadyExistsError, no_such
from jobsphere.domain.job import LIVE_STATUSES, Job, JobStatus
from jobsphere.domain.operation import Operation
from jobsphere.domain.ports import JobPage, JobView, LiveId
from jobsphere.domain.resource import Project
from jobsphere.store.memory_audit import MemoryAudit
from jobsphere.store.records import dump
from jobsphere.store.tokens import page_token, read_token


@dataclass(slots=True)
class _Entry:
    seq: int
    job: Job
    view: JobView
    hashes: set[str] = field(default_factory=set[str])


class MemoryJobStore:
    """:class:`jobsphere.domain.ports.JobStore` that forgets. Without ``encode`` a view is the job's record."""

    def __init__(self, encode: Callable[[Job], bytes] = dump) -> None:
        self._encode = encode
        self._jobs: dict[str, _Entry] = {}
        self._operations: dict[str, Operation] = {}
        self._projects: dict[str, Project] = {}
        self._last_seq = 0
        self.audit = MemoryAudit()
        """The audit log beside it."""

    async def add_job(self, job: Job, operation: Operation, audited: AuditRow | None = None) -> None:
        """Store a new job with its operation."""
        if job.id in self._jobs:
            raise AlreadyExistsError(f"there is a job {job.id} already")
        view = self._view(job)
        await self.add_operation(operation)
        self._last_seq += 1
        self._jobs[job.id] = _Entry(self._last_seq, job, view, _hashes(job))
        await self._audited(audited)

    async def get_job(self, job_id: str) -> Job:
        """The job as last stored."""
        return self._entry(job_id).job

    async def view_job(self, job_id: str) -> JobView:
        """The stored encoding of a job."""
        return self._entry(job_id).view

    async def update_job(
        self, new: Job, was: Job, operation: Operation | None = None, audited: AuditRow | None = None
    ) -> bool:
        """Replace ``was`` by ``new`` if the stored job is still ``was``."""
        entry = self._same(was)
        if entry is None:
            return False
        view = self._view(new)
        if operation is not None:
            await self.add_operation(operation)
        entry.job, entry.view = new, view
        entry.hashes = set() if new.data_cleared else entry.hashes | _hashes(new)
        await self._audited(audited)
        return True

    async def delete_job(self, job: Job, operation: Operation) -> bool:
        """Remove the job if the stored one is still ``job``."""
        if self._same(job) is None:
            return False
        kept = {o.id: o for o in self._operations.values() if o.job_id != job.id}
        _refuse_taken(operation, kept)
        self._operations = kept | {operation.id: operation}
        del self._jobs[job.id]
        return True

    async def page_jobs(self, project_id: str, statuses: Sequence[JobStatus] | None, limit: int, token: str) -> JobPage:
        """One page, newest first."""
        before = read_token(token)
        found = [
            entry
            for entry in reversed(self._jobs.values())
            if entry.job.project_id == project_id
            and entry.seq < before
            and (statuses is None or entry.job.status in statuses)
        ]
        page = found[:limit]
        return JobPage(tuple(entry.view for entry in page), page_token(page[-1].seq) if len(found) > limit else "")

    def newest(self, project_id: str, before: int) -> list[tuple[int, Job]]:
        """The project's jobs with their numbers in the order of creation, newest first; for the finder."""
        newest = reversed(self._jobs.values())
        return [(e.seq, e.job) for e in newest if e.job.project_id == project_id and e.seq < before]

    async def jobs_in(self, statuses: Sequence[JobStatus]) -> Sequence[Job]:
        """All jobs in these statuses, oldest first."""
        return [entry.job for entry in self._jobs.values() if entry.job.status in statuses]

    async def live_ids(self, status: JobStatus, after: int, limit: int) -> Sequence[LiveId]:
        """The next jobs in a live status."""
        entries = [entry for entry in self._jobs.values() if entry.seq > after and entry.job.status is status]
        return [LiveId(entry.seq, entry.job.id, entry.job.attempt is not None) for entry in entries[:limit]]

    async def live_page(self, status: JobStatus, after: int, limit: int) -> tuple[Sequence[Job], int]:
        """The next jobs in a live status, whole."""
        ids = await self.live_ids(status, after, limit)
        return [self._jobs[entry.id].job for entry in ids], ids[-1].seq if ids else 0

    async def expired_jobs(self, now: datetime, limit: int) -> Sequence[Job]:
        """Settled jobs whose data has expired, the longest expired first."""
        expired = [(job.data_expires_at, job) for job in self._settled_with_data() if job.data_expires_at is not None]
        ordered = sorted((pair for pair in expired if pair[0] <= now), key=lambda pair: pair[0])
        return [job for _, job in ordered[:limit]]

    async def jobs_with_data(self, project_id: str) -> Sequence[Job]:
        """Settled jobs of the project whose data is not cleared, oldest first."""
        return [job for job in self._settled_with_data() if job.project_id == project_id]

    async def unreferenced(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        """Those of the hashes that no job of the project refers to."""
        referred = [entry.hashes for entry in self._jobs.values() if entry.job.project_id == project_id]
        return set(sha256s).difference(*referred)

    async def add_operation(self, operation: Operation) -> None:
        """Store an operation that changes nothing else."""
        _refuse_taken(operation, self._operations)
        self._operations[operation.id] = operation

    async def get_operation(self, operation_id: str) -> Operation:
        """The operation."""
        if operation_id not in self._operations:
            raise no_such("operation", operation_id)
        return self._operations[operation_id]

    def add_project(self, project: Project) -> None:
        """Store a new project; for the store of teams."""
        names = {(p.community_id, p.name) for p in self._projects.values()}
        if project.id in self._projects or (project.community_id, project.name) in names:
            raise AlreadyExistsError(
                f"there is a project {project.name!r} in this community, or one with its id, already"
            )
        self._projects[project.id] = project

    async def get_project(self, project_id: str) -> Project:
        """The project."""
        if project_id not in self._projects:
            raise no_such("project", project_id)
        return self._projects[project_id]

    async def list_projects(self, community_id: str | None = None) -> Sequence[Project]:
        """Projects, oldest first."""
        return [p for p in self._projects.values() if community_id in {None, p.community_id}]

    def put_project(self, project: Project) -> None:
        """Replace a project."""
        self._projects[project.id] = project

    def live_jobs(self, project_id: str) -> tuple[str, ...]:
        """The ids of the project's jobs that are under way."""
        jobs = [entry.job for entry in self._jobs.values() if entry.job.project_id == project_id]
        return tuple(job.id for job in jobs if job.status in LIVE_STATUSES)

    def forget_project(self, project_id: str) -> tuple[str, ...]:
        """Remove a project and its jobs; gives their attempts."""
        gone = [entry.job for entry in self._jobs.values() if entry.job.project_id == project_id]
        for job in gone:
            del self._jobs[job.id]
        del self._projects[project_id]
        return tuple(job.attempt.id for job in gone if job.attempt)

    def forget_operations(self, those: Callable[[Operation], bool]) -> None:
        """Remove operations."""
        self._operations = {o.id: o for o in self._operations.values() if not those(o)}

    async def close(self) -> None:
        """Nothing is under way."""

    async def _audited(self, row: AuditRow | None) -> None:
        if row is not None:
            await self.audit.append(row)

    def _view(self, job: Job) -> JobView:
        return JobView(job.project_id, self._encode(job))

    def _entry(self, job_id: str) -> _Entry:
        if job_id not in self._jobs:
            raise no_such("job", job_id)
        return self._jobs[job_id]

    def _same(self, was: Job) -> _Entry | None:
        entry = self._jobs.get(was.id)
        stale = entry is None or (entry.job.status, entry.job.version) != (was.status, was.version)
        return None if stale else entry

    def _settled_with_data(self) -> list[Job]:
        jobs = [entry.job for entry in self._jobs.values() if not entry.job.data_cleared]
        return [job for job in jobs if job.status.terminal or job.status is JobStatus.CREATING]


def _refuse_taken(operation: Operation, stored: dict[str, Operation]) -> None:
    if operation.id in stored:
        raise AlreadyExistsError(f"there is an operation {operation.id} already")


def _hashes(job: Job) -> set[str]:
    if job.data_cleared:
        return set()
    return {f.sha256 for f in job.spec.uploads() + job.artifacts.files() if f.sha256}
