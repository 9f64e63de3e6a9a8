"""A store that fails where a test wants it to: before a call took effect, or after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from jobsphere.domain.audit import AuditRow
from jobsphere.domain.errors import UnavailableError
from jobsphere.domain.job import Job, JobStatus
from jobsphere.domain.operation import Operation
from jobsphere.domain.ports import JobPage, JobStore, JobView, LiveId
from jobsphere.domain.resource import Project
from jobsphere.domain.resource_ports import ResourceStore
from jobsphere.domain.resources import B, Resource

T = TypeVar("T")
EVERY_CALL = "*"


@dataclass(slots=True)
class _Fault:
    call: str
    skip: int
    times: int
    after: bool

    def hits(self, call: str) -> bool:
        """Count one call; whether it is one of those to fail."""
        if self.call not in {EVERY_CALL, call} or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class Faults:
    """What goes wrong in a store that fails, and what was asked of it."""

    def __init__(self) -> None:
        self._faults: list[_Fault] = []
        self.calls: Counter[str] = Counter()
        """How often each method was called."""

    def fail(self, call: str = EVERY_CALL, *, nth: int = 1, times: int = 1, after: bool = False) -> None:
        """Raise UnavailableError from the ``nth`` call of ``call`` from now on, and from ``times`` calls in all.

        Args:
            call: A method's name, or :data:`EVERY_CALL`.
            nth: 1 is the next one.
            times: How many in a row fail.
            after: The call takes effect, and only its answer is lost.
        """
        self._faults.append(_Fault(call, nth - 1, times, after))

    def heal(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    async def _call(self, call: str, run: Callable[[], Awaitable[T]]) -> T:
        self.calls[call] += 1
        hits = [fault for fault in self._faults if fault.hits(call)]
        if any(not fault.after for fault in hits):
            raise UnavailableError(f"{call} failed, as the test wants it, before it took effect")
        answer = await run()
        if hits:
            raise UnavailableError(f"{call} failed, as the test wants it, after it took effect")
        return answer


class FailingJobStore(Faults):
    """:class:`jobsphere.domain.ports.JobStore` around another one, with faults. Without any it is the other one."""

    def __init__(self, inner: JobStore) -> None:
        super().__init__()
        self._inner = inner

    async def add_job(self, job: Job, operation: Operation, audited: AuditRow | None = None) -> None:
        """As the port says, or the fault."""
        await self._call("add_job", lambda: self._inner.add_job(job, operation, audited))

    async def get_job(self, job_id: str) -> Job:
        """As the port says, or the fault."""
        return await self._call("get_job", lambda: self._inner.get_job(job_id))

    async def view_job(self, job_id: str) -> JobView:
        """As the port says, or the fault."""
        return await self._call("view_job", lambda: self._inner.view_job(job_id))

    async def update_job(
        self, new: Job, was: Job, operation: Operation | None = None, audited: AuditRow | None = None
    ) -> bool:
        """As the port says, or the fault."""
        return await self._call("update_job", lambda: self._inner.update_job(new, was, operation, audited))

    async def delete_job(self, job: Job, operation: Operation) -> bool:
        """As the port says, or the fault."""
        return await self._call("delete_job", lambda: self._inner.delete_job(job, operation))

    async def page_jobs(self, project_id: str, statuses: Sequence[JobStatus] | None, limit: int, token: str) -> JobPage:
        """As the port says, or the fault."""
        return await self._call("page_jobs", lambda: self._inner.page_jobs(project_id, statuses, limit, token))

    async def live_ids(self, status: JobStatus, after: int, limit: int) -> Sequence[LiveId]:
        """See :class:`jobsphere.domain.ports.JobStore`."""
        return await self._call("live_ids", lambda: self._inner.live_ids(status, after, limit))

    async def live_page(self, status: JobStatus, after: int, limit: int) -> tuple[Sequence[Job], int]:
        """As the port says, or the fault."""
        return await self._call("live_page", lambda: self._inner.live_page(status, after, limit))

    async def jobs_in(self, statuses: Sequence[JobStatus]) -> Sequence[Job]:
        """As the port says, or the fault."""
        return await self._call("jobs_in", lambda: self._inner.jobs_in(statuses))

    async def expired_jobs(self, now: datetime, limit: int) -> Sequence[Job]:
        """As the port says, or the fault."""
        return await self._call("expired_jobs", lambda: self._inner.expired_jobs(now, limit))

    async def jobs_with_data(self, project_id: str) -> Sequence[Job]:
        """As the port says, or the fault."""
        return await self._call("jobs_with_data", lambda: self._inner.jobs_with_data(project_id))

    async def unreferenced(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        """As the port says, or the fault."""
        return await self._call("unreferenced", lambda: self._inner.unreferenced(project_id, sha256s))

    async def add_operation(self, operation: Operation) -> None:
        """As the port says, or the fault."""
        await self._call("add_operation", lambda: self._inner.add_operation(operation))

    async def get_operation(self, operation_id: str) -> Operation:
        """As the port says, or the fault."""
        return await self._call("get_operation", lambda: self._inner.get_operation(operation_id))

    async def get_project(self, project_id: str) -> Project:
        """As the port says, or the fault."""
        return await self._call("get_project", lambda: self._inner.get_project(project_id))

    async def list_projects(self, community_id: str | None = None) -> Sequence[Project]:
        """As the port says, or the fault."""
        return await self._call("list_projects", lambda: self._inner.list_projects(community_id))

    async def close(self) -> None:
        """As the port says; never fails."""
        await self._inner.close()


class FailingResourceStore(Faults):
    """:class:`jobsphere.domain.resource_ports.ResourceStore` around another one, likewise."""

    def __init__(self, inner: ResourceStore) -> None:
        super().__init__()
        self._inner = inner

    async def add_resource(self, resource: Resource[B]) -> None:
        """As the port says, or the fault."""
        await self._call("add_resource", lambda: self._inner.add_resource(resource))

    async def update_resource(self, new: Resource[B], was: Resource[B]) -> bool:
        """As the port says, or the fault."""
        return await self._call("update_resource", lambda: self._inner.update_resource(new, was))

    async def delete_resource(self, was: Resource[B]) -> bool:
        """As the port says, or the fault."""
        return await self._call("delete_resource", lambda: self._inner.delete_resource(was))

    async def get_resource(self, kind: type[B], resource_id: str) -> Resource[B]:
        """As the port says, or the fault."""
        return await self._call("get_resource", lambda: self._inner.get_resource(kind, resource_id))

    async def find_resource(self, kind: type[B], project_id: str, name: str) -> Resource[B]:
        """As the port says, or the fault."""
        return await self._call("find_resource", lambda: self._inner.find_resource(kind, project_id, name))

    async def list_resources(self, kind: type[B], project_id: str | None = None) -> Sequence[Resource[B]]:
        """As the port says, or the fault."""
        return await self._call("list_resources", lambda: self._inner.list_resources(kind, project_id))
