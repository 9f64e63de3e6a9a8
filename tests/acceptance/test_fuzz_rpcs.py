"""Hostile requests to every method of a real server: it lives, says what is wrong, and takes no memory for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st
from yandex.cloud.datasphere.v2.jobs.jobs_pb2 import JobParameters
from yandex.cloud.datasphere.v2.jobs.project_job_service_pb2 import CreateProjectJobRequest

from jobsphere.api.requests import MAX_RECEIVE_BYTES
from tests.fuzzing import field, fuzz, messages, tag, wire
from tests.grpc_client import Api
from tests.integration.rpc_rows import ROWS
from tests.live import LiveServer, live_server

MIB = 1 << 20
STREAM_S = 0.2
"""A stream of a job that has not ended has no end of its own."""
REFUSED = {
    "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", "ALREADY_EXISTS", "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
}  # fmt: skip
METHODS = {
    f"{service.name}/{method.name}": method
    for package, names in {
        "yandex.cloud.datasphere.v2.jobs": ("ProjectJobService",),
        "yandex.cloud.datasphere.v2": ("ProjectService", "CommunityService", "DatasetService"),
        "yandex.cloud.operation": ("OperationService",),
        "yandex.cloud.iam.v1": ("IamTokenService",),
        "yandex.cloud.endpoint": ("ApiEndpointService",),
    }.items()
    for service in (descriptor_pool.Default().FindServiceByName(f"{package}.{name}") for name in names)
    for method in service.methods
}


@dataclass
class Target:
    """A server, and ids of what is there."""

    server: LiveServer
    channel: grpc.Channel
    known: list[str]

    def send(self, method: MethodDescriptor, data: bytes) -> tuple[str, str]:
        """Code and words of the answer to these bytes."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        try:
            if method.server_streaming:
                list(self.channel.unary_stream(path)(data, timeout=STREAM_S))
            else:
                self.channel.unary_unary(path)(data, timeout=60)
        except grpc.RpcError as error:
            told: Any = error
            return told.code().name, told.details()
        return "OK", ""

    def check(self, method: MethodDescriptor, data: bytes) -> str:
        """Whatever was sent, the answer is one that tells the caller what to do."""
        code, words = self.send(method, data)
        if code == "DEADLINE_EXCEEDED":
            assert method.server_streaming, words
        elif code != "OK":
            assert code in REFUSED, (code, words, data)
            assert words, (code, data)
        assert self.server.process
        assert self.server.process.poll() is None
        return code

    def memory(self, line: str) -> int:
        """Bytes: ``VmRSS`` now, ``VmHWM`` at most."""
        assert self.server.process
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        found = re.search(rf"{line}:\s+([0-9]+) kB", status)
        assert found
        return int(found[1]) * 1024


def is_message(method: MethodDescriptor, data: bytes) -> bool:
    try:
        GetMessageClass(method.input_type).FromString(data)
    except DecodeError:
        return False
    return True


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with live_server(tmp_path_factory.mktemp("fuzz") / "data") as server:
        api, project = Api.of(server), server.client().project
        job_id = api.create(project, "true")
        ended = api.create(project, "true")
        operation = api.execute(ended).id
        api.wait(ended)
        yield Target(server, api.channel, [project, job_id, ended, operation])
        api.close()


def test_every_method_is_tried() -> None:
    assert set(METHODS) == set(ROWS)


@pytest.mark.parametrize("name", METHODS)
def test_hostile_messages_are_answered_with_what_is_wrong(target: Target, name: str) -> None:
    method = METHODS[name]

    @fuzz(8)
    @given(st.data())
    def try_(data: st.DataObject) -> None:
        target.check(method, data.draw(messages(method.input_type, target.known)).SerializeToString())

    try_()


@pytest.mark.parametrize("name", METHODS)
def test_bytes_that_are_no_message_are_refused(target: Target, name: str) -> None:
    method = METHODS[name]

    @fuzz(8)
    @given(st.data())
    def try_(data: st.DataObject) -> None:
        sent = data.draw(wire(method.input_type, target.known))
        code = target.check(method, sent)
        assert code == "INVALID_ARGUMENT" or is_message(method, sent), sent

    try_()


@pytest.mark.parametrize("field_name", ["input_files", "arguments", "s3_mount_ids", "output_datasets"])
def test_an_endless_list_costs_neither_time_nor_memory(target: Target, field_name: str) -> None:
    """Four MiB of two million empty entries, many such requests at once: they would take gigabytes."""
    entry = tag(JobParameters.DESCRIPTOR.fields_by_name[field_name].number, 2) + b"\0"
    request = CreateProjectJobRequest(project_id=target.known[0]).SerializeToString()
    number = CreateProjectJobRequest.DESCRIPTOR.fields_by_name["job_parameters"].number
    data = request + field(number, entry * ((MAX_RECEIVE_BYTES - 100) // len(entry)))
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: target.send(METHODS["ProjectJobService/Create"], data), range(16)))

    assert {code for code, _ in answers} == {"INVALID_ARGUMENT"}
    assert all("more than 50000 fields" in words for _, words in answers)


def test_what_is_longer_than_any_request_is_not_read(target: Target) -> None:
    data = CreateProjectJobRequest(config="x" * (MAX_RECEIVE_BYTES + 1)).SerializeToString()
    assert target.check(METHODS["ProjectJobService/Create"], data) == "RESOURCE_EXHAUSTED"


def test_nothing_of_it_is_left_in_the_log_or_in_memory(target: Target) -> None:
    assert "Traceback" not in target.server.log
    assert "\x1b" not in target.server.log
    assert target.memory("VmHWM") < 400 * MIB
