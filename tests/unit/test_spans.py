"""From an ended job and its run directory to spans."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.unit.world import a_spec

from jobsphere.domain.attempt import Collected, Ended, EndReason, Entered, Observation, Started
from jobsphere.domain.job import Attempt, DockerImageSpec, EnvironmentSpec, Failure, Job, JobStatus, Phase, PythonEnv
from jobsphere.domain.spans import Span, job_span

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


ENTERED = tuple(
    Entered(phase, at(second))
    for phase, second in ((Phase.STAGE, 3), (Phase.IMAGE, 4), (Phase.ENVIRONMENT, 5), (Phase.RUN, 7))
)
JOB = Job(
    "j1", "p1", "ann", at(0), a_spec(), name="a name", status=JobStatus.SUCCESS, executed_at=at(1), finished_at=at(12),
    actual_instance_type="c1.4", attempt=Attempt("j1-1", "here", at(2)), return_code=0,
)  # fmt: skip
SEEN = Observation(
    known=True,
    started=Started(at(7.5)),
    ended=Ended(at(9), EndReason.EXITED, 0, entered=ENTERED),
    collected=Collected(at(10)),
)


def times(span: Span) -> dict[str, tuple[float, float]]:
    """Begin and end of a span and all its parts, in seconds after noon."""
    mine = {span.name: ((span.begin - NOON).total_seconds(), (span.end - NOON).total_seconds())}
    return mine | {name: both for part in span.parts for name, both in times(part).items()}


def failed(span: Span) -> list[str]:
    return [*([span.name] if span.failed else []), *(name for part in span.parts for name in failed(part))]


def with_environment(job: Job) -> Job:
    return replace(job, spec=replace(job.spec, env=EnvironmentSpec(python_env=PythonEnv(python_version="3.11"))))


def test_each_part_of_the_way_has_its_span() -> None:
    span = job_span(with_environment(JOB), SEEN)

    assert times(span) == {
        "job": (1, 12),
        "dispatch": (1, 2),
        "attempt": (2, 10),
        "stage": (3, 4),
        "environment": (5, 7.5),
        "program": (7.5, 9),
        "collect": (9, 10),
        "commit": (10, 12),
    }
    assert [part.name for part in span.parts] == ["dispatch", "attempt", "commit"]
    assert failed(span) == []


def test_what_a_job_does_not_ask_for_has_no_span() -> None:
    image = replace(JOB, spec=replace(JOB.spec, env=EnvironmentSpec(docker_image_spec=DockerImageSpec("python"))))

    assert {"image", "environment"}.isdisjoint(times(job_span(JOB, SEEN)))
    assert times(job_span(image, SEEN))["image"] == (4, 5)


@pytest.mark.parametrize(
    ("ended", "started", "where"),
    [
        (Ended(at(9), EndReason.EXITED, 3, Phase.RUN, "its last words", ENTERED), True, ["program"]),
        (Ended(at(6), EndReason.FAILED, None, Phase.ENVIRONMENT, "no", ENTERED[:3]), False, ["environment"]),
        (Ended(at(9), EndReason.FAILED, None, Phase.RUN, "not started", ENTERED), True, ["program"]),
        (Ended(at(9), EndReason.LOST, None, Phase.MACHINE, "killed"), True, ["program"]),
        (Ended(at(9), EndReason.LOST, None, Phase.MACHINE, "killed"), False, []),
    ],
    ids=["code", "environment", "start", "lost", "lost early"],
)  # fmt: skip
def test_what_failed_is_marked(ended: Ended, started: bool, where: list[str]) -> None:
    job = with_environment(replace(JOB, status=JobStatus.ERROR, failure=Failure(Phase.RUN, "its last words")))
    seen = replace(SEEN, ended=ended, started=SEEN.started if started else None)

    assert failed(job_span(job, seen)) == ["job", "attempt", *where]


def test_a_cancelled_job_has_not_failed() -> None:
    job = replace(JOB, status=JobStatus.CANCELLED)
    seen = replace(SEEN, ended=Ended(at(9), EndReason.STOPPED, 137, Phase.RUN, "stopped", ENTERED))

    assert failed(job_span(job, seen)) == []


def test_a_job_that_never_had_an_attempt_waited_until_its_end() -> None:
    waited = replace(JOB, attempt=None, status=JobStatus.CANCELLED)

    assert times(job_span(waited, None)) == {"job": (1, 12), "dispatch": (1, 12)}


def test_an_attempt_that_nothing_is_known_of_lasts_to_the_end_of_the_job() -> None:
    assert times(job_span(replace(JOB, status=JobStatus.ERROR), None))["attempt"] == (2, 12)


def test_a_clock_that_was_set_back_makes_no_span_end_before_its_begin() -> None:
    seen = replace(SEEN, ended=replace(SEEN.ended, at=at(-100)))

    span = job_span(JOB, seen)

    assert all(begin <= end for begin, end in times(span).values())


def test_nothing_that_a_user_wrote_is_an_attribute() -> None:
    job = replace(JOB, status=JobStatus.ERROR, failure=Failure(Phase.RUN, "its last words"), status_details="words")
    seen = replace(SEEN, ended=Ended(at(9), EndReason.EXITED, 3, Phase.RUN, "its last words", ENTERED))

    span = job_span(job, seen)

    assert dict(span.attributes) == {
        "jobsphere.job.id": "j1",
        "jobsphere.project.id": "p1",
        "jobsphere.job.status": "ERROR",
        "jobsphere.job.return_code": 0,
        "jobsphere.job.failed_in": "run",
        "jobsphere.instance_type": "c1.4",
    }
    assert dict(span.parts[1].attributes) == {
        "jobsphere.attempt.id": "j1-1",
        "jobsphere.node": "here",
        "jobsphere.attempt.end": "exited",
    }
