"""Log chunks in their published form."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from jobsphere.api.logs import MAX_RESPONSE_BYTES, log_responses, std_log_responses
from jobsphere.domain.attempt import SYSTEM_LOG, LogChunk, LogFrame, LogStream

OUT, ERR, FILE = LogStream.OUT, LogStream.ERR, LogStream.FILE


async def stream(*chunks: LogChunk) -> AsyncIterator[LogChunk]:
    for chunk in chunks:
        yield chunk


def out(content: bytes, time_ns: int = 1) -> LogFrame:
    return LogFrame(OUT, time_ns, content)


async def read(*chunks: LogChunk) -> list[pb.ReadProjectJobLogsResponse]:
    return [r async for r in log_responses(stream(*chunks), 0)]


async def test_neighbours_of_one_source_become_one_message_with_the_first_time() -> None:
    frames = (out(b"a\n", 7), out(b"b\n", 8), LogFrame(ERR, 9, b"c\n"), out(b"d\n", 10))
    (answer,) = await read(LogChunk(frames, 40, False))
    assert [(m.standard_stream, m.content) for m in answer.logs] == [
        (pb.StandardStream.OUT, b"a\nb\n"),
        (pb.StandardStream.ERR, b"c\n"),
        (pb.StandardStream.OUT, b"d\n"),
    ]
    assert answer.logs[0].created_at.ToNanoseconds() == 7
    assert answer.offset == 40


async def test_files_are_named_and_kept_apart() -> None:
    frames = (LogFrame(FILE, 1, b"x\n", SYSTEM_LOG), LogFrame(FILE, 1, b"y\n", "train.log"))
    (answer,) = await read(LogChunk(frames, 9, True))
    assert [(m.WhichOneof("source"), m.file_path) for m in answer.logs] == [
        ("file_path", SYSTEM_LOG),
        ("file_path", "train.log"),
    ]


@pytest.mark.parametrize("path", ["/etc/cron.d/x", "../x", "a/../../x", "a/..", ""])
async def test_a_path_outside_of_the_clients_directory_is_never_sent(path: str) -> None:
    frames = (LogFrame(FILE, 1, b"x\n", path), out(b"fine\n"))
    (answer,) = await read(LogChunk(frames, 9, True))
    assert [m.content for m in answer.logs] == [b"fine\n"]
    assert answer.offset == 9


async def test_bytes_that_are_no_text_do_not_spoil_their_neighbours() -> None:
    frames = (out(b"before\n"), out(b"\xff\xfe\n"), out("naïve\n".encode()), out(b"after\n"))
    (answer,) = await read(LogChunk(frames, 9, True))
    assert [m.content for m in answer.logs] == [b"before\n", b"\xff\xfe\n", "naïve\nafter\n".encode()]


async def test_a_big_chunk_is_divided_and_only_its_last_part_moves_the_offset_on() -> None:
    frames = tuple(out(b"x" * 65_536) for _ in range(100))
    answers = await read(LogChunk((out(b"a"),), 5, False), LogChunk(frames, 900, False))
    assert len(answers) > 6
    assert [a.offset for a in answers] == [5] * (len(answers) - 1) + [900]
    assert all(a.ByteSize() <= MAX_RESPONSE_BYTES for a in answers)


async def test_a_million_tiny_frames_stay_far_below_the_clients_limit() -> None:
    frames = tuple(LogFrame(s, 1_700_000_000_123_456_789, b"x") for _ in range(50_000) for s in (OUT, ERR))
    answers = await read(LogChunk(frames, 9, True))
    assert len(answers) > 1
    assert max(a.ByteSize() for a in answers) <= MAX_RESPONSE_BYTES


async def test_the_older_method_leaves_files_out_and_has_the_same_offsets() -> None:
    frames = (out(b"a\n"), LogFrame(FILE, 1, b"sys\n", SYSTEM_LOG), LogFrame(ERR, 1, b"b\n"))
    chunks = stream(LogChunk(frames, 30, False), LogChunk((LogFrame(FILE, 1, b"s\n", SYSTEM_LOG),), 50, True))
    answers = [r async for r in std_log_responses(chunks, 0)]
    assert [(g.type, g.content) for g in answers[0].logs] == [(pb.StdLog.OUT, b"a\n"), (pb.StdLog.ERR, b"b\n")]
    assert [a.offset for a in answers] == [30, 50]


async def test_closing_the_answers_closes_the_chunks() -> None:
    closed: list[bool] = []

    async def chunks() -> AsyncIterator[LogChunk]:
        try:
            while True:
                yield LogChunk((out(b"x\n"),), 1, False)
        finally:
            closed.append(True)

    answers = log_responses(chunks(), 0)
    await anext(answers)
    await answers.aclose()
    assert closed == [True]


FRAMES = st.builds(
    LogFrame,
    stream=st.sampled_from([OUT, ERR]),
    time_ns=st.integers(0, 2**62),
    content=st.binary(min_size=1, max_size=20),
)


@given(st.lists(st.lists(FRAMES, max_size=8), max_size=4))
async def test_every_byte_of_every_source_arrives_in_order(chunks: list[list[LogFrame]]) -> None:
    answers = await read(*(LogChunk(tuple(c), i + 1, False) for i, c in enumerate(chunks)))
    for ours, theirs in ((OUT, pb.StandardStream.OUT), (ERR, pb.StandardStream.ERR)):
        written = b"".join(f.content for c in chunks for f in c if f.stream is ours)
        assert b"".join(m.content for a in answers for m in a.logs if m.standard_stream == theirs) == written
