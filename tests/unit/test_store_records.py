"""A job's record is the job, whatever is in it."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsphere.domain.errors import CorruptedError, InvalidArgumentError
from jobsphere.domain.job import Job, JobSpec
from jobsphere.store.records import dump, from_micros, load, to_micros
from jobsphere.store.tokens import FIRST_PAGE, page_token, read_token

times = st.datetimes(timezones=st.just(UTC))
# What the published fields can hold.
st.register_type_strategy(datetime, times)
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))
st.register_type_strategy(int, st.integers(-(1 << 63), (1 << 63) - 1))
st.register_type_strategy(timedelta, st.timedeltas(timedelta(0), timedelta(days=10000)))


@given(st.from_type(Job))
def test_a_job_comes_back_equal(job: Job) -> None:
    again = load(job.id, dump(job))
    assert again == job
    for field in fields(Job):
        value = getattr(again, field.name)
        assert type(value) is type(getattr(job, field.name)), field.name


def test_a_record_of_an_older_version_gets_the_defaults_of_what_is_new() -> None:
    record = b"""{"id": "j", "project_id": "p", "created_by_id": "me", "created_at": "2026-03-01T00:00:00Z",
                  "spec": {"cmd": "true"}, "what_a_newer_one_wrote": 1}"""
    assert load("j", record) == Job("j", "p", "me", datetime(2026, 3, 1, tzinfo=UTC), JobSpec(cmd="true"))


@pytest.mark.parametrize("record", [b"", b"[]", b"{}", b'{"id": 1}', b"\xff"])
def test_what_is_no_record_is_corrupted(record: bytes) -> None:
    with pytest.raises(CorruptedError, match="j1"):
        load("j1", record)


@given(times)
def test_times_are_exact(time: datetime) -> None:
    assert from_micros(to_micros(time)) == time


@given(st.integers(1, FIRST_PAGE - 1))
def test_a_token_is_its_key(seq: int) -> None:
    assert read_token(page_token(seq)) == seq


@given(st.text() | st.text("ABCSgw-_/+=", min_size=10, max_size=14))
def test_any_other_text_is_no_token(text: str) -> None:
    try:
        seq = read_token(text)
    except InvalidArgumentError:
        return
    assert text == (page_token(seq) if text else "")
