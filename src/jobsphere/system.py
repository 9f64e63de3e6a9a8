"""The real clock and the real ids."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 20
# More bits than 20 digits hold (103), so that no digit is likelier than another.
_BITS = 160


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Now, timezone-aware UTC."""
        return datetime.now(UTC)


class RandomIds:
    """Ids of 20 characters with 103 random bits: unguessable, and never the same twice."""

    def new(self) -> str:
        """A new id."""
        number = secrets.randbits(_BITS)
        digits: list[str] = []
        for _ in range(_ID_LENGTH):
            number, digit = divmod(number, len(_ALPHABET))
            digits.append(_ALPHABET[digit])
        return "".join(digits)
