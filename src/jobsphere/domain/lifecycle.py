"""How a job moves on: the transition table, and :func:`decide`, the only way a status changes.

``decide`` is pure. It gives the next value of the job and the effects that follow once that value is stored; a caller
that crashes in between loses nothing, since the reconciler derives the same effects from what is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from jobsphere.domain.artifact import Artifacts
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.job import Attempt, CancelRequest, Failure, Job, JobStatus, OutputDataset, Phase, Progress
from jobsphere.domain.trace import TraceContext

S = JobStatus

TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    S.CREATING: frozenset({S.PREPARING, S.CANCELLED}),
    S.PREPARING: frozenset({S.EXECUTING, S.ERROR, S.CANCELLING}),
    S.EXECUTING: frozenset({S.UPLOADING_OUTPUT, S.ERROR, S.CANCELLING, S.PREPARING}),
    S.UPLOADING_OUTPUT: frozenset({S.SUCCESS, S.ERROR, S.CANCELLING, S.PREPARING}),
    S.CANCELLING: frozenset({S.CANCELLED}),
    S.SUCCESS: frozenset(),
    S.ERROR: frozenset(),
    S.CANCELLED: frozenset(),
}
"""Every status change that may ever be stored. Back to PREPARING goes only a lost job that asked for retries."""


class Effect(Enum):
    """What follows a stored decision. Each may be repeated, and each may be lost: the reconciler makes up for it."""

    WAKE = auto()
    """The engine has something to do for this job."""
    TIDY = auto()
    """What the attempt needed only while it ran can go."""


@dataclass(frozen=True, slots=True)
class Execute:
    """The user starts the job; its inputs are all here. Absorbed if it was started before.

    ``trace``: the span of the call, if traces are recorded.
    """

    operation_id: str
    trace: TraceContext | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """No place for the job yet; ``message`` says why and how many are before it."""

    message: str


@dataclass(frozen=True, slots=True)
class Placed:
    """A node and an instance type were chosen. Stored before the launch: it is the intent."""

    attempt: Attempt
    instance_type: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """The attempt tells what it is doing."""

    message: str
    percent: int


@dataclass(frozen=True, slots=True)
class ProgramStarted:
    """The ``started`` record is durable."""

    at: datetime


@dataclass(frozen=True, slots=True)
class ProgramExited:
    """The ``exit`` record is durable. ``tail``: the last lines of its stderr, for a code other than 0."""

    at: datetime
    code: int
    tail: str = ""


@dataclass(frozen=True, slots=True)
class OutputsCommitted:
    """Every collected file is a committed blob; ``datasets`` are made, and count if the program returned 0."""

    artifacts: Artifacts
    datasets: tuple[OutputDataset, ...] = ()


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """The attempt ended without the program having run to an end: failed before it, or lost.

    ``lost``: by no fault of the job. It is started anew if it asked for that.
    """

    at: datetime
    failure: Failure
    artifacts: Artifacts = Artifacts()
    lost: bool = False


@dataclass(frozen=True, slots=True)
class AttemptStopped:
    """No live process of the attempt is left (or there never was one)."""

    at: datetime
    artifacts: Artifacts = Artifacts()


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody wants the job to end."""

    request: CancelRequest


@dataclass(frozen=True, slots=True)
class TtlSet:
    """The data shall live ``ttl`` from now (None: for ever)."""

    ttl: timedelta | None


@dataclass(frozen=True, slots=True)
class DataCleared:
    """The job's files shall go, the job stays."""


Event = (
    Execute
    | Waiting
    | Placed
    | Advanced
    | ProgramStarted
    | ProgramExited
    | OutputsCommitted
    | AttemptFailed
    | AttemptStopped
    | Cancel
    | TtlSet
    | DataCleared
)
Decision = tuple[Job, tuple[Effect, ...]]


def decide(job: Job, event: Event, now: datetime) -> Decision:
    """Apply one event. An event that no longer means anything is absorbed: the same job comes back, without effects.

    Args:
        job: The job as stored.
        event: What happened or is wanted.
        now: The time of the decision, timezone-aware UTC.

    Returns:
        The job to store (``version`` is one more, unless it is the same object) and the effects.

    Raises:
        FailedPreconditionError: the user asks for something that the job's state does not allow.
    """
    new, effects = _HANDLERS[type(event)](job, event, now)
    if new is job:
        return job, effects
    if new.status is not job.status:
        if new.status not in TRANSITIONS[job.status]:
            raise AssertionError(f"no transition {job.status} -> {new.status}")
        if new.status.terminal:
            new = _finish(new, now)
    return replace(new, version=job.version + 1), effects


