"""One job: its log, its end, its files, and what can be done to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.operation.operation_pb2 import Operation
from yandex.cloud.operation.operation_service_pb2 import GetOperationRequest

from jobsphere.client._sync.calls import Calls
from jobsphere.client._sync.files import Progress, download, upload
from jobsphere.client._sync.transport import sleep
from jobsphere.client.changes import Changes
from jobsphere.client.facts import JobFacts, LogMessage, Result, job_facts, log_message, result_of
from jobsphere.client.failure import is_away, is_out_of_time
from jobsphere.client.package import Package, packed_changes
from jobsphere.client.showing import as_html
from jobsphere.domain.errors import FailedPreconditionError, NotFoundError
from jobsphere.domain.job import JobStatus

_QUIET_S = 1.0
_FIRST_LOOK_S, _LATER_LOOK_S = 0.05, 1.0
_AWAY_S = 1.0
DATA_TTL = timedelta(days=14)


class Job:
    """One job of the server. Made by :class:`AsyncClient`; what it knows is as old as its last :meth:`refresh`.

    Every method raises a :class:`jobsphere.domain.errors.JobsphereError` with the server's sentence if it is refused.
    """

    def __init__(self, calls: Calls, message: Any) -> None:
        self._calls = calls
        self._message = message

    def __repr__(self) -> str:
        facts = self.facts
        return f"<{type(self).__name__} {facts.id} {facts.name!r} {facts.status}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return as_html(self.facts)

    @property
    def id(self) -> str:
        """Its id."""
        return self._message.id

    @property
    def status(self) -> JobStatus:
        """Its status as of the last look."""
        return self.facts.status

    @property
    def graceful(self) -> bool:
        """Whether its config has a graceful shutdown."""
        return self._message.job_parameters.HasField("graceful_shutdown_parameters")

    @property
    def facts(self) -> JobFacts:
        """All that is known of it as of the last look."""
        return job_facts(self._message)

    def refresh(self) -> Job:
        """Look again; itself."""
        self._message = self._calls.call(self._calls.jobs.Get, pb.GetProjectJobRequest(job_id=self.id))
        return self

    def start(self) -> Operation:
        """Have it run; of one that was started already, its operation."""
        return self._calls.call(self._calls.jobs.Execute, pb.ExecuteProjectJobRequest(job_id=self.id))

    def logs(self, *, follow: bool = True, offset: int = 0) -> Iterator[LogMessage]:
        """What the job writes.

        Args:
            follow: To the job's end, also while the server is restarted. Otherwise only what there is by now.
            offset: Where to begin: 0 is the start, -1 is now.
        """
        begin = datetime.now(UTC)
        while True:
            heard = False
            request = pb.ReadProjectJobLogsRequest(job_id=self.id, offset=offset)
            try:
                timeout_s = None if follow else _QUIET_S
                for response in self._calls.stream(self._calls.jobs.ReadLogs, request, timeout_s):
                    offset = response.offset
                    for one in response.logs:
                        message = log_message(one)
                        heard = message.time < begin
                        yield message
            except grpc.RpcError as error:
                if is_out_of_time(error) and not follow:
                    if not heard:
                        return
                elif is_away(error) and follow:
                    sleep(_AWAY_S)
                else:
                    raise self._calls.failure(error) from None
            else:
                return

    def wait(self) -> Result:
        """Its end, whenever that is.

        Raises:
            FailedPreconditionError: it was never started.
        """
        if self.status is JobStatus.CREATING and (self.refresh()).status is JobStatus.CREATING:
            raise FailedPreconditionError(f"job {self.id} was not started")
        operation, pause_s = self.start(), _FIRST_LOOK_S
        while not operation.done:
            sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LATER_LOOK_S)
            request = GetOperationRequest(operation_id=operation.id)
            operation = self._calls.call(self._calls.operations.Get, request)
        return result_of((self.refresh()).facts, operation)

    def cancel(self, *, graceful: bool = False, reason: str = "") -> None:
        """Have it stopped: at once, or by its own graceful shutdown."""
        request = pb.CancelProjectJobRequest(job_id=self.id, graceful=graceful, reason=reason)
        self._calls.call(self._calls.jobs.Cancel, request)

    def fork(self, changes: Changes | None = None, *, progress: Progress | None = None) -> Job:
        """A new job like this one but for the changes; it is started."""
        self.refresh()
        with packed_changes(self._message.job_parameters, changes or Changes()) as package:
            request = pb.CloneProjectJobRequest(
                source_job_id=self.id,
                job_parameters_overrides=package.parameters,
                name=package.name,
                desc=package.description,
                data_ttl=Duration(seconds=int(DATA_TTL.total_seconds())),
            )
            operation = self._calls.call(self._calls.jobs.Clone, request)
            return started(self._calls, operation, pb.CloneProjectJobResponse(), package, progress)

    def download(
        self,
        folder: Path | str = ".",
        paths: Sequence[str] = (),
        *,
        logs: bool = False,
        progress: Progress | None = None,
    ) -> list[Path]:
        """Bring its outputs.

        Args:
            folder: Where to; each file goes to its path below it.
            paths: The files, by path or variable, of any kind; by default all outputs.
            logs: By default bring logs and diagnostics too.
            progress: Is told of each piece.

        Returns:
            Where they are now.

        Raises:
            NotFoundError: the job has no such file.
        """
        self.refresh()
        wanted = self._files(paths, logs)
        request = pb.DownloadProjectJobFilesRequest(job_id=self.id, files=wanted)
        answer = self._calls.call(self._calls.jobs.DownloadJobFiles, request)
        return [download(self._calls.http, one, Path(folder), progress) for one in answer.download_files]

    def delete(self) -> None:
        """Remove it with all its data."""
        self._calls.call(self._calls.jobs.Delete, pb.DeleteProjectJobRequest(job_id=self.id))

    def delete_data(self) -> None:
        """Remove its data; the job stays."""
        self._calls.call(self._calls.jobs.DeleteData, pb.DeleteProjectJobDataRequest(job_id=self.id))

    def set_data_ttl(self, ttl: timedelta | None) -> None:
        """Keep its data for so long after its end; None: for ever."""
        kept = None if ttl is None else Duration(seconds=int(ttl.total_seconds()))
        self._calls.call(self._calls.jobs.SetDataTtl, pb.SetProjectJobDataTtlRequest(job_id=self.id, ttl=kept))

    def _files(self, paths: Sequence[str], logs: bool) -> list[Any]:
        job = self._message
        rest = [*job.log_files, *job.diagnostic_files]
        if not paths:
            return [*job.output_files, *(rest if logs else ())]
        known = [*job.output_files, *rest, *job.job_parameters.input_files]
        by_name = {name: one for one in reversed(known) for name in (one.desc.path, one.desc.var) if name}
        unknown = [path for path in paths if path not in by_name]
        if unknown:
            there = ", ".join(one.desc.path for one in known) or "none"
            raise NotFoundError(f"job {self.id} has no file {unknown[0]!r}; there are: {there}")
        return [by_name[path] for path in paths]


def started(calls: Calls, operation: Operation, response: Any, package: Package, progress: Progress | None) -> Job:
    """The job of a Create or Clone that was answered: its files are sent, then it is started."""
    operation.response.Unpack(response)
    upload(calls.http, response.upload_files, package.paths, progress)
    message = calls.call(calls.jobs.Get, pb.GetProjectJobRequest(job_id=response.job_id))
    job = Job(calls, message)
    job.start()
    return job
