"""The lifecycle under any events in any order: late ones, repeated ones, and a clock that jumps."""

from __future__ import annotations

import contextlib
import copy
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from jobsphere.domain import lifecycle
from jobsphere.domain.artifact import Artifacts, File, FileDesc, FileError, FileErrorType
from jobsphere.domain.errors import FailedPreconditionError
from jobsphere.domain.job import LIVE_STATUSES, Attempt, CancelRequest, Failure, Job, JobSpec, JobStatus, Phase
from jobsphere.domain.lifecycle import TRANSITIONS, Effect, Event, decide

NOW = datetime(2026, 3, 1, tzinfo=UTC)
S = JobStatus

times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
texts = st.sampled_from(["", "why", "Waiting for a free place"])
signals = st.sampled_from([0, 2, 15])
attempts = st.builds(Attempt, st.sampled_from(["a1", "a2"]), st.just("node"), times)
requests = st.builds(CancelRequest, times, st.just("me"), texts, signals, st.none() | times)
left_behind = st.sampled_from(
    [
        Artifacts(),
        Artifacts(outputs=(File(FileDesc("o"), "1" * 64, 1),), logs=(File(FileDesc("stdout.txt"), "2" * 64, 1),)),
        Artifacts(errors=(FileError("not there", FileErrorType.NOT_FOUND, FileDesc("o")),)),
    ]
)
failures = st.builds(Failure, st.sampled_from(Phase), texts)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(lifecycle.Execute, st.sampled_from(["op1", "op2"])),
    st.builds(lifecycle.Waiting, texts),
    st.builds(lifecycle.Placed, attempts, st.just("c1.4")),
    st.builds(lifecycle.Advanced, texts, st.integers(0, 100)),
    st.builds(lifecycle.ProgramStarted, times),
    st.builds(lifecycle.ProgramExited, times, st.sampled_from([0, 1, 137]), texts),
    st.builds(lifecycle.OutputsCommitted, left_behind),
    st.builds(lifecycle.AttemptFailed, times, failures, left_behind),
    st.builds(lifecycle.AttemptStopped, times, left_behind),
    st.builds(lifecycle.Cancel, requests),
    st.builds(lifecycle.TtlSet, st.none() | st.timedeltas(timedelta(0))),
    st.just(lifecycle.DataCleared()),
)


def a_job(**changes: object) -> Job:
    return replace(Job("j", "p", "me", NOW, JobSpec(cmd="true"), data_ttl=timedelta(days=14)), **changes)


def after(*happened: Event, job: Job | None = None) -> Job:
    job = job or a_job()
    for event in happened:
        job, _ = decide(job, event, NOW)
    return job


EXECUTE = lifecycle.Execute("op1")
PLACED = lifecycle.Placed(Attempt("a1", "node", NOW), "c1.4")
STARTED = lifecycle.ProgramStarted(NOW)
EXITED = lifecycle.ProgramExited(NOW, 0)
FAILED_EXIT = lifecycle.ProgramExited(NOW, 3, "Traceback")
COMMITTED = lifecycle.OutputsCommitted(Artifacts())
STOPPED = lifecycle.AttemptStopped(NOW)
FORCED = lifecycle.Cancel(CancelRequest(NOW, "me", "too slow"))
GRACEFUL = lifecycle.Cancel(CancelRequest(NOW, "me", "", 15, NOW + timedelta(seconds=30)))

WAYS = {
    S.CREATING: (),
    S.PREPARING: (EXECUTE, PLACED),
    S.EXECUTING: (EXECUTE, PLACED, STARTED),
    S.UPLOADING_OUTPUT: (EXECUTE, PLACED, STARTED, EXITED),
    S.SUCCESS: (EXECUTE, PLACED, STARTED, EXITED, COMMITTED),
    S.ERROR: (EXECUTE, PLACED, STARTED, FAILED_EXIT, COMMITTED),
    S.CANCELLING: (EXECUTE, PLACED, GRACEFUL),
    S.CANCELLED: (EXECUTE, PLACED, GRACEFUL, STOPPED),
}
"""How a job comes to each status."""


