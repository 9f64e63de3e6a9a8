"""The client's own decisions: where to connect, where files go, what an end means, what the terminal is given."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.status_pb2 import Status
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb
from yandex.cloud.operation.operation_pb2 import Operation

from jobsphere.cli.following import printable
from jobsphere.client.connection import Connection, find_connection
from jobsphere.client.facts import job_facts, log_message, result_of
from jobsphere.client.places import place_of, unpack
from jobsphere.client.showing import as_html
from jobsphere.domain.errors import CorruptedError, FailedPreconditionError, InvalidArgumentError
from jobsphere.domain.job import JobStatus


def test_arguments_come_before_the_environment(tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(b"pem")
    environ = {
        "JOBSPHERE_ENDPOINT": "there:1",
        "YC_IAM_TOKEN": "t-env",
        "JOBSPHERE_PROJECT": "p-env",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(ca),
    }

    assert find_connection(environ=environ) == Connection("there:1", b"pem", "t-env", "p-env")
    named = find_connection("here:2", project="p", token="t", environ=environ)
    assert (named.endpoint, named.project, named.token) == ("here:2", "p", "t")
    with pytest.raises(InvalidArgumentError, match="certificate authority"):
        find_connection("here:2", ca_file=tmp_path / "no.pem", environ={})


def test_without_an_endpoint_the_server_of_the_data_directory_is_meant(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match=f"no server is running on {tmp_path}.*JOBSPHERE_ENDPOINT"):
        find_connection(environ={"JOBSPHERE_DATA_DIR": str(tmp_path)})
    with pytest.raises(FailedPreconditionError, match=str(tmp_path)):
        find_connection(data_dir=tmp_path, environ={"JOBSPHERE_ENDPOINT": "there:1"})


def test_a_token_is_in_no_repr() -> None:
    assert "planted" not in repr(Connection("there:1", None, "planted"))


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("out.txt", "out.txt"),
        ("./a/b.txt", "a/b.txt"),
        ("o/", "o"),
        ("a/../b", "b"),
        ("/etc/passwd", "passwd"),
        ("../../x", "x"),
        ("..//../.ssh/id", "id"),
    ],
)
def test_files_stay_in_their_folder(path: str, place: str) -> None:
    assert place_of(Path("here"), path) == Path("here") / place


@pytest.mark.parametrize("path", ["", ".", "..", "/", "../.."])
def test_a_file_without_a_name_is_refused(path: str) -> None:
    with pytest.raises(CorruptedError):
        place_of(Path("here"), path)


def test_a_folder_goes_over_what_is_there(tmp_path: Path) -> None:
    place, part = tmp_path / "made", tmp_path / "made.part"
    place.mkdir()
    (place / "mine").write_text("mine")
    (place / "one").write_text("old")
    with zipfile.ZipFile(part, "w") as archive:
        archive.writestr("made/one", "new")

    unpack(pb.File(desc=pb.FileDesc(path="made"), compression_type=pb.ZIP), part, place)

    assert {p.name: p.read_text() for p in place.iterdir()} == {"mine": "mine", "one": "new"}


@pytest.mark.parametrize("member", ["other/one", "../one", "/one", "made/../../one"])
def test_an_archive_writes_nothing_outside_its_folder(tmp_path: Path, member: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with zipfile.ZipFile(home / "part", "w") as archive:
        archive.writestr(member, "x")

    with suppress(CorruptedError):
        unpack(pb.File(desc=pb.FileDesc(path="made"), compression_type=pb.ZIP), home / "part", home / "made")
    outside = [p for p in tmp_path.rglob("*") if p.is_file() and p.name == "one" and home / "made" not in p.parents]
    assert outside == []


def test_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "part").write_text("no zip")
    with pytest.raises(CorruptedError, match="made is no archive"):
        unpack(pb.File(desc=pb.FileDesc(path="made"), compression_type=pb.ZIP), tmp_path / "part", tmp_path / "made")


def job(status: int, details: str = "") -> pb.Job:
    return pb.Job(id="j1", name="<b>n", status=status, status_details=details)  # pyright: ignore[reportArgumentType]


def test_an_end_by_the_program_has_its_code() -> None:
    response = service_pb.ExecuteProjectJobResponse(result=pb.JobResult(return_code=3))
    packed = AnyMessage()
    packed.Pack(response)

    result = result_of(job_facts(job(pb.ERROR)), Operation(done=True, response=packed))

    assert (result.ok, result.return_code, result.details) == (False, 3, "the program returned code 3")


def test_an_end_by_the_server_has_its_words() -> None:
    error = Status(code=10, message="the node is gone")
    result = result_of(job_facts(job(pb.ERROR)), Operation(done=True, error=error))
    assert (result.return_code, result.details) == (None, "the node is gone")


def test_a_job_that_has_not_started_has_no_duration() -> None:
    facts = job_facts(job(pb.CREATING))
    assert (facts.status, facts.duration, facts.created_at) == (JobStatus.CREATING, None, None)
    message = job(pb.SUCCESS)
    message.started_at.FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    message.finished_at.FromDatetime(datetime(2026, 1, 2, tzinfo=UTC))
    assert job_facts(message).duration == timedelta(days=1)


def test_sources_of_log_messages() -> None:
    out = service_pb.LogMessage(standard_stream=service_pb.StandardStream.OUT, content=b"a\n")
    err = service_pb.LogMessage(standard_stream=service_pb.StandardStream.ERR, content=b"\xff")
    file = service_pb.LogMessage(file_path=".system.log", content=b"s")
    assert [log_message(m).source for m in (out, err, file)] == ["stdout", "stderr", ".system.log"]
    assert [log_message(m).text for m in (out, err)] == ["a", "\N{REPLACEMENT CHARACTER}"]


def test_notebooks_and_terminals_get_no_orders_from_names() -> None:
    assert "<b>" not in as_html(job_facts(job(pb.ERROR)))
    assert printable("a\x1b[2Jb\nc\td\u202e") == "a\N{REPLACEMENT CHARACTER}[2Jb\nc\td\N{REPLACEMENT CHARACTER}"
