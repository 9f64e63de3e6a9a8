"""Secrets at rest: sealed with a key that is derived from the server's, so that a stored record alone tells nothing."""

from __future__ import annotations

import base64
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jobsphere.domain.errors import CorruptedError

_PURPOSE = b"jobsphere secrets v1"
_VERSION = "v1."
_NONCE_BYTES = 12


class SecretBox:
    """Seals and opens with AES-256-GCM. ``key``: the server's 32 secret bytes, of which another key is derived here."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(key))

    def seal(self, project_id: str, secret: str) -> str:
        """The secret as ASCII text that only this server can open, and only for this project."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, secret.encode(), project_id.encode())
        return _VERSION + base64.urlsafe_b64encode(sealed).decode()

    def open(self, project_id: str, sealed: str) -> str:
        """What was sealed.

        Raises:
            CorruptedError: another key, another project, or changed since.
        """
        try:
            data = base64.urlsafe_b64decode(sealed.removeprefix(_VERSION))
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], project_id.encode()).decode()
        except (InvalidTag, ValueError):
            raise CorruptedError(
                "a stored secret cannot be opened: the server's key is another one now; create the job again"
            ) from None
