"""The real clock and the real ids."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_TIME_LENGTH, _RANDOM_LENGTH = 6, 14
_BITS = 128
"""More than the random digits hold (72), so that no digit is likelier than another."""
_SINCE = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Now, timezone-aware UTC."""
        return datetime.now(UTC)


class RandomIds:
    """Ids of 20 characters: the second in which it was made, then 72 random bits: unguessable, never the same twice.

    What is stored together stands together in every index by id: an id that is random from its first digit costs each
    write a page of its own in each of them.
    """

    def new(self) -> str:
        """A new id."""
        return _digits(int(time.time()) - _SINCE, _TIME_LENGTH) + _digits(secrets.randbits(_BITS), _RANDOM_LENGTH)


def _digits(number: int, length: int) -> str:
    """The last digits of a number."""
    digits: list[str] = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