def expiry(now: datetime, ttl: timedelta | None) -> datetime | None:
    """When data that lives ``ttl`` from ``now`` on expires; beyond the calendar's end it is the calendar's end."""
    if ttl is None:
        return None
    end = datetime.max.replace(tzinfo=now.tzinfo)
    return now + ttl if ttl < end - now else end


def _finish(job: Job, now: datetime) -> Job:
    return replace(
        job,
        finished_at=max(now, job.started_at or job.created_at),
        data_expires_at=expiry(now, job.data_ttl),
        progress=Progress(job.status_details, 100, now),
    )


def _execute(job: Job, event: Execute, now: datetime) -> Decision:
    if job.status is not S.CREATING:
        return job, ()
    if job.data_cleared:
        raise FailedPreconditionError("the job's data has been cleared, so that it cannot run; create a new job")
    details = "Waiting for a free place"
    return replace(
        job,
        status=S.PREPARING,
        operation_id=event.operation_id,
        executed_at=now,
        trace=event.trace or job.trace,
        status_details=details,
        progress=Progress(details, 0, now),
    ), (Effect.WAKE,)


def _waiting(job: Job, event: Waiting, now: datetime) -> Decision:
    if job.status is not S.PREPARING or job.attempt is not None or job.status_details == event.message:
        return job, ()
    return replace(job, status_details=event.message, progress=Progress(event.message, 0, now)), ()


def _placed(job: Job, event: Placed, now: datetime) -> Decision:
    if job.status is not S.PREPARING or job.attempt is not None:
        return job, ()
    details = f"Starting on {event.attempt.node}"
    return replace(
        job,
        attempt=event.attempt,
        actual_instance_type=event.instance_type,
        status_details=details,
        progress=Progress(details, 1, now),
    ), (Effect.WAKE,)


def _advanced(job: Job, event: Advanced, now: datetime) -> Decision:
    told = job.progress
    same = told is not None and told.message == event.message and told.percent == event.percent
    if job.status is not S.PREPARING or same:
        return job, ()
    return replace(job, status_details=event.message, progress=Progress(event.message, event.percent, now)), ()


def _started(job: Job, event: ProgramStarted, now: datetime) -> Decision:
    if job.status is S.CANCELLING and job.started_at is None:
        return replace(job, started_at=max(event.at, job.created_at)), ()
    if job.status is not S.PREPARING:
        return job, ()
    note = job.attempt.note if job.attempt else ""
    details = f"Running as {job.actual_instance_type}{note and ', '}{note}"
    at = max(event.at, job.created_at)  # a clock that was set back meanwhile does not make a job end before its begin
    return replace(
        job, status=S.EXECUTING, started_at=at, status_details=details, progress=Progress(details, 20, now)
    ), ()


def _exited(job: Job, event: ProgramExited, now: datetime) -> Decision:
    if job.status is not S.EXECUTING:
        return job, ()
    failure = None if event.code == 0 else Failure(Phase.RUN, _exit_message(event))
    details = "Collecting outputs"
    return replace(
        job,
        status=S.UPLOADING_OUTPUT,
        return_code=event.code,
        failure=failure,
        status_details=details,
        progress=Progress(details, 90, now),
    ), ()


def _exit_message(event: ProgramExited) -> str:
    how = f"The program returned code {event.code}"
    if event.code > 128:
        how += f" (killed by signal {event.code - 128})"
    return f"{how}. The end of its stderr:\n{event.tail}" if event.tail else f"{how}; it wrote nothing to stderr."


def _committed(job: Job, event: OutputsCommitted, now: datetime) -> Decision:  # noqa: ARG001
    if job.status is not S.UPLOADING_OUTPUT:
        return job, ()
    missing = len(event.artifacts.errors)
    if job.return_code == 0:
        note = f"; {missing} of the outputs could not be collected, see file_errors" if missing else ""
        details = f"The program completed{note}"
        return replace(
            job,
            status=S.SUCCESS,
            artifacts=event.artifacts,
            output_datasets=event.datasets,
            status_details=details,
        ), (Effect.TIDY,)
    details = job.failure.message if job.failure else ""
    return replace(job, status=S.ERROR, artifacts=event.artifacts, status_details=details), (Effect.TIDY,)


