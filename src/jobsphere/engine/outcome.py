"""From what the run directory says to the events that the lifecycle understands: pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from jobsphere.domain.artifact import ArtifactKind, Artifacts
from jobsphere.domain.attempt import Collected, Ended, EndReason, Observation
from jobsphere.domain.job import Attempt, Failure, Job, JobStatus, OutputDataset, Phase
from jobsphere.domain.lifecycle import (
    Advanced,
    AttemptFailed,
    AttemptStopped,
    Event,
    OutputsCommitted,
    ProgramExited,
    ProgramStarted,
)
from jobsphere.domain.resources import output_dataset_id
from jobsphere.domain.text import one_line, readable


def artifacts_of(collected: Collected) -> Artifacts:
    """The job's files, by kind, in the order of collection."""
    kinds = {
        kind: tuple(c.file for c in collected.files if c.kind is kind)
        for kind in (ArtifactKind.OUTPUT, ArtifactKind.LOG, ArtifactKind.DIAGNOSTIC)
    }
    return Artifacts(
        kinds[ArtifactKind.OUTPUT], kinds[ArtifactKind.LOG], kinds[ArtifactKind.DIAGNOSTIC], collected.errors
    )


def events_of(job: Job, seen: Observation) -> Iterator[Event]:
    """The events that an observation means for ``job``, in their order.

    Whoever applies them has seen to it before that the collected files are committed blobs, and the datasets made.
    """
    if seen.step is not None and seen.started is None:
        yield Advanced(one_line(seen.step.message), seen.step.percent)
    if seen.started is not None:
        yield ProgramStarted(seen.started.at)
    ended = seen.ended
    if ended is None:
        return
    if ended.reason is EndReason.EXITED and ended.code is not None:
        yield ProgramExited(ended.at, ended.code, readable(ended.message))
    if seen.collected is not None:
        yield _end(job, ended, artifacts_of(seen.collected), datasets_of(job, seen.collected))


def datasets_of(job: Job, collected: Collected) -> tuple[OutputDataset, ...]:
    """The datasets that the job's attempt made, each with the id that it always has."""
    attempt_id = job.attempt.id if job.attempt else ""
    return tuple(OutputDataset(d.desc, output_dataset_id(attempt_id, d.number)) for d in collected.datasets)


def _end(job: Job, ended: Ended, artifacts: Artifacts, datasets: tuple[OutputDataset, ...]) -> Event:
    if job.status is JobStatus.CANCELLING:
        return AttemptStopped(ended.at, artifacts)
    if ended.reason is EndReason.EXITED:
        return OutputsCommitted(artifacts, datasets)
    return AttemptFailed(
        ended.at, Failure(ended.phase or Phase.MACHINE, _message(ended)), artifacts, ended.reason is EndReason.LOST
    )


def _message(ended: Ended) -> str:
    if ended.reason is EndReason.STOPPED:
        return "The attempt was stopped from outside, not by a cancel"
    return readable(ended.message) or f"The attempt ended ({ended.reason}) and left no reason"


def lost(attempt: Attempt, why: str, now: datetime) -> Event:
    """What it means that the attempt's node is gone for good."""
    message = f"The job was lost with its node {attempt.node}{f' ({why})' if why else ''}; create it anew"
    return AttemptFailed(now, Failure(Phase.MACHINE, message), lost=True)


def vanished(job: Job, now: datetime) -> Event | None:
    """What it means that a job's attempt has no run directory; None: it is still to be launched.

    A job that is being cancelled ends cancelled by the same event.
    """
    if job.status is JobStatus.PREPARING:
        return None
    message = "The run directory of the attempt is gone from its node, and with it the job's log and outputs"
    return AttemptFailed(now, Failure(Phase.MACHINE, message), lost=True)
