"""What was announced of bytes, held against those that come."""

from __future__ import annotations

import hashlib

from jobsphere.domain.errors import InvalidArgumentError


class Promised:
    """Counts and hashes bytes of an announced size and SHA-256; the two may be done by different threads."""

    def __init__(self, sha256: str, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._sha256 = sha256
        self._received = 0
        self._hash = hashlib.sha256()

    def count(self, more: int) -> None:
        """So many have come.

        Raises:
            InvalidArgumentError: more than were announced.
        """
        self._received += more
        if self._received > self.size_bytes:
            raise InvalidArgumentError(f"more bytes came than the {self.size_bytes} that were announced")

    def hash(self, chunk: bytes) -> None:
        """These are next."""
        self._hash.update(chunk)

    def check(self) -> None:
        """All have come.

        Raises:
            InvalidArgumentError: they are not of the announced size or hash.
        """
        if self._received != self.size_bytes:
            raise InvalidArgumentError(f"{self._received} bytes came, while {self.size_bytes} were announced")
        if self._hash.hexdigest() != self._sha256:
            raise InvalidArgumentError("the bytes do not have the announced SHA-256; did the file change meanwhile?")
