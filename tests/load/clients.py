"""A client among many: it runs jobs, looks at them, follows, cancels, forks and deletes them, as its own dice fall."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import grpc
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from tests.grpc_client import Api
from tests.live import HANG_S, wait_for
from tests.load.jobs import CODE, Known, Task

T = TypeVar("T")
_AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
_LIVE_AT_ONCE = 2


class Calls(Api):
    """Counts its calls, and tells those whose answer may have been lost from the others."""

    def __init__(self, port: int, ca: Path, dice: random.Random) -> None:
        super().__init__(port, ca)
        self._dice = dice
        self.counts: Counter[str] = Counter()
        self.repeated: Counter[str] = Counter()

    def call(self, method: Callable[..., T], request: Any) -> T:
        """One call, repeated while the server is away: a little later each time, for many others do so too."""
        name, until, pause = type(request).__name__, time.monotonic() + HANG_S, 0.1
        self.counts[name] += 1
        while True:
            try:
                return method(request, timeout=HANG_S)
            except grpc.RpcError as e:
                if code_of(e) not in _AWAY or time.monotonic() > until:
                    raise
            self.repeated[name] += 1
            time.sleep(self._dice.uniform(0.5, 1) * pause)
            pause = min(pause * 2, 2.0)


def code_of(error: grpc.RpcError) -> grpc.StatusCode:
    return error.code()  # pyright: ignore[reportAttributeAccessIssue]


class Client(Thread):
    """Does one thing after the other until ``over``; then it cancels what has no end, and sees all the rest end.

    Args:
        number: Which of them it is: its dice are its own.
        calls: Its connection.
        project: Where its jobs are.
        over: Set when it is to do nothing new.
        pause_s: How long it thinks between two things, at most.
    """

    def __init__(self, number: int, calls: Calls, project: str, over: Event, pause_s: float, seed: int) -> None:
        super().__init__(name=f"client {number}")
        self.dice = random.Random(f"{seed} {number}")
        self._number, self._api, self._project, self._over, self._pause_s = number, calls, project, over, pause_s
        self.jobs: list[Known] = []
        self.failure: BaseException | None = None
        self.ends: Counter[str] = Counter()
        self.lost: list[str] = []

    @property
    def calls(self) -> Calls:
        return self._api

    def run(self) -> None:
        things, weights = zip(*THINGS.items(), strict=True)
        try:
            while not self._over.wait(self.dice.uniform(0, self._pause_s)):
                self.dice.choices(things, weights)[0](self)
            for job in self._live():
                if job.task.kind == "endless":
                    self._cancel(job)
            for job in self.jobs:
                if not job.deleted:
                    self._see_end(job)
                else:
                    assert self._is_gone(job.job_id), f"{job.job_id} was deleted and is there"
        except BaseException as error:  # noqa: BLE001  told by whoever started it
            self.failure = error

    def submit(self) -> None:
        """A new job, executed."""
        if len(self._live()) >= _LIVE_AT_ONCE:
            return
        job = self._create()
        job.operation_id = self._api.execute(job.job_id).id

    def abandon(self) -> None:
        """A new job that is never executed."""
        job = self._create()
        self._cancel(job)

    def fork(self) -> None:
        """A clone of an ended one, with another text, executed."""
        source = self._any(lambda j: bool(j.status) and j.task.kind != "endless")
        if source is None or len(self._live()) >= _LIVE_AT_ONCE:
            return
        task = self._task(source.task.kind, source.task.content)
        overrides = pb.JobParameters(env=task.environment)
        request = service_pb.CloneProjectJobRequest(source_job_id=source.job_id, job_parameters_overrides=overrides)
        answer = service_pb.CloneProjectJobResponse()
        assert self._api.call(self._api.jobs.Clone, request).response.Unpack(answer)
        assert not answer.upload_files
        job = Known(task, answer.job_id)
        self.jobs.append(job)
        job.operation_id = self._api.execute(job.job_id).id

    def execute_again(self) -> None:
        """Execute as a client does that attaches: it is the same operation."""
        if job := self._any(lambda j: bool(j.operation_id)):
            assert self._api.execute(job.job_id).id == job.operation_id

    def look(self) -> None:
        """Get, and the operation with it."""
        if job := self._any():
            job.note(self._api.get(job.job_id))
            if job.operation_id:
                assert self._api.operation(job.operation_id).id == job.operation_id

    def list(self) -> None:
        """A page of the project's jobs of a status."""
        status = self.dice.choice(["SUCCESS", "ERROR", "CANCELLED", "EXECUTING", "PREPARING"])
        request = service_pb.ListProjectJobRequest(
            project_id=self._project, page_size=20, filter=f"status IN ({status})"
        )
        jobs = self._api.call(self._api.jobs.List, request).jobs
        assert len({job.id for job in jobs}) == len(jobs) <= 20
        assert {job.status for job in jobs} <= {pb.JobStatus.Value(status)}
        if jobs:
            self._is_gone(jobs[0].id)  # or not: others delete theirs

    def follow(self) -> None:
        """Read on in a log to its end, from where it was read last, through every death of the server."""
        if job := self._any(lambda j: bool(j.operation_id) and j.task.kind != "endless"):
            self._follow(job)

    def cancel(self) -> None:
        """Cancel one that may be under way."""
        if job := self._any(lambda j: not j.status):
            self._cancel(job)

    def delete(self) -> None:
        """Delete an ended one, with its data, when it has been looked at closely."""
        job = self._any(lambda j: bool(j.status))
        if job is None:
            return
        self._see_end(job)
        before = self._api.repeated["DeleteProjectJobRequest"]
        job.deleted = True
        try:
            self._api.call(self._api.jobs.Delete, service_pb.DeleteProjectJobRequest(job_id=job.job_id))
        except grpc.RpcError as e:
            again = self._api.repeated["DeleteProjectJobRequest"] > before
            if not (again and code_of(e) is grpc.StatusCode.NOT_FOUND):
                raise

    def _task(self, kind: str, content: bytes) -> Task:
        code = CODE if kind != "endless" and self.dice.random() < 0.1 else 0
        return Task(kind, f"{self._number}-{len(self.jobs)}", content, self.dice.randint(1, 400), code)

    def _create(self) -> Known:
        kind = self.dice.choices(["quick", "slow", "endless"], [5, 4, 1])[0]
        task = self._task(kind, self.dice.randbytes(self.dice.choice([10, 100_000])))
        job = Known(task, self._api.create(self._project, "bash job.sh", task.files, **task.parameters))
        self.jobs.append(job)
        return job

    def _cancel(self, job: Known) -> None:
        try:
            self._api.cancel(job.job_id, graceful=self.dice.random() < 0.5, reason="enough")
        except grpc.RpcError as e:
            if code_of(e) is not grpc.StatusCode.FAILED_PRECONDITION:  # it has ended by itself
                raise
        else:
            job.cancelled = True

    def _follow(self, job: Known) -> None:
        until = time.monotonic() + HANG_S
        while True:
            self._api.counts["ReadProjectJobLogsRequest"] += 1
            request = service_pb.ReadProjectJobLogsRequest(job_id=job.job_id, offset=job.offset)
            try:
                for answer in self._api.jobs.ReadLogs(request, timeout=HANG_S):
                    job.seen += stdout_of(answer)
                    job.offset = answer.offset
            except grpc.RpcError as e:
                if code_of(e) not in _AWAY or time.monotonic() > until:
                    raise
                self._over.wait(self.dice.uniform(0.1, 0.5))
                continue
            return

    def _is_gone(self, job_id: str) -> bool:
        try:
            return self._api.get(job_id).id != job_id
        except grpc.RpcError as e:
            if code_of(e) is not grpc.StatusCode.NOT_FOUND:
                raise
            return True

    def _see_end(self, job: Known) -> None:
        """Wait for its end, and hold what is told of it against what is known."""
        self._follow(job)
        seen = wait_for(lambda: j if job.note(j := self._api.get(job.job_id)) and job.status else None, job.job_id)
        operation = None
        if job.operation_id:
            operation = wait_for(
                lambda: o if (o := self._api.operation(job.operation_id)).done else None,
                f"the operation of {job.job_id} is done",
            )
        whole = Known(job.task, job.job_id)
        self._follow(whole)
        assert job.seen == whole.seen, f"what was read of the log of {job.job_id} piece by piece is what it holds"
        how = job.end(seen, operation, job.seen)
        self.ends[how] += 1
        if how == "lost":
            self.lost.append(job.job_id)

    def _kept(self) -> list[Known]:
        return [job for job in self.jobs if not job.deleted]

    def _live(self) -> list[Known]:
        return [job for job in self._kept() if job.operation_id and not job.status]

    def _any(self, suits: Callable[[Known], bool] = lambda _: True) -> Known | None:
        """One that suits, of the latest."""
        found = [job for job in self._kept()[-8:] if suits(job)]
        return self.dice.choice(found) if found else None


THINGS: dict[Callable[[Client], None], float] = {
    Client.submit: 8,
    Client.abandon: 0.5,
    Client.fork: 2,
    Client.execute_again: 1,
    Client.look: 10,
    Client.list: 2,
    Client.follow: 4,
    Client.cancel: 1,
    Client.delete: 2,
}
"""What clients do, and how often beside each other."""


def stdout_of(answer: service_pb.ReadProjectJobLogsResponse) -> bytes:
    out = service_pb.StandardStream.OUT
    return b"".join(
        log.content for log in answer.logs if log.HasField("standard_stream") and log.standard_stream == out
    )
