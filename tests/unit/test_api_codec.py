"""Published messages to domain values and back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st
from yandex.cloud.datasphere.v2.jobs import jobs_pb2

from jobsphere.api.codec import decode_spec, encode_job, encode_spec, job_message, job_metadata
from jobsphere.api.team_codec import encode_project
from jobsphere.api.wire import MAX_DURATION, read_duration, timestamp, timestamp_ns
from jobsphere.domain.artifact import Artifacts, Compression, File, FileDesc, FileError, FileErrorType
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.job import Job, JobSpec, JobStatus, OutputDataset, OutputDatasetDesc, Progress
from jobsphere.domain.resource import Project

NOON = datetime(2026, 3, 4, 12, 0, 0, 123456, tzinfo=UTC)
F = FieldDescriptor
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
SCALARS = {
    F.TYPE_STRING: TEXT,
    F.TYPE_BOOL: st.booleans(),
    F.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
}
DURATIONS = st.builds(lambda us: Duration(seconds=us // 10**6, nanos=us % 10**6 * 1000), st.integers(0, 10**12))


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    """Any message of the type, drawn from its descriptor, so that a new field cannot be forgotten."""
    if descriptor.full_name == Duration.DESCRIPTOR.full_name:
        return DURATIONS
    loose = [f for f in descriptor.fields if f.containing_oneof is None]
    fields = [st.fixed_dictionaries({}, optional={f.name: values(f) for f in loose})]
    fields += [st.one_of(st.just({}), *(alone(f) for f in o.fields)) for o in descriptor.oneofs]
    make = GetMessageClass(descriptor)
    return st.tuples(*fields).map(lambda parts: make(**{k: v for p in parts for k, v in p.items()}))


def alone(field: FieldDescriptor) -> st.SearchStrategy[dict[str, Any]]:
    return values(field).map(lambda v: {field.name: v})


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        return st.dictionaries(TEXT, TEXT, max_size=3)
    one = value(field)
    return st.lists(one, max_size=3) if field.is_repeated else one


def value(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type)
    if field.enum_type is not None:
        return st.sampled_from([v.number for v in field.enum_type.values])
    return SCALARS[field.type]


def settled(message: jobs_pb2.JobParameters) -> jobs_pb2.JobParameters:
    """The message without what means nothing: parts that are present and empty, and passwords."""
    files = [*message.input_files, *message.env.python_env.local_modules]
    for file in files:
        file.desc.SetInParent()
    if message.env.HasField("docker_image_spec"):
        image = message.env.docker_image_spec
        if not image.password_ds_secret_name:
            image.ClearField("password_ds_secret_name")
        image.ClearField("password_plain_text")
    elif not message.env.docker_image_resource_id:
        message.env.ClearField("docker_image_resource_id")
    if not message.env.ListFields():
        message.ClearField("env")
    if not message.spark_parameters.connector_id:
        message.ClearField("spark_parameters")
    return message


SPECS = messages(jobs_pb2.JobParameters.DESCRIPTOR)


@given(SPECS)
def test_a_spec_comes_back_field_by_field(message: jobs_pb2.JobParameters) -> None:
    spec = decode_spec(message)
    # Cleared: sizes that no check has seen yet need not add up to anything.
    job = jobs_pb2.Job.FromString(encode_job(replace(new_job(spec), data_cleared=True)))
    assert job.job_parameters == encode_spec(spec) == settled(copy(message))


@given(SPECS)
def test_a_password_in_plain_text_is_read_and_never_shown(message: jobs_pb2.JobParameters) -> None:
    message.env.docker_image_spec.password_plain_text = "s3cret-password"
    spec = decode_spec(message)
    assert spec.env.docker_image_spec is not None
    assert spec.env.docker_image_spec.password_plain_text == "s3cret-password"
    assert b"s3cret-password" not in encode_spec(spec).SerializeToString()
    assert "s3cret-password" not in repr(spec)


def copy(message: jobs_pb2.JobParameters) -> jobs_pb2.JobParameters:
    return jobs_pb2.JobParameters.FromString(message.SerializeToString())


def new_job(spec: JobSpec) -> Job:
    return Job(id="j" * 20, project_id="p" * 20, created_by_id="me", created_at=NOON, spec=spec)


def full_job() -> Job:
    file = File(FileDesc("o/", "OUT"), "a" * 64, 7, Compression.ZIP)
    error = FileError("no such file", FileErrorType.NOT_FOUND, FileDesc("gone"))
    dataset = OutputDataset(OutputDatasetDesc("ds", "DS", 3, "d", (("k", "v"),)), "d" * 20)
    return Job(
        id="j" * 20,
        project_id="p" * 20,
        created_by_id="me",
        created_at=NOON,
        spec=JobSpec(cmd="run"),
        name="n",
        desc="d",
        config="cmd: run",
        status=JobStatus.SUCCESS,
        started_at=NOON + timedelta(seconds=1),
        finished_at=NOON + timedelta(seconds=2),
        data_expires_at=NOON + timedelta(days=14),
        parent_job_id="q" * 20,
        status_details="done",
        actual_instance_type="c1.8",
        progress=Progress("done", 100, NOON),
        artifacts=Artifacts((file,), (file,), (file,), (error,)),
        output_datasets=(dataset,),
    )


def test_a_full_job_fills_every_published_field() -> None:
    message = job_message(full_job())
    message.data_cleared = True  # clears data_size_bytes in a real one
    assert unset(message) == set()
    assert unset(job_metadata(full_job())) == set()
    assert unset(message.output_files[0]) == set()
    assert unset(message.output_datasets[0].desc) == set()
    assert unset(message.file_errors[0]) == {"log_file_name"}


def unset(message: Message) -> set[str]:
    return {f.name for f in message.DESCRIPTOR.fields} - {f.name for f, _ in message.ListFields()}


def test_a_full_job_tells_its_values() -> None:
    message = jobs_pb2.Job.FromString(encode_job(full_job()))
    assert message.status == jobs_pb2.SUCCESS
    assert message.started_at.ToDatetime(tzinfo=UTC) == NOON + timedelta(seconds=1)
    assert message.finished_at.ToDatetime(tzinfo=UTC) == NOON + timedelta(seconds=2)
    assert message.data_expires_at.ToDatetime(tzinfo=UTC) == NOON + timedelta(days=14)
    assert message.created_at.ToDatetime(tzinfo=UTC) == NOON
    assert message.data_size_bytes == 21
    assert message.output_files[0].desc.path == "o/"
    assert message.file_errors[0].type == jobs_pb2.FileUploadError.NOT_FOUND


def test_what_has_not_happened_is_not_set() -> None:
    message = job_message(new_job(JobSpec(cmd="run")))
    for name in ("started_at", "finished_at", "data_expires_at", "actual_cloud_instance_type"):
        assert not message.HasField(name)


@pytest.mark.parametrize("status", list(JobStatus))
def test_every_status_has_its_published_name(status: JobStatus) -> None:
    job = Job("j", "p", "me", NOON, JobSpec(cmd="x"), status=status)
    assert jobs_pb2.JobStatus.Name(job_message(job).status) == status.value


def test_a_project_tells_its_values() -> None:
    message = encode_project(Project("p", "name", "c", NOON, "me", "words"))
    assert (message.id, message.name, message.community_id, message.created_by_id) == ("p", "name", "c", "me")
    assert message.description == "words"
    assert message.created_at.ToDatetime(tzinfo=UTC) == NOON


def test_an_enum_value_without_a_name_is_refused() -> None:
    message = jobs_pb2.JobParameters(input_files=[jobs_pb2.File()])
    message.input_files[0].compression_type = 77
    with pytest.raises(InvalidArgumentError, match="compression_type: there is no value 77"):
        decode_spec(message)


@pytest.mark.parametrize("broken", [Duration(seconds=2**62), Duration(nanos=2 * 10**9), Duration(seconds=-(2**62))])
def test_a_duration_that_is_none_is_refused(broken: Duration) -> None:
    with pytest.raises(InvalidArgumentError, match="data_ttl"):
        read_duration("data_ttl", broken)


def test_durations_of_a_century_still_fit_the_calendar() -> None:
    longest = read_duration("ttl", Duration(seconds=int(MAX_DURATION.total_seconds())))
    assert NOON + longest > NOON


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)))
def test_moments_keep_their_microsecond(moment: datetime) -> None:
    assert timestamp(moment).ToDatetime(tzinfo=UTC) == moment


def test_log_times_keep_their_nanosecond() -> None:
    assert timestamp_ns(1_700_000_000_123_456_789).ToNanoseconds() == 1_700_000_000_123_456_789