class Lifecycle(RuleBasedStateMachine):
    """One job and everything that may happen to it."""

    happened = Bundle("happened")

    def __init__(self) -> None:
        super().__init__()
        self.job = a_job()
        self.was_started = False

    @rule(target=happened, event=events, now=times)
    def happens(self, event: Event, now: datetime) -> Event:
        self.decide(event, now)
        return event

    @rule(event=happened, now=times)
    def happens_again(self, event: Event, now: datetime) -> None:
        self.decide(event, now)

    @rule(event=events, now=times)
    def happens_twice_in_a_row(self, event: Event, now: datetime) -> None:
        self.decide(event, now)
        once = self.job
        self.decide(event, now)
        # Only a user's word about the future, said anew, may count anew.
        assert self.job is once or isinstance(event, lifecycle.TtlSet)

    def decide(self, event: Event, now: datetime) -> None:
        before = self.job
        untouched = copy.deepcopy(before)
        try:
            new, effects = decide(before, event, now)
        except FailedPreconditionError:
            assert refusable(before, event)
            new, effects = before, ()
        assert before == untouched
        assert_follows(before, new, effects)
        if isinstance(event, lifecycle.Cancel) and not refusable(before, event):
            assert new.status in {S.CANCELLING, S.CANCELLED}
        self.was_started |= new.status is S.EXECUTING
        self.job = new

    @invariant()
    def finished_exactly_when_ended(self) -> None:
        assert (self.job.finished_at is not None) == self.job.status.terminal

    @invariant()
    def success_means_that_the_program_ran_and_returned_0(self) -> None:
        if self.job.status is S.SUCCESS:
            assert self.was_started
            assert (self.job.started_at is not None, self.job.return_code, self.job.failure) == (True, 0, None)

    @invariant()
    def an_error_says_why(self) -> None:
        assert (self.job.status is S.ERROR) <= (self.job.failure is not None)

    @invariant()
    def a_cancelled_job_knows_who_wanted_it(self) -> None:
        if self.job.status in {S.CANCELLING, S.CANCELLED}:
            assert self.job.cancel is not None

    @invariant()
    def data_is_never_cleared_under_an_attempt(self) -> None:
        assert not (self.job.data_cleared and self.job.status in LIVE_STATUSES)

    def teardown(self) -> None:
        """From wherever the job has come to, it can be ended."""
        if self.job.status.terminal:
            return
        assert after(FORCED, STOPPED, job=self.job).status is S.CANCELLED


TestLifecycle = Lifecycle.TestCase


def refusable(job: Job, event: Event) -> bool:
    match event:
        case lifecycle.Cancel():
            return job.status in {S.SUCCESS, S.ERROR}
        case lifecycle.Execute():
            return job.status is S.CREATING and job.data_cleared
        case lifecycle.TtlSet():
            return job.data_cleared
        case lifecycle.DataCleared():
            return job.status in LIVE_STATUSES
        case _:
            return False


FIXED = {"id", "project_id", "created_by_id", "created_at", "spec", "name", "desc", "config", "parent_job_id"}


def assert_follows(before: Job, new: Job, effects: tuple[Effect, ...]) -> None:
    if new is before:
        assert set(effects) <= {Effect.WAKE}
        return
    assert new.version == before.version + 1
    assert new.status is before.status or new.status in TRANSITIONS[before.status]
    changed = {f.name for f in fields(Job) if getattr(before, f.name) != getattr(new, f.name)}
    assert not changed & FIXED
    if before.status.terminal:
        assert changed <= {"version", "data_ttl", "data_expires_at", "data_cleared"}


def test_each_event_has_its_handler() -> None:
    assert set(lifecycle._HANDLERS) == set(get_args(Event))


@pytest.mark.parametrize("status", S)
def test_each_status_can_be_reached(status: JobStatus) -> None:
    assert after(*WAYS[status]).status is status


@pytest.mark.parametrize("status", [S.SUCCESS, S.ERROR])
def test_cancel_of_an_ended_job_is_refused_with_its_end(status: JobStatus) -> None:
    with pytest.raises(FailedPreconditionError, match=status):
        after(*WAYS[status], FORCED)