def _failed(job: Job, event: AttemptFailed, now: datetime) -> Decision:
    if job.status is S.CANCELLING:
        return _stopped(job, AttemptStopped(event.at, event.artifacts), now)
    if job.status not in {S.PREPARING, S.EXECUTING, S.UPLOADING_OUTPUT}:
        return job, ()
    if event.lost and job.attempt is not None and len(job.lost_attempts) < job.retries:
        return _again(job, job.attempt, event, now)
    return replace(
        job,
        status=S.ERROR,
        failure=event.failure,
        return_code=None,
        artifacts=event.artifacts,
        status_details=event.failure.message,
    ), (Effect.TIDY,)


def _again(job: Job, attempt: Attempt, event: AttemptFailed, now: datetime) -> Decision:
    """As after Execute, but for what is known of the attempts before."""
    details = f"Retry {len(job.lost_attempts) + 1} of {job.retries}: {event.failure.message}"
    return replace(
        job,
        status=S.PREPARING,
        attempt=None,
        lost_attempts=(*job.lost_attempts, attempt),
        actual_instance_type="",
        started_at=None,
        return_code=None,
        failure=None,
        status_details=details,
        progress=Progress(details, 0, now),
    ), (Effect.WAKE,)


def _stopped(job: Job, event: AttemptStopped, now: datetime) -> Decision:  # noqa: ARG001
    if job.status is not S.CANCELLING:
        return job, ()
    return replace(
        job, status=S.CANCELLED, artifacts=event.artifacts, status_details=_cancel_text("Cancelled", job.cancel)
    ), (Effect.TIDY,)


def _cancel_text(word: str, request: CancelRequest | None) -> str:
    if request is None:
        return word
    reason = f": {request.reason}" if request.reason else ""
    return f"{word} by {request.requested_by}{reason}"


def _cancel(job: Job, event: Cancel, now: datetime) -> Decision:
    request = event.request
    match job.status:
        case S.CANCELLED:
            return job, ()
        case S.SUCCESS | S.ERROR:
            raise FailedPreconditionError(f"the job has already ended with {job.status}; there is nothing to cancel")
        case S.CREATING:
            details = _cancel_text("Cancelled before it was executed", request)
            return replace(job, status=S.CANCELLED, cancel=request, status_details=details), ()
        case S.CANCELLING:
            if request.signal or job.cancel is None or job.cancel.signal == 0:
                return job, (Effect.WAKE,)
            return replace(job, cancel=request), (Effect.WAKE,)
        case _:
            details = _cancel_text("Being cancelled", request)
            percent = job.progress.percent if job.progress else 0
            return replace(
                job,
                status=S.CANCELLING,
                cancel=request,
                status_details=details,
                progress=Progress(details, percent, now),
            ), (Effect.WAKE,)


def _ttl_set(job: Job, event: TtlSet, now: datetime) -> Decision:
    if job.data_cleared:
        raise FailedPreconditionError("the job's data has already been cleared; its time to live cannot be changed")
    return replace(job, data_ttl=event.ttl, data_expires_at=expiry(now, event.ttl)), ()


def _cleared(job: Job, event: DataCleared, now: datetime) -> Decision:  # noqa: ARG001
    if not job.status.terminal and job.status is not S.CREATING:
        raise FailedPreconditionError(
            f"the job is {job.status}; cancel it or wait for its end before clearing its data"
        )
    if job.data_cleared:
        return job, ()
    return replace(job, data_cleared=True), ()


_HANDLERS: Mapping[type, Callable[[Job, object, datetime], Decision]] = {  # pyright: ignore[reportAssignmentType]
    Execute: _execute,
    Waiting: _waiting,
    Placed: _placed,
    Advanced: _advanced,
    ProgramStarted: _started,
    ProgramExited: _exited,
    OutputsCommitted: _committed,
    AttemptFailed: _failed,
    AttemptStopped: _stopped,
    Cancel: _cancel,
    TtlSet: _ttl_set,
    DataCleared: _cleared,
}
