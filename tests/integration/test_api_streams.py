"""Log streams of the API over a real TLS port: live, to their end, and readers that leave."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from api_calls import AUTH, HANG_S, failed, get
from api_fakes import Fakes
from structlog.testing import capture_logs
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from jobsphere.domain import errors


async def test_logs_are_streamed_live_and_end_clean(jobs: Any, fakes: Fakes) -> None:
    call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id="j", offset=-1), metadata=AUTH)
    answers = aiter(call)
    first = await anext(answers)
    assert (first.offset, first.logs[0].content) == (30, b"hello\n")
    fakes.logs.end.set()
    assert [(r.offset, r.logs[0].content) async for r in answers] == [(60, b"bye\n")]
    assert await call.code() is grpc.StatusCode.OK
    assert "x-request-id" in dict(await call.initial_metadata())
    assert fakes.recorder.calls == [("stream", "alice", "j", -1)]


async def test_a_stream_ends_with_its_token(jobs: Any, fakes: Fakes) -> None:
    call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id="j"), metadata=AUTH)
    assert (await call.read()).offset == 30
    fakes.identity.good = "another"
    fakes.logs.end.set()
    assert (await failed(call.read())).code() is grpc.StatusCode.UNAUTHENTICATED
    async with asyncio.timeout(HANG_S):
        await fakes.logs.closed.wait()


async def test_the_older_stream_is_served(jobs: Any, fakes: Fakes) -> None:
    fakes.logs.end.set()
    call = jobs.ReadStdLogs(pb.ReadProjectJobStdLogsRequest(job_id="j"), metadata=AUTH)
    assert [r.logs[0].type async for r in call] == [pb.StdLog.OUT, pb.StdLog.ERR]


async def test_a_stream_that_fails_tells_its_status(jobs: Any, fakes: Fakes) -> None:
    fakes.logs.failure = errors.UnavailableError("the server stops")
    fakes.logs.end.set()
    call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id="j"), metadata=AUTH)
    assert (await call.read()).offset == 30
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert await call.details() == "the server stops"


async def test_a_reader_that_leaves_is_quiet_and_closes_the_stream(jobs: Any, fakes: Fakes) -> None:
    with capture_logs() as lines:
        call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id="j"), metadata=AUTH)
        await call.read()
        call.cancel()
        async with asyncio.timeout(HANG_S):
            await fakes.logs.closed.wait()
    assert lines == []


async def test_readers_that_leave_in_the_middle_of_a_flood_are_quiet(
    jobs: Any, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    fakes.logs.flood = True
    with capture_logs() as lines:
        for _ in range(20):
            fakes.logs.closed.clear()
            call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id="j"), metadata=AUTH)
            await call.read()
            call.cancel()
            async with asyncio.timeout(HANG_S):
                await fakes.logs.closed.wait()
        await get(jobs)
    assert lines == []
    assert caplog.records == []


async def test_trouble_after_the_caller_has_left_is_quiet_too(jobs: Any, fakes: Fakes) -> None:
    fakes.logs.trouble_at_the_end = errors.CorruptedError("nobody is there to hear it")
    with capture_logs() as lines:
        call = jobs.ReadLogs(pb.ReadProjectJobLogsRequest(job_id="j"), metadata=AUTH)
        await call.read()
        call.cancel()
        async with asyncio.timeout(HANG_S):
            await fakes.logs.closed.wait()
        await get(jobs)
    assert lines == []
