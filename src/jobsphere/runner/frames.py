"""The ``logs`` file: append-only frames, written by one supervisor and read by anybody at any time.

A frame is a header (payload length u32, nanoseconds since the epoch u64, stream u8, length of the path u8; little
endian), the path (for a file's stream) and 1 to 65536 bytes of content. An offset is a position in the file. A tail
that is no whole frame is not there yet: its writer is about to complete it, or was killed, and then the next cuts it.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence

from jobsphere.domain.attempt import LogFrame, LogStream
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.durable import Point, durable

MAX_CONTENT = 64 * 1024
_HEADER = struct.Struct("<IQBB")
_WINDOW = 1 << 20
_LARGEST = _HEADER.size + 255 + MAX_CONTENT
_STREAMS = {1: LogStream.OUT, 2: LogStream.ERR, 3: LogStream.FILE}
_CODES = {stream: code for code, stream in _STREAMS.items()}
_TIMES = range(946_684_800 * 10**9, 1 << 63)
"""From the year 2000 on: a header with another time is none."""


class LogWriter:
    """Appends frames. A write that fails leaves the file as it was before.

    Args:
        path: The file, made if it is not there. What a killed writer left half-written at its end is cut off.
    """

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = whole_size(self.fd)
        os.ftruncate(self.fd, self.size)

    def append(self, stream: LogStream, contents: Sequence[bytes], path: str = "") -> None:
        """Write a frame for each content (none empty, none over 64 KiB), with one system call for all of them.

        Raises:
            OSError: no room, for example; none of them is in the file.
        """
        if not contents:
            return
        # A clock that was never set must not make headers that no reader takes for one.
        name, code, now = path.encode(), _CODES[stream], max(time.time_ns(), _TIMES.start)
        parts: list[bytes] = []
        for content in contents:
            parts += (_HEADER.pack(len(name) + len(content), now, code, len(name)) + name, content)
        total = sum(map(len, parts))
        try:
            self._write(parts, total)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        self.size += total

    def _write(self, parts: list[bytes], total: int) -> None:
        done = os.writev(self.fd, parts) if len(parts) <= 1024 else 0
        if done < total:
            rest = memoryview(b"".join(parts))[done:]
            while rest:
                rest = rest[os.write(self.fd, rest) :]

    def cut(self, limit_bytes: int) -> None:
        """Keep the first whole frames, ``limit_bytes`` of them at most. What is appended next follows them."""
        data, position = os.pread(self.fd, limit_bytes, 0), 0
        while (end := _frame_end(data, position)) is not None and position < end <= len(data):
            position = end
        os.ftruncate(self.fd, position)
        self.size = position

    def sync(self) -> None:
        """Make all of it durable."""
        with durable(Point.LOG_SYNC):
            os.fdatasync(self.fd)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)


def read_frames(fd: int, offset: int, limit_bytes: int) -> tuple[list[LogFrame], int]:
    """Whole frames from ``offset`` on and the offset behind them: about ``limit_bytes`` of content, at least one frame.

    Raises:
        InvalidArgumentError: no frame begins at ``offset``.
    """
    if not 0 <= offset <= os.fstat(fd).st_size:
        raise _bad_offset(offset)
    data = os.pread(fd, max(limit_bytes, 0) + _LARGEST, offset)
    frames: list[LogFrame] = []
    position = content = 0
    while content < max(limit_bytes, 1):
        end = _frame_end(data, position)
        if end is None or end > len(data):
            break
        if end < 0:
            raise _bad_offset(offset + position)
        frames.append(_frame(data, position, end))
        content += len(frames[-1].content)
        position = end
    return frames, offset + position


def all_frames(fd: int) -> Iterator[LogFrame]:
    """Every whole frame, in order."""
    offset = 0
    while True:
        frames, offset = read_frames(fd, offset, _WINDOW)
        if not frames:
            return
        yield from frames


def packed(frames: Sequence[LogFrame]) -> bytes:
    """Frames as they stand in the file, one behind the other."""
    parts: list[bytes] = []
    for frame in frames:
        name = frame.path.encode()
        size = len(name) + len(frame.content)
        parts += (_HEADER.pack(size, frame.time_ns, _CODES[frame.stream], len(name)), name, frame.content)
    return b"".join(parts)


def unpacked(data: bytes) -> list[LogFrame]:
    """What :func:`packed` was given.

    Raises:
        ValueError: no whole frames.
    """
    frames: list[LogFrame] = []
    position = 0
    while position < len(data):
        end = _frame_end(data, position)
        if end is None or not 0 <= end <= len(data):
            raise ValueError("not frames of a log")
        frames.append(_frame(data, position, end))
        position = end
    return frames


def whole_size(fd: int, start: int = 0) -> int:
    """The offset behind the last whole frame; ``start`` is one that is known to be a frame's begin.

    What is no frame ends the log too: a power cut may leave blocks of zeros.
    """
    size = os.fstat(fd).st_size
    offset = start if start <= size else 0  # it was cut
    while offset < size:
        window = os.pread(fd, 4096, offset)
        position = 0
        while (end := _frame_end(window, position)) is not None:
            if end < 0 or offset + end > size:
                return offset + position
            position = end
        if position == 0:
            break
        offset += position
    return offset


def _frame_end(data: bytes, position: int) -> int | None:
    """Where the frame at ``position`` ends, maybe beyond ``data``; None: half a header; -1: no header."""
    if len(data) - position < _HEADER.size:
        return None
    length, time_ns, code, name = _HEADER.unpack_from(data, position)
    sane = code in _STREAMS and (name > 0) == (code == 3) and 0 < length - name <= MAX_CONTENT and time_ns in _TIMES
    return position + _HEADER.size + length if sane else -1


def _frame(data: bytes, position: int, end: int) -> LogFrame:
    _, time_ns, code, name = _HEADER.unpack_from(data, position)
    begin = position + _HEADER.size
    path = data[begin : begin + name].decode()
    return LogFrame(_STREAMS[code], time_ns, data[begin + name : end], path)


def _bad_offset(offset: int) -> InvalidArgumentError:
    return InvalidArgumentError(f"offset {offset} is not one of this log; use the offset of an answer, or 0")
