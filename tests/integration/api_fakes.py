"""Use cases that answer from memory and remember what they were asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from tests.unit.world import StandingClock

from jobsphere.api.codec import encode_job
from jobsphere.api.server import Services
from jobsphere.domain.artifact import File, FileDesc
from jobsphere.domain.attempt import LogChunk, LogFrame, LogStream
from jobsphere.domain.errors import NotFoundError, UnauthenticatedError
from jobsphere.domain.job import Job, JobSpec, JobStatus, Progress
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import JobPage, JobView
from jobsphere.domain.resource import Project, Subject
from jobsphere.service.artifacts import StoredFile
from jobsphere.service.audit import Audit
from jobsphere.service.jobs import Submitted
from jobsphere.service.operations import OperationStatus
from jobsphere.store.memory_audit import MemoryAudit

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
TOKEN = "a-good-token-that-is-secret"
PROJECT = Project("p" * 20, "default", "c" * 20, NOON, "alice")
JOB = Job(
    id="j" * 20,
    project_id=PROJECT.id,
    created_by_id="alice",
    created_at=NOON,
    spec=JobSpec(cmd="python3 main.py"),
    name="train",
    status=JobStatus.EXECUTING,
    progress=Progress("Running", 20, NOON),
)
UPLOAD = StoredFile(File(FileDesc("./main.py", "MAIN"), "a" * 64, 3), "http://127.0.0.1/put")
LINE = LogChunk((LogFrame(LogStream.OUT, 5, b"hello\n"),), 30, False)


def operation(kind: OperationKind) -> Operation:
    return Operation(f"o-{kind.value}", kind, PROJECT.id, JOB.id, NOON, "alice")


@dataclass
class Recorder:
    """The last call, and the error that every call raises."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    error: Exception | None = None

    def note(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error


class FakeJobs:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.views = [JobView(PROJECT.id, encode_job(JOB))]
        self.executed: asyncio.Event | None = None
        """What an execution waits for, if anything."""

    async def create(
        self, who: Subject, project_id: str, spec: JobSpec, name: str, desc: str, config: str, ttl: timedelta | None
    ) -> Submitted:
        self._recorder.note("create", who.id, project_id, spec, name, desc, config, ttl)
        return Submitted(operation(OperationKind.CREATE), JOB.id, (UPLOAD,))

    async def clone(
        self, who: Subject, source_job_id: str, overrides: JobSpec, name: str, desc: str, ttl: timedelta | None
    ) -> Submitted:
        self._recorder.note("clone", who.id, source_job_id, overrides, name, desc, ttl)
        return Submitted(operation(OperationKind.CLONE), JOB.id, (UPLOAD,))

    async def execute(self, who: Subject, job_id: str) -> OperationStatus:
        self._recorder.note("execute", who.id, job_id)
        if self.executed is not None:
            await self.executed.wait()
        return OperationStatus(operation(OperationKind.EXECUTE), NOON, done=False, job=JOB)

    async def cancel(self, who: Subject, job_id: str, reason: str, graceful: bool) -> None:
        self._recorder.note("cancel", who.id, job_id, reason, graceful)

    async def get_view(self, who: Subject, job_id: str) -> bytes:
        self._recorder.note("get_view", who.id, job_id)
        return self.views[0].body

    async def page(self, who: Subject, project_id: str, filter_: str, page_size: int, page_token: str) -> JobPage:
        self._recorder.note("page", who.id, project_id, filter_, page_size, page_token)
        start = int(page_token or 0)
        end = start + (page_size or 100)
        return JobPage(tuple(self.views[start:end]), str(end) if end < len(self.views) else "")

    async def downloads(self, who: Subject, job_id: str, files: tuple[File, ...]) -> tuple[StoredFile, ...]:
        self._recorder.note("downloads", who.id, job_id, files)
        return tuple(StoredFile(f, f"http://127.0.0.1/{f.sha256}") for f in files)

    async def delete(self, who: Subject, job_id: str) -> Operation:
        self._recorder.note("delete", who.id, job_id)
        return operation(OperationKind.DELETE)

    async def delete_data(self, who: Subject, job_id: str) -> Operation:
        self._recorder.note("delete_data", who.id, job_id)
        return operation(OperationKind.DELETE_DATA)

    async def delete_all_data(self, who: Subject, project_id: str) -> Operation:
        self._recorder.note("delete_all_data", who.id, project_id)
        return operation(OperationKind.DELETE_ALL_DATA)

    async def set_ttl(self, who: Subject, job_id: str, ttl: timedelta | None) -> None:
        self._recorder.note("set_ttl", who.id, job_id, ttl)


class FakeOperations:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def get(self, who: Subject, operation_id: str) -> OperationStatus:
        self._recorder.note("operation", who.id, operation_id)
        return OperationStatus(operation(OperationKind.EXECUTE), NOON, done=False, job=JOB)

    async def cancel(self, who: Subject, operation_id: str) -> OperationStatus:
        self._recorder.note("cancel operation", who.id, operation_id)
        return OperationStatus(operation(OperationKind.EXECUTE), NOON, done=False, job=JOB)


class FakeLogs:
    """One line, then nothing until ``end`` is set, or ``failure``."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.end = asyncio.Event()
        self.closed = asyncio.Event()
        self.failure: Exception | None = None
        self.trouble_at_the_end: Exception | None = None
        self.flood = False

    async def stream(self, who: Subject, job_id: str, offset: int) -> AsyncIterator[LogChunk]:
        self._recorder.note("stream", who.id, job_id, offset)
        try:
            yield LINE
            while self.flood:
                yield LogChunk((LogFrame(LogStream.OUT, 5, b"x" * 60_000),), 30, False)
            await self.end.wait()
            if self.failure is not None:
                raise self.failure
            yield LogChunk((LogFrame(LogStream.ERR, 6, b"bye\n"),), 60, True)
        finally:
            self.closed.set()
            if self.trouble_at_the_end is not None:
                raise self.trouble_at_the_end


class FakeProjects:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def get(self, who: Subject, project_id: str) -> Project:
        self._recorder.note("project", who.id, project_id)
        if project_id != PROJECT.id:
            raise NotFoundError(f"there is no project {project_id!r}")
        return PROJECT

    async def page(self, who: Subject, *asked: Any) -> tuple[list[Project], str]:
        self._recorder.note("projects", who.id, *asked)
        return [PROJECT], ""


class FakeDatasets:
    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    async def activate(self, who: Subject, project_id: str, dataset_id: str) -> Operation:
        self._recorder.note("activate", who.id, project_id, dataset_id)
        return operation(OperationKind.ACTIVATE_DATASET)


class FakeIdentity:
    good = TOKEN

    async def authenticate(self, authorization: str | None) -> Subject:
        if authorization != f"Bearer {self.good}":
            raise UnauthenticatedError("no valid token")
        return Subject("alice")

    async def issue(self, identity: str, kind: str) -> tuple[str, datetime]:
        return f"{kind}:{identity}", NOON


class Fakes:
    """All use cases with one recorder."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.jobs = FakeJobs(self.recorder)
        self.logs = FakeLogs(self.recorder)
        self.audit = MemoryAudit()
        self.identity = FakeIdentity()

    def services(self) -> Services:
        projects = FakeProjects(self.recorder)
        fakes = (self.jobs, FakeOperations(self.recorder), self.logs, projects, object(), object(), self.identity)
        audit, datasets = Audit(self.audit, StandingClock()), cast("Any", FakeDatasets(self.recorder))
        return Services(*(cast("Any", f) for f in fakes), audit, datasets, cast("Any", object()), cast("Any", object()))
