"""The real clock and the real ids."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 20


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Now, timezone-aware UTC."""
        return datetime.now(UTC)


class RandomIds:
    """Ids of 20 characters with 103 random bits: unguessable, and never the same twice."""

    def new(self) -> str:
        """A new id."""
        return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))