@pytest.mark.parametrize("status", [S.PREPARING, S.EXECUTING, S.UPLOADING_OUTPUT])
def test_cancel_of_a_live_job_waits_for_its_attempt(status: JobStatus) -> None:
    job = after(*WAYS[status])
    cancelling, effects = decide(job, GRACEFUL, NOW)
    assert (cancelling.status, cancelling.cancel, effects) == (S.CANCELLING, GRACEFUL.request, (Effect.WAKE,))
    assert after(STOPPED, job=cancelling).status is S.CANCELLED


def test_cancel_before_execute_ends_the_job_at_once() -> None:
    job = after(FORCED)
    assert job.status is S.CANCELLED
    assert "too slow" in job.status_details


def test_a_job_without_an_attempt_is_cancelled() -> None:
    job = after(EXECUTE, FORCED, STOPPED)
    assert (job.status, job.attempt) == (S.CANCELLED, None)


def test_a_forced_cancel_replaces_a_graceful_one_and_not_the_other_way_round() -> None:
    assert after(*WAYS[S.EXECUTING], GRACEFUL, FORCED).cancel == FORCED.request
    assert after(*WAYS[S.EXECUTING], FORCED, GRACEFUL).cancel == FORCED.request


def test_a_second_graceful_cancel_does_not_postpone_the_deadline() -> None:
    later = lifecycle.Cancel(replace(GRACEFUL.request, deadline=NOW + timedelta(hours=1)))
    assert after(*WAYS[S.EXECUTING], GRACEFUL, later).cancel == GRACEFUL.request


def test_an_attempt_that_is_lost_while_being_cancelled_is_cancelled() -> None:
    lost = lifecycle.AttemptFailed(NOW, Failure(Phase.MACHINE, "gone"))
    assert after(*WAYS[S.CANCELLING], lost).status is S.CANCELLED


def test_a_failed_program_keeps_its_code_its_last_lines_and_its_outputs() -> None:
    left = Artifacts(outputs=(File(FileDesc("o"), "1" * 64, 1),))
    job = after(EXECUTE, PLACED, STARTED, FAILED_EXIT, lifecycle.OutputsCommitted(left))
    assert (job.status, job.return_code, job.artifacts) == (S.ERROR, 3, left)
    assert "code 3" in job.status_details
    assert "Traceback" in job.status_details


def test_a_signal_is_named() -> None:
    killed = lifecycle.ProgramExited(NOW, 137)
    assert "killed by signal 9" in after(*WAYS[S.EXECUTING], killed, COMMITTED).status_details


@given(st.sampled_from([S.SUCCESS, S.ERROR, S.CANCELLED]), times)
def test_time_to_live_counts_from_the_end(status: JobStatus, now: datetime) -> None:
    *way, last = WAYS[status]
    job, _ = decide(after(*way), last, now)
    assert job.data_expires_at == now + timedelta(days=14)


@pytest.mark.parametrize("status", S)
def test_a_time_to_live_beyond_the_calendar_does_not_stop_a_job(status: JobStatus) -> None:
    ten_thousand_years = timedelta(days=3_652_500)
    job = after(*WAYS[status], job=a_job(data_ttl=ten_thousand_years))
    assert job.status is status
    assert after(lifecycle.TtlSet(ten_thousand_years), job=job).data_expires_at == datetime.max.replace(tzinfo=UTC)


def test_no_time_to_live_is_for_ever() -> None:
    assert after(*WAYS[S.SUCCESS], job=a_job(data_ttl=None)).data_expires_at is None


@pytest.mark.fault("clock that jumps back")
@given(st.lists(st.tuples(events, times), max_size=15))
def test_no_job_ends_before_it_began_whatever_the_clock_says(happened: list[tuple[Event, datetime]]) -> None:
    job = a_job()
    for event, now in happened:
        with contextlib.suppress(FailedPreconditionError):
            job, _ = decide(job, event, now)
        moments = [m for m in (job.created_at, job.started_at, job.finished_at) if m is not None]
        assert moments == sorted(moments)
