"""Cuts a byte stream into the contents of log frames: at line ends, else between characters, losing no byte."""

from __future__ import annotations

from jobsphere.runner.frames import MAX_CONTENT

SILENCE_S = 0.2
"""A line without its end is held back until its stream has been silent for so long."""
LONGEST_HOLD_S = 1.0
"""And never longer than this: a progress bar is never silent."""
_BLANKS = b" \t\r\n"
_TRIES = 32


class LineCutter:
    """One stream's cutter. Times are seconds of one monotonic clock. All contents in order are the stream."""

    __slots__ = ("_first", "_held", "_last")

    def __init__(self) -> None:
        self._held = b""
        self._first = self._last = 0.0

    def feed(self, data: bytes, now: float) -> list[bytes]:
        """Take in what was read; the contents that are complete now."""
        if self._held:
            data = self._held + data
        else:
            self._first = now
        self._last = now
        end = data.rfind(b"\n") + 1
        contents = _pieces(data, end)
        if end:
            self._first = now
        while len(data) - end > MAX_CONTENT:
            cut = character_boundary(data, end + MAX_CONTENT)
            contents.append(data[end:cut])
            end = cut
        self._held = data[end:]
        return contents

    def due(self) -> float | None:
        """When :meth:`expire` has something to give; None while nothing is held back."""
        if character_boundary(self._held, len(self._held)) == 0:
            return None
        return min(self._last + SILENCE_S, self._first + LONGEST_HOLD_S)

    def expire(self, now: float) -> list[bytes]:
        """What was held back long enough, without the first bytes of an unfinished character."""
        due = self.due()
        if due is None or due > now:
            return []
        cut = character_boundary(self._held, len(self._held))
        content, self._held = self._held[:cut], self._held[cut:]
        self._first = now
        return [content]

    def finish(self) -> list[bytes]:
        """All that is left: the stream has ended."""
        content, self._held = self._held, b""
        return [content] if content else []


def character_boundary(data: bytes, limit: int) -> int:
    """The last place up to ``limit`` that is not inside a UTF-8 character; ``limit`` itself for other bytes."""
    for back in range(1, min(limit, 3) + 1):
        byte = data[limit - back]
        if byte < 0x80:
            return limit
        if byte >= 0xC0:
            needed = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4 if byte < 0xF8 else 1
            return limit if needed <= back else limit - back
    return limit


def _pieces(data: bytes, end: int) -> list[bytes]:
    pieces: list[bytes] = []
    start = 0
    while start < end:
        cut = _cut(data, start, end)
        pieces.append(data[start:cut])
        start = cut
    return pieces


def _cut(data: bytes, start: int, end: int) -> int:
    """The end of the content that begins at ``start``.

    Clients strip each message: of the last line ends within reach, one before a line without leading blanks is best.
    """
    if end - start <= MAX_CONTENT:
        return end
    limit = start + MAX_CONTENT
    last = cut = data.rfind(b"\n", start, limit) + 1
    for _ in range(_TRIES):
        if cut <= start:
            break
        if data[cut] not in _BLANKS:
            return cut
        cut = data.rfind(b"\n", start, cut - 1) + 1
    return last if last > start else character_boundary(data, limit)
