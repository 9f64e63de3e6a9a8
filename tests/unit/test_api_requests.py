"""Bytes become a message only if that is one, and not many times larger than they are."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzzing import field, fuzz, messages, tag
from yandex.cloud.datasphere.v2.jobs import jobs_pb2
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from jobsphere.api import requests
from jobsphere.api.requests import MAX_FIELDS, MAX_RECEIVE_BYTES, reader_of
from jobsphere.domain.errors import InvalidArgumentError

METHOD = pb.DESCRIPTOR.services_by_name["ProjectJobService"].methods_by_name["Create"]
SPEC = pb.CreateProjectJobRequest.DESCRIPTOR.fields_by_name["job_parameters"].number
DATASETS = jobs_pb2.JobParameters.DESCRIPTOR.fields_by_name["output_datasets"].number
LABELS = jobs_pb2.OutputDatasetDesc.DESCRIPTOR.fields_by_name["labels"].number
read = reader_of(METHOD)


class Undecodable:
    @staticmethod
    def FromString(data: bytes) -> None:  # noqa: N802
        raise AssertionError("decoded")


def labels(count: int, after: bytes = b"") -> bytes:
    """Labels without end, in one entry of a list."""
    return field(SPEC, field(DATASETS, field(LABELS, b"") * count)) + after


@given(messages(METHOD.input_type, ["p" * 20]))
@fuzz(50)
def test_a_message_is_read_as_it_is(message: pb.CreateProjectJobRequest) -> None:
    assert read(message.SerializeToString()) == message


@pytest.mark.parametrize("after", [b"", b"\xff", tag(SPEC, 2) + b"\x7f"], ids=["whole", "damaged", "cut"])
@pytest.mark.parametrize("count", [MAX_FIELDS, MAX_RECEIVE_BYTES // 3])
def test_what_would_become_too_large_is_not_decoded(monkeypatch: pytest.MonkeyPatch, count: int, after: bytes) -> None:
    monkeypatch.setattr(requests, "GetMessageClass", lambda _: Undecodable)
    with pytest.raises(InvalidArgumentError):
        reader_of(METHOD)(labels(count, after))


def test_one_long_text_is_no_long_list() -> None:
    assert len(read(pb.CreateProjectJobRequest(config="x" * (3 << 20)).SerializeToString()).config) == 3 << 20


def test_the_published_limits_leave_room() -> None:
    file = jobs_pb2.File(desc=jobs_pb2.FileDesc(path="p" * 4000, var="v" * 50), sha256="f" * 64, size_bytes=1 << 32)
    env = jobs_pb2.Environment(vars={f"V{n}": "x" for n in range(5000)})
    spec = jobs_pb2.JobParameters(cmd="c" * (128 << 10), input_files=[file] * 100, env=env)
    request = pb.CreateProjectJobRequest(config="c" * (1 << 20), job_parameters=spec)
    assert read(request.SerializeToString()) == request


@given(st.binary(max_size=300))
@fuzz(100)
def test_other_bytes_are_refused_or_read(data: bytes) -> None:
    padded = data + field(1, b"x" * MAX_FIELDS)
    for sent in (data, padded):
        with suppress(InvalidArgumentError):
            read(sent)
