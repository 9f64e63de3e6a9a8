"""Operations as clients see them: read from the job each time, so that the two always agree."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from jobsphere.domain.access import Action
from jobsphere.domain.errors import FailedPreconditionError, no_such
from jobsphere.domain.job import Job, JobStatus, Phase
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import JobStore
from jobsphere.domain.resource import Community, Project, Subject
from jobsphere.service.access import Access
from jobsphere.service.artifacts import Artifacts, StoredFile
from jobsphere.service.logs import Readers

_HOLD_S = 2.0
_REMOVALS = {OperationKind.DELETE_PROJECT, OperationKind.DELETE_COMMUNITY}
_PHASE_CODES = {
    Phase.STAGE: "DATA_LOSS",
    Phase.IMAGE: "FAILED_PRECONDITION",
    Phase.ENVIRONMENT: "FAILED_PRECONDITION",
    Phase.RUN: "FAILED_PRECONDITION",
    Phase.OUTPUTS: "INTERNAL",
    Phase.MACHINE: "ABORTED",
}


@dataclass(frozen=True, slots=True)
class OperationError:
    """Why an operation has no response: ``code`` is the name of a standard RPC code."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class OperationStatus:
    """An operation and what it tells now.

    ``job`` is there for operations of Execute, ``resource`` for those that made or changed a project or a community.
    """

    operation: Operation
    modified_at: datetime
    done: bool
    job: Job | None = None
    outputs: tuple[StoredFile, ...] = ()
    resource: Project | Community | None = None
    error: OperationError | None = None


class Operations:
    """Reading and cancelling operations.

    Args:
        store: Where they are.
        access: Who may see them.
        artifacts: Download URLs for the response.
        readers: Tells whether a job's log is read to its end.
        cancel: Cancels a job: ``(who, job_id, reason, graceful)``.
    """

    def __init__(
        self,
        store: JobStore,
        access: Access,
        artifacts: Artifacts,
        readers: Readers,
        cancel: Callable[[Subject, str, str, bool], Awaitable[None]],
    ) -> None:
        self._store = store
        self._access = access
        self._artifacts = artifacts
        self._readers = readers
        self._cancel = cancel

    async def get(self, who: Subject, operation_id: str) -> OperationStatus:
        """The operation now.

        Raises:
            NotFoundError: there is none of that id.
        """
        operation = await self._store.get_operation(operation_id)
        await self._require(who, operation, Action.JOB_VIEW)
        if operation.kind is not OperationKind.EXECUTE:
            resource = await self._resource(who, operation)
            return OperationStatus(operation, operation.created_at, done=True, resource=resource)
        job = await self._store.get_job(operation.job_id)
        return await self.describe(operation, job, done=job.status.terminal and await self._log_is_read(job))

    async def cancel(self, who: Subject, operation_id: str) -> OperationStatus:
        """Cancel what the operation stands for, at once.

        Raises:
            NotFoundError: there is none of that id.
            FailedPreconditionError: it is done.
        """
        operation = await self._store.get_operation(operation_id)
        await self._require(who, operation, Action.JOB_CANCEL)
        if operation.kind is not OperationKind.EXECUTE:
            raise FailedPreconditionError("the operation is done; there is nothing to cancel")
        await self._cancel(who, operation.job_id, "its operation was cancelled", False)
        return await self.get(who, operation_id)

    async def describe(self, operation: Operation, job: Job, done: bool) -> OperationStatus:
        """The status of an Execute operation whose job is ``job``."""
        modified = job.finished_at or (job.progress.at if job.progress else operation.created_at)
        if not done:
            return OperationStatus(operation, modified, done=False, job=job)
        files = () if job.data_cleared else job.artifacts.outputs
        outputs = await self._artifacts.downloads(job.project_id, files)
        return OperationStatus(operation, modified, done=True, job=job, outputs=outputs, error=_error(job))

    async def _require(self, who: Subject, operation: Operation, action: Action) -> None:
        """Whoever may look at what the operation is about may look at it; what is gone, only who removed it."""
        if operation.kind in _REMOVALS:
            if not who.operator and who.id != operation.created_by:
                raise no_such("operation", operation.id)
        elif operation.community_id:
            await self._access.require_community(
                who, operation.community_id, Action.COMMUNITY_VIEW, "operation", operation.id
            )
        else:
            await self._access.require(who, operation.project_id, action, "operation", operation.id)

    async def _resource(self, who: Subject, operation: Operation) -> Project | Community | None:
        """What the operation made or changed, as it is now."""
        if operation.kind in {OperationKind.CREATE_PROJECT, OperationKind.UPDATE_PROJECT}:
            return await self._access.project(who, operation.project_id, Action.PROJECT_VIEW)
        if operation.kind in {OperationKind.CREATE_COMMUNITY, OperationKind.UPDATE_COMMUNITY}:
            return await self._access.community(who, operation.community_id, Action.COMMUNITY_VIEW)
        return None

    async def _log_is_read(self, job: Job) -> bool:
        """Wait a moment for the readers of the log: their client stops reading once the operation is done."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _HOLD_S
        while (left := self._readers.pending(job)) > 0:
            if loop.time() >= until:
                return False
            await asyncio.sleep(min(left, 0.1))
        return True


def _error(job: Job) -> OperationError | None:
    if job.status is JobStatus.CANCELLED:
        return OperationError("CANCELLED", job.status_details)
    if job.status is JobStatus.ERROR and job.return_code is None and job.failure is not None:
        return OperationError(_PHASE_CODES[job.failure.phase], f"{job.failure.phase}: {job.failure.message}")
    return None
