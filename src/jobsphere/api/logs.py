"""Log chunks to the messages of ReadLogs and ReadStdLogs.

A message never comes near the 4 MiB that clients accept by default, whatever a program writes. Neighbours of one source
are sent as one message: clients decode, strip and print each message by itself, and the less there are the better the
text keeps its shape. A message ends where a frame ends, so never inside a character.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb

from jobsphere.api.wire import timestamp_ns
from jobsphere.domain.attempt import LogChunk, LogFrame, LogStream
from jobsphere.domain.command import stays_inside

MAX_RESPONSE_BYTES = 1 << 20
_MESSAGE_OVERHEAD = 40
"""More than the fields of a message take beside its content and path."""

_log = structlog.get_logger("jobsphere.api")
_STANDARD = {LogStream.OUT: pb.StandardStream.OUT, LogStream.ERR: pb.StandardStream.ERR}
_STD_TYPES = {LogStream.OUT: pb.StdLog.Type.OUT, LogStream.ERR: pb.StdLog.Type.ERR}


async def log_responses(
    chunks: AsyncIterator[LogChunk], offset: int
) -> AsyncGenerator[pb.ReadProjectJobLogsResponse, None]:
    """Answers of ReadLogs for a stream of chunks that was asked for from ``offset`` on."""
    async with aclosing(_parts(chunks, offset)) as parts:
        async for part in parts:
            messages = [_log_message(p) for p in part.pieces]
            yield pb.ReadProjectJobLogsResponse(logs=messages, offset=part.offset)


async def std_log_responses(
    chunks: AsyncIterator[LogChunk], offset: int
) -> AsyncGenerator[pb.ReadProjectJobStdLogsResponse, None]:
    """Answers of the older ReadStdLogs: the same offsets, without what is not the program's own output."""
    async for part in _parts(chunks, offset):
        logs = [
            pb.StdLog(content=p.content(), type=_STD_TYPES[p.stream]) for p in part.pieces if p.stream in _STD_TYPES
        ]
        yield pb.ReadProjectJobStdLogsResponse(logs=logs, offset=part.offset)


@dataclass(slots=True)
class _Piece:
    """Neighbouring frames of one source."""

    stream: LogStream
    path: str
    time_ns: int
    is_text: bool
    frames: list[bytes] = field(default_factory=list[bytes])

    def content(self) -> bytes:
        return b"".join(self.frames) if len(self.frames) > 1 else self.frames[0]


@dataclass(frozen=True, slots=True)
class _Part:
    """What goes into one answer."""

    pieces: list[_Piece]
    offset: int


async def _parts(chunks: AsyncIterator[LogChunk], offset: int) -> AsyncGenerator[_Part, None]:
    """Divide chunks into parts of a bounded size.

    Only the last part of a chunk has the chunk's offset. A client that loses the stream before that begins again where
    the chunk began, and gets some lines twice rather than never.
    """
    async with aclosing(cast(Any, chunks)) as stream:
        async for chunk in stream:
            groups = list(_bounded(_sendable(chunk.frames)))
            for pieces in groups[:-1]:
                yield _Part(pieces, offset)
            offset = chunk.offset
            yield _Part(groups[-1], offset)


def _bounded(frames: Iterable[LogFrame]) -> Iterator[list[_Piece]]:
    """Groups of pieces, each group below the size limit; one empty group if there are no frames."""
    pieces: list[_Piece] = []
    size = 0
    for frame in frames:
        cost = len(frame.content) + len(frame.path) * 4 + _MESSAGE_OVERHEAD
        if pieces and size + cost > MAX_RESPONSE_BYTES:
            yield pieces
            pieces, size = [], 0
        size += cost
        _append(pieces, frame)
    yield pieces


def _append(pieces: list[_Piece], frame: LogFrame) -> None:
    is_text = _is_text(frame.content)
    last = pieces[-1] if pieces else None
    # Bytes that are no text stay alone: a client shows the whole message that holds them as escapes.
    if last and is_text and last.is_text and last.stream is frame.stream and last.path == frame.path:
        last.frames.append(frame.content)
    else:
        pieces.append(_Piece(frame.stream, frame.path, frame.time_ns, is_text, [frame.content]))


def _is_text(content: bytes) -> bool:
    if content.isascii():
        return True
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _sendable(frames: Iterable[LogFrame]) -> Iterator[LogFrame]:
    """Leave out files that a client would write outside of its working directory."""
    for frame in frames:
        if frame.stream is LogStream.FILE and not (frame.path and stays_inside(frame.path)):
            _log.error("a log frame names a place that no client may be told", path=frame.path)
        else:
            yield frame


def _log_message(piece: _Piece) -> pb.LogMessage:
    message = pb.LogMessage(content=piece.content(), created_at=timestamp_ns(piece.time_ns))
    if piece.stream is LogStream.FILE:
        message.file_path = piece.path
    else:
        message.standard_stream = _STANDARD[piece.stream]
    return message
