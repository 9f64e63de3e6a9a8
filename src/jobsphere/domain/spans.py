"""The way of an ended job as a tree of spans: made of what is stored with it and what its run directory tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from jobsphere.domain.attempt import Ended, EndReason, Observation
from jobsphere.domain.image import has_image
from jobsphere.domain.job import Attempt, Job, JobStatus, Phase

Attribute = tuple[str, str | int]
_NOTHING = Observation(known=False)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the way. ``attributes`` hold ids, codes and names of phases only, never what a user wrote."""

    name: str
    begin: datetime
    end: datetime
    attributes: tuple[Attribute, ...] = ()
    failed: bool = False
    parts: tuple[Span, ...] = ()


def job_span(job: Job, seen: Observation | None) -> Span:
    """The span of an ended job, with its parts: ``dispatch``, ``attempt`` and ``commit``.

    Those of the attempt are its phases ``stage``, ``image``, ``environment`` and ``program``, and ``collect``. What is
    not known, since a supervisor was killed, is left out.
    """
    seen = seen or _NOTHING
    begin = job.executed_at or job.created_at
    end = job.finished_at or begin
    attempt = job.attempt
    parts = [_span("dispatch", begin, attempt.created_at if attempt else end)]
    if attempt is not None:
        parts.append(_attempt(job, attempt, seen, end))
    if seen.collected is not None:
        parts.append(_span("commit", seen.collected.at, end))
    failed = job.status is JobStatus.ERROR
    return _span("job", begin, end, _of_job(job), failed=failed, parts=tuple(parts))


def _of_job(job: Job) -> tuple[Attribute, ...]:
    known: dict[str, str | int | None] = {
        "jobsphere.job.id": job.id,
        "jobsphere.project.id": job.project_id,
        "jobsphere.parent_job.id": job.parent_job_id or None,
        "jobsphere.job.status": job.status.value,
        "jobsphere.job.return_code": job.return_code,
        "jobsphere.job.failed_in": job.failure.phase.value if job.failure else None,
        "jobsphere.instance_type": job.actual_instance_type or None,
    }
    return tuple((name, value) for name, value in known.items() if value is not None)


def _attempt(job: Job, attempt: Attempt, seen: Observation, end: datetime) -> Span:
    ended = seen.ended
    parts = _phases(job, seen, ended) if ended else ()
    if ended and seen.collected:
        parts += (_span("collect", ended.at, seen.collected.at),)
    close = seen.collected.at if seen.collected else ended.at if ended else end
    how: tuple[Attribute, ...] = (("jobsphere.attempt.end", ended.reason.value),) if ended else ()
    attributes = (("jobsphere.attempt.id", attempt.id), ("jobsphere.node", attempt.node), *how)
    failed = job.status is JobStatus.ERROR
    return _span("attempt", attempt.created_at, close, attributes, failed=failed, parts=parts)


def _phases(job: Job, seen: Observation, ended: Ended) -> tuple[Span, ...]:
    entered = {e.phase: e.at for e in ended.entered}
    if seen.started is not None:
        entered[Phase.RUN] = seen.started.at
    moments = (*entered.values(), ended.at)
    return tuple(
        _phase(phase, begin, end, ended)
        for phase, (begin, end) in zip(entered, pairwise(moments), strict=True)
        if _asked_for(job, phase)
    )


def _phase(phase: Phase, begin: datetime, end: datetime, ended: Ended) -> Span:
    if phase is Phase.RUN:
        code: tuple[Attribute, ...] = () if ended.code is None else (("jobsphere.program.return_code", ended.code),)
        return _span("program", begin, end, code, failed=_failed_in(phase, ended))
    return _span(phase.value, begin, end, failed=_failed_in(phase, ended))


def _failed_in(phase: Phase, ended: Ended) -> bool:
    if ended.reason is EndReason.LOST:
        return phase is Phase.RUN  # the one phase of a lost attempt that is known to have begun
    return ended.phase is phase and ended.reason is not EndReason.STOPPED


def _asked_for(job: Job, phase: Phase) -> bool:
    if phase is Phase.IMAGE:
        return has_image(job.spec)
    return phase is not Phase.ENVIRONMENT or job.spec.env.python_env is not None


def _span(
    name: str,
    begin: datetime,
    end: datetime,
    attributes: tuple[Attribute, ...] = (),
    *,
    failed: bool = False,
    parts: tuple[Span, ...] = (),
) -> Span:
    """A clock that was set back meanwhile lets no span end before its begin."""
    return Span(name, begin, max(begin, end), attributes, failed, parts)
