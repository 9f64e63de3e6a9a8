"""Jobs: create, fork, execute, cancel, read and delete them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from jobsphere.domain import limits
from jobsphere.domain.access import Action
from jobsphere.domain.artifact import File
from jobsphere.domain.cluster import ClusterTypes
from jobsphere.domain.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnavailableError
from jobsphere.domain.job import DEFAULT_SIGNAL, CancelRequest, Job, JobSpec, JobStatus
from jobsphere.domain.lifecycle import Cancel, Effect, Event, Execute, TtlSet, decide, expiry
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import Clock, Ids, Images, JobPage, JobStore
from jobsphere.domain.resource import Subject
from jobsphere.domain.resource_ports import ResourceStore, find_connector, find_dataset, find_spark
from jobsphere.domain.text import has_controls
from jobsphere.extensions import extensions_of
from jobsphere.pythonspec import environment_of
from jobsphere.service import traced, trail
from jobsphere.service.access import Access
from jobsphere.service.artifacts import Artifacts, StoredFile, check_one_size, own_file
from jobsphere.service.changes import Changes
from jobsphere.service.data import JobData, require_data
from jobsphere.service.forks import merge
from jobsphere.service.logs import Readers
from jobsphere.service.operations import Operations, OperationStatus
from jobsphere.service.quotas import Quotas

DEFAULT_GRACE = timedelta(seconds=30)
"""How long a graceful shutdown may take when the job names no timeout."""
_PAGE = 100
_MAX_PAGE = 1000
_NOBODY = Subject("")
_FILTER = re.compile(r"\s*status\s+IN\s*\(([^()]*)\)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Submitted:
    """A new job: its operation (done), its id, and the files that the client has yet to bring."""

    operation: Operation
    job_id: str
    uploads: tuple[StoredFile, ...]


class Jobs:
    """What can be done with jobs. ``wake`` tells the engine that a job has something to do."""

    def __init__(
        self,
        store: JobStore,
        artifacts: Artifacts,
        data: JobData,
        access: Access,
        changes: Changes,
        readers: Readers,
        clock: Clock,
        ids: Ids,
        wake: Callable[[str], None],
        images: Images,
        types: ClusterTypes,
        resources: ResourceStore,
        quotas: Quotas,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._data = data
        self._access = access
        self._changes = changes
        self._clock = clock
        self._ids = ids
        self._wake = wake
        self._images = images
        self._types = types
        self._resources = resources
        self._quotas = quotas
        self._draining = False
        self.operations = Operations(store, access, artifacts, readers, self.cancel)

    def drain(self) -> None:
        """Take no new jobs from now on: the server is about to stop. What is read, cancelled or deleted goes on."""
        self._draining = True

    async def create(
        self, who: Subject, project_id: str, spec: JobSpec, name: str, desc: str, config: str, ttl: timedelta | None
    ) -> Submitted:
        """Store a new job and say which files are to be brought.

        Raises:
            NotFoundError: no such project.
            InvalidArgumentError: the spec breaks a limit.
            FailedPreconditionError: it asks for an image, and no container engine is there, or it names a dataset, a
                connector or a secret that the project does not have.
            ResourceExhaustedError: the project would have more jobs or bytes than it may.
            UnavailableError: the server is about to stop.
        """
        await self._access.project(who, project_id, Action.JOB_CREATE)
        return await self._submit(who, project_id, spec, name, desc, config, ttl, parent="")

    async def clone(
        self, who: Subject, source_job_id: str, overrides: JobSpec, name: str, desc: str, ttl: timedelta | None
    ) -> Submitted:
        """Store a fork: the source job's spec with what ``overrides`` sets.

        Raises:
            NotFoundError: no such job.
            FailedPreconditionError: its data is cleared.
            InvalidArgumentError, ResourceExhaustedError: as for :meth:`create`.
        """
        source = await self._owned(who, source_job_id, Action.JOB_CREATE)
        require_data(source)
        spec = merge(source.spec, overrides)
        return await self._submit(
            who, source.project_id, spec, name or source.name, desc or source.desc, source.config, ttl, parent=source.id
        )

    async def execute(self, who: Subject, job_id: str) -> OperationStatus:
        """Start the job; called again, the same operation, running or done.

        Raises:
            NotFoundError: no such job.
            FailedPreconditionError: inputs are missing (named), or the job was cancelled before it was executed.
            ResourceExhaustedError: as many jobs of the project wait as may, or its inputs are too much for it.
            UnavailableError: the server is about to stop.
        """
        job = await self._owned(who, job_id, Action.JOB_EXECUTE)
        traced.current().about(job.id, job.trace)
        while job.status is JobStatus.CREATING:
            self._refuse_if_draining()
            require_data(job)
            if absent := await self._artifacts.absent(job):
                raise FailedPreconditionError(f"these inputs have not been uploaded: {', '.join(absent)}")
            operation = self._operation(OperationKind.EXECUTE, job.project_id, job.id, who)
            new, effects = decide(job, Execute(operation.id, traced.current().context()), self._clock.now())
            async with self._quotas.queueing(job.project_id):
                stored = await self._store.update_job(new, job, operation, trail.row())
            if stored:
                trail.stored()
                self._after(new, effects)
                return await self.operations.describe(operation, new, done=False)
            job = await self._store.get_job(job_id)
        if not job.operation_id:
            raise FailedPreconditionError("the job was cancelled before it was executed; create or fork a new one")
        return await self.operations.get(who, job.operation_id)

    async def cancel(self, who: Subject, job_id: str, reason: str, graceful: bool) -> None:
        """End the job: at once, or its own way first if ``graceful`` and the job has graceful parameters.

        Raises:
            NotFoundError: no such job.
            FailedPreconditionError: it has ended by itself.
        """
        job = await self._owned(who, job_id, Action.JOB_CANCEL)
        traced.current().about(job.id, job.trace)
        await self._move(job, Cancel(self._cancel_request(job, who, reason, graceful)))

    async def get_view(self, who: Subject, job_id: str) -> bytes:
        """The job in its published encoding.

        Raises:
            NotFoundError: no such job.
        """
        view = await self._store.view_job(job_id)
        await self._access.require(who, view.project_id, Action.JOB_VIEW, "job", job_id)
        return view.body

    async def page(self, who: Subject, project_id: str, filter_: str, page_size: int, page_token: str) -> JobPage:
        """A page of the project's jobs, newest first.

        Raises:
            NotFoundError: no such project.
            InvalidArgumentError: the filter, the size or the token cannot be.
        """
        await self._access.project(who, project_id, Action.JOB_VIEW)
        if not 0 <= page_size <= _MAX_PAGE:
            raise InvalidArgumentError(f"page_size: {page_size}, while it must be 0 to {_MAX_PAGE}")
        return await self._store.page_jobs(project_id, parse_filter(filter_), page_size or _PAGE, page_token)

    async def downloads(self, who: Subject, job_id: str, files: tuple[File, ...]) -> tuple[StoredFile, ...]:
        """URLs for files of the job.

        Raises:
            NotFoundError: no such job, or a file that is not the job's.
            FailedPreconditionError: the job's data is cleared.
        """
        job = await self._owned(who, job_id, Action.JOB_FETCH)
        if not files:
            return ()
        require_data(job)
        return await self._artifacts.downloads(job.project_id, [own_file(job, f) for f in files])

    async def delete(self, who: Subject, job_id: str) -> Operation:
        """Delete an ended job with its data.

        Raises:
            NotFoundError: no such job.
            FailedPreconditionError: it is under way.
        """
        job = await self._owned(who, job_id, Action.JOB_DELETE)
        operation = self._operation(OperationKind.DELETE, job.project_id, job.id, who)
        await self._data.delete(job, operation)
        self._changes.publish(job.id)
        return operation

    async def delete_data(self, who: Subject, job_id: str) -> Operation:
        """Clear the data of an ended job; the job stays.

        Raises:
            NotFoundError: no such job.
            FailedPreconditionError: it is under way.
        """
        job = await self._owned(who, job_id, Action.JOB_DELETE)
        await self._data.clear(job)
        self._changes.publish(job.id)
        return await self._record(OperationKind.DELETE_DATA, job.project_id, job.id, who)

    async def delete_all_data(self, who: Subject, project_id: str) -> Operation:
        """Clear the data of all jobs of the project that are not under way.

        Raises:
            NotFoundError: no such project.
        """
        await self._access.project(who, project_id, Action.JOB_DELETE)
        for job in await self._store.jobs_with_data(project_id):
            try:
                await self._data.clear(job)
            except (FailedPreconditionError, NotFoundError):
                continue  # Executed or deleted since it was listed.
            self._changes.publish(job.id)
        return await self._record(OperationKind.DELETE_ALL_DATA, project_id, "", who)

    async def set_ttl(self, who: Subject, job_id: str, ttl: timedelta | None) -> None:
        """Let the data live ``ttl`` from now on (None: for ever).

        Raises:
            NotFoundError: no such job.
            InvalidArgumentError: the time is not positive.
            FailedPreconditionError: the data is already cleared.
        """
        _check_ttl(ttl)
        await self._move(await self._owned(who, job_id, Action.JOB_CHANGE), TtlSet(ttl))

    def _refuse_if_draining(self) -> None:
        if self._draining:
            raise UnavailableError(
                "the server is stopping and takes no new jobs; nothing was done: send it again in a moment, when the "
                "next one has started"
            )

    async def _owned(self, who: Subject, job_id: str, action: Action) -> Job:
        job = await self._store.get_job(job_id)
        await self._access.require(who, job.project_id, action, "job", job_id)
        return job

    async def _submit(
        self,
        who: Subject,
        project_id: str,
        spec: JobSpec,
        name: str,
        desc: str,
        config: str,
        ttl: timedelta | None,
        parent: str,
    ) -> Submitted:
        self._refuse_if_draining()
        _check(spec, name, desc, config, ttl)
        self._types.check(spec.instance_types, spec.storage_bytes)
        config = _without_password(config, spec)
        for dataset_id in spec.dataset_ids:
            await find_dataset(self._resources, project_id, dataset_id)
        for connector_id in spec.s3_mount_ids:
            await find_connector(self._resources, project_id, connector_id)
        if spec.spark_connector_id:
            await find_spark(self._resources, project_id, spec.spark_connector_id)
        spec = await self._images.accept(project_id, spec)
        now = self._clock.now()
        job = Job(
            id=self._ids.new(),
            project_id=project_id,
            created_by_id=who.id,
            created_at=now,
            spec=spec,
            name=name,
            desc=desc,
            config=config,
            data_ttl=ttl,
            data_expires_at=expiry(now, ttl),
            parent_job_id=parent,
            status_details="Waiting for its inputs and for Execute",
            trace=traced.current().context(),
            retries=extensions_of(config).retries,
        )
        kind = OperationKind.CLONE if parent else OperationKind.CREATE
        operation = self._operation(kind, project_id, job.id, who)
        # The job's references are stored before anybody looks which blobs are there: one that is seen here as present
        # cannot be swept away any more.
        async with self._quotas.creating(project_id, await self._artifacts.new_bytes(project_id, spec.uploads())):
            trail.note("job_id", job.id)
            await self._store.add_job(job, operation, trail.row())
        trail.stored()
        traced.current().about(job.id)
        await self._stay_with_project(job)
        return Submitted(operation, job.id, await self._artifacts.uploads(project_id, spec.uploads()))

    async def _stay_with_project(self, job: Job) -> None:
        """A project that was deleted while the job was stored must not leave the job behind."""
        try:
            await self._store.get_project(job.project_id)
        except NotFoundError:
            await self._store.delete_job(job, self._operation(OperationKind.DELETE, job.project_id, job.id, _NOBODY))
            raise

    async def _move(self, job: Job, event: Event) -> None:
        while True:
            new, effects = decide(job, event, self._clock.now())
            if new is job or await self._store.update_job(new, job):
                self._after(new, effects)
                return
            job = await self._store.get_job(job.id)

    def _after(self, job: Job, effects: tuple[Effect, ...]) -> None:
        self._changes.publish(job.id)
        if Effect.WAKE in effects:
            self._wake(job.id)

    def _operation(self, kind: OperationKind, project_id: str, job_id: str, who: Subject) -> Operation:
        return Operation(self._ids.new(), kind, project_id, job_id, self._clock.now(), who.id)

    async def _record(self, kind: OperationKind, project_id: str, job_id: str, who: Subject) -> Operation:
        operation = self._operation(kind, project_id, job_id, who)
        await self._store.add_operation(operation)
        return operation

    def _cancel_request(self, job: Job, who: Subject, reason: str, graceful: bool) -> CancelRequest:
        now = self._clock.now()
        how = job.spec.graceful_shutdown
        if not graceful or how is None:
            return CancelRequest(now, who.id, reason)
        grace = timedelta(seconds=how.timeout_s) if how.timeout_s is not None else DEFAULT_GRACE
        return CancelRequest(now, who.id, reason, how.signal or DEFAULT_SIGNAL, now + grace)


def parse_filter(text: str) -> tuple[JobStatus, ...] | None:
    """Read ``status IN (A, B)``; None for an empty filter.

    Raises:
        InvalidArgumentError: anything else.
    """
    if not text.strip():
        return None
    if len(text) > limits.MAX_FILTER_CHARS:
        raise InvalidArgumentError(f"filter: {len(text)} characters, while the limit is {limits.MAX_FILTER_CHARS}")
    match = _FILTER.fullmatch(text)
    if match is None:
        raise InvalidArgumentError("filter: only the form `status IN (EXECUTING, SUCCESS)` is supported")
    names = [n.strip().strip("\"'") for n in match.group(1).split(",")]
    for name in names:
        if name not in JobStatus.__members__:
            raise InvalidArgumentError(f"filter: there is no status {name!r}; there are: {', '.join(JobStatus)}")
    return tuple(dict.fromkeys(JobStatus[n] for n in names))


def _check(spec: JobSpec, name: str, desc: str, config: str, ttl: timedelta | None) -> None:
    limits.check_spec(spec)
    check_one_size(spec.uploads())
    if spec.env.python_env is not None:
        environment_of(spec.env.python_env)
    for where, text, limit in (
        ("name", name, limits.MAX_NAME_CHARS),
        ("desc", desc, limits.MAX_PATH_CHARS),
        ("config", config, limits.MAX_CONFIG_BYTES),
    ):
        if len(text) > limit:
            raise InvalidArgumentError(f"{where}: {len(text)} characters, while the limit is {limit}")
    for where, text in (("name", name), ("desc", desc)):
        # Clients of others print it as it is.
        if has_controls(text, lines=where == "desc"):
            raise InvalidArgumentError(f"{where}: holds a control character")
    _check_ttl(ttl)


def _without_password(config: str, spec: JobSpec) -> str:
    """The client's file as it may be stored: it is kept for reading only, and may repeat the image's password."""
    image = spec.env.docker_image_spec
    if image is None or not image.password_plain_text:
        return config
    password = image.password_plain_text
    for spelling in (password, password.replace("'", "''"), json.dumps(password)[1:-1]):
        config = config.replace(spelling, "*****")
    return config


def _check_ttl(ttl: timedelta | None) -> None:
    if ttl is not None and ttl <= timedelta():
        raise InvalidArgumentError("ttl: must be positive; leave it out for data that never expires")
