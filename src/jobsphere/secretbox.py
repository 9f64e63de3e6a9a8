"""Secrets at rest: sealed with keys that are not in the database, so that a stored record alone tells nothing.

The keys, in this order: those of the variable ``JOBSPHERE_SECRET_KEY``, those of the key file, and one derived from the
server's own key. The first of them seals, all of them open.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from jobsphere.domain.errors import CorruptedError, FailedPreconditionError
from jobsphere.durable import Point, locked_file, write_private

KEY_VARIABLE = "JOBSPHERE_SECRET_KEY"
KEY_FILE_VARIABLE = "JOBSPHERE_SECRET_KEY_FILE"
KEY_FILE = "secret.keys"
"""In the shared folder, which is the data directory unless one is set; another place can be set."""
_PURPOSE = b"jobsphere secrets v1"
_VERSION = "v1."
_KEY_BYTES = 32
_NONCE_BYTES = 12
_HOW_TO = "a key is 32 random bytes in base64, as `openssl rand -base64 32` makes them"


class SecretBox:
    """Seals and opens with AES-256-GCM.

    Args:
        keys: 32 secret bytes each, of which others are derived here. The first seals, all open.
    """

    def __init__(self, *keys: bytes) -> None:
        self._ciphers = [
            AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(key)) for key in keys
        ]

    def seal(self, project_id: str, secret: str) -> str:
        """The secret as ASCII text that only this server can open, and only for this project."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._ciphers[0].encrypt(nonce, secret.encode(), project_id.encode())
        return _VERSION + base64.urlsafe_b64encode(sealed).decode()

    def open(self, project_id: str, sealed: str) -> str:
        """What was sealed.

        Raises:
            CorruptedError: other keys, another project, or changed since.
        """
        return self._open(project_id, sealed)[0]

    def resealed(self, project_id: str, sealed: str) -> str:
        """The same secret sealed with the first key; ``sealed`` itself if it is that already.

        Raises:
            CorruptedError: as :meth:`open`.
        """
        secret, by = self._open(project_id, sealed)
        return self.seal(project_id, secret) if by else sealed

    def holds(self, project_id: str, sealed: str, secret: str) -> bool:
        """Whether that is what was sealed.

        Raises:
            CorruptedError: as :meth:`open`.
        """
        return hmac.compare_digest(self.open(project_id, sealed).encode(), secret.encode())

    def _open(self, project_id: str, sealed: str) -> tuple[str, int]:
        """The secret, and the place of the key that opened it."""
        try:
            data = base64.urlsafe_b64decode(sealed.removeprefix(_VERSION))
        except ValueError:
            data = b""
        for place, cipher in enumerate(self._ciphers):
            try:
                opened = cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], project_id.encode())
            except (InvalidTag, ValueError):
                continue
            return opened.decode(), place
        raise CorruptedError(
            "a stored secret cannot be opened: the key that sealed it is not among the server's keys any more; give "
            "the key back, or set the secret again; a password that a job brought needs you to create the job again"
        )


class Keys:
    """The keys of a server, read each time: a running one follows a rotation.

    Args:
        shared: The folder that holds ``key``, the server's own.
        file: The key file; None for the one in that folder. Need not exist.
        environ: Where :data:`KEY_VARIABLE` is looked for.
    """

    def __init__(self, shared: Path, file: Path | None, environ: Mapping[str, str]) -> None:
        self._shared = shared
        self._named = file is not None
        self.file = file or shared / KEY_FILE
        self._environ = environ

    @classmethod
    def of_node(cls, shared: Path, environ: Mapping[str, str]) -> Keys:
        """The keys as a server told them to its node, by variables."""
        named = environ.get(KEY_FILE_VARIABLE)
        return cls(shared, Path(named) if named else None, environ)

    def for_node(self) -> dict[str, str]:
        """The variables by which the node knows the keys. One of them is a secret: it travels in memory only."""
        told = {KEY_FILE_VARIABLE: str(self.file) if self._named else ""}
        return told | {KEY_VARIABLE: self._environ.get(KEY_VARIABLE, "")}

    @property
    def by_variable(self) -> bool:
        """Whether the key that seals comes from the variable."""
        return bool(self._environ.get(KEY_VARIABLE, "").strip())

    def box(self) -> SecretBox:
        """What seals and opens now.

        Raises:
            FailedPreconditionError: a key is none, or the named file cannot be read.
        """
        own = (self._shared / "key").read_bytes()
        return SecretBox(*_parse(KEY_VARIABLE, self._environ.get(KEY_VARIABLE, "")), *self.in_file(), own)

    def seal(self, project_id: str, secret: str) -> str:
        """See :class:`jobsphere.domain.resource_ports.Sealer`."""
        return self.box().seal(project_id, secret)

    def holds(self, project_id: str, sealed: str, secret: str) -> bool:
        """See :class:`jobsphere.domain.resource_ports.Sealer`."""
        return self.box().holds(project_id, sealed, secret)

    def resealed(self, project_id: str, sealed: str) -> str:
        """See :class:`jobsphere.domain.resource_ports.Sealer`."""
        return self.box().resealed(project_id, sealed)

    def in_file(self) -> list[bytes]:
        """The keys of the file, the one that seals first.

        Raises:
            FailedPreconditionError: a line is no key, or the named file cannot be read.
        """
        try:
            return _parse(f"the key file {self.file}", self.file.read_text(encoding="ascii"))
        except FileNotFoundError:
            if not self._named:
                return []
            raise FailedPreconditionError(f"the key file {self.file} is not there; {_HOW_TO}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise FailedPreconditionError(f"the key file {self.file} cannot be read: {error}") from error

    def replace_file(self, keys: list[bytes]) -> None:
        """Put these keys into the file, durably and at once; only its owner can read it."""
        text = "# Keys that seal secrets: the first seals, all open. Keep a copy apart from the data directory.\n"
        text += "".join(base64.b64encode(key).decode() + "\n" for key in keys)
        with locked_file(self.file.with_name(f".{self.file.name}.lock")):
            write_private(self.file, text.encode("ascii"), Point.SECRETS_KEY)


def new_key() -> bytes:
    """A fresh key."""
    return os.urandom(_KEY_BYTES)


def _parse(where: str, text: str) -> list[bytes]:
    """The keys of a text: base64, apart by blanks, commas or lines; what follows a ``#`` is a comment."""
    words = re.sub(r"#.*", "", text).replace(",", " ").split()
    keys: list[bytes] = []
    for number, word in enumerate(words, 1):
        try:
            key = base64.b64decode(word.translate(_URL_SAFE), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _KEY_BYTES:
            raise FailedPreconditionError(f"{where}: key number {number} is none; {_HOW_TO}")
        keys.append(key)
    return keys


_URL_SAFE = str.maketrans("-_", "+/")
