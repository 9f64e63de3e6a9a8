"""The secrets of an attempt: opened on the node just before the program starts, kept out of its log if asked for."""

from __future__ import annotations

from collections.abc import Iterable

from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.job import Phase
from jobsphere.runner.bench import Bench, StepError
from jobsphere.runner.image_pull import Unseal

MIN_MASKED = 4
"""Bytes of a value (of a line of it) from which on it is masked: less would blot out half of the log."""
_MASK = b"*****"
_PROBE = 16
"""Bytes by which a place is found where a value may begin: comparing all of a long one everywhere would be slow."""


def open_secrets(bench: Bench, unseal: Unseal) -> dict[str, str]:
    """The values of the plan's secrets by name.

    Raises:
        StepError: one cannot be opened; it is named.
    """
    plan = bench.plan
    opened: dict[str, str] = {}
    for name, sealed in plan.secrets:
        try:
            opened[name] = unseal(plan.project_id, sealed)
        except JobsphereError as error:
            raise StepError(Phase.ENVIRONMENT, f"Secret {name!r}: {error.public}") from error
    return opened


class Masker:
    """Replaces secret values in one stream of bytes by asterisks, wherever the stream is cut into pieces.

    Each line of a value counts by itself. What is held back is the beginning of one, and never all of it.
    """

    __slots__ = ("_covered", "_held", "_values")

    def __init__(self, secrets: Iterable[str]) -> None:
        lines = {line.strip() for value in secrets for line in value.encode().split(b"\n")}
        self._values = sorted(line for line in lines if len(line) >= MIN_MASKED)
        self._held = b""
        self._covered = 0  # so many of the held bytes belong to a mask that was given already

    def feed(self, data: bytes) -> bytes:
        """Take in a piece; what can be given of it and of what was held back."""
        data = self._held + data
        return self._give(data, min((_beginning(value, data) for value in self._values), default=len(data)))

    def finish(self) -> bytes:
        """The rest: the stream has ended."""
        return self._give(self._held, len(self._held))

    def _give(self, data: bytes, end: int) -> bytes:
        """``data`` up to ``end``, masked; the rest is held."""
        out: list[bytes] = []
        done = self._covered
        for start, stop in self._found(data):
            if start >= end:
                break
            if start >= done:
                out += (data[done:start], _MASK)
            done = max(done, stop)
        out.append(data[done:end])
        self._held, self._covered = data[end:], max(0, done - end)
        return b"".join(out)

    def _found(self, data: bytes) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        for value in self._values:
            start = data.find(value)
            while start >= 0:
                found.append((start, start + len(value)))
                start = data.find(value, start + 1)
        return sorted(found)


def _beginning(value: bytes, data: bytes) -> int:
    """From where on ``data`` is the beginning of ``value``, and not all of it; its length if it is nowhere."""
    probe = value[:_PROBE]
    at = data.find(probe, max(0, len(data) - len(value) + 1))
    while at >= 0:
        if value.startswith(data[at:]):
            return at
        at = data.find(probe, at + 1)
    for at in range(max(0, len(data) - len(probe) + 1), len(data)):
        if value.startswith(data[at:]):
            return at
    return len(data)
