"""The keys of a data directory, sealed under a passphrase."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from jobsphere.backup.layout import KEY_FILES, TLS
from jobsphere.domain.errors import CorruptedError, InvalidArgumentError, PermissionDeniedError

MIN_PASSPHRASE_CHARS = 12
PUBLIC = f"{TLS}/ca.pem"
_COST = 1 << 16
_NAME = b"jobsphere backup keys v1"


def key_files(data_dir: Path) -> list[str]:
    """Names of the files that hold keys: the server's, those that seal secrets, the certificate authority's."""
    tls = data_dir / TLS
    of_tls = [f"{TLS}/{path.name}" for path in sorted(tls.glob("*.pem"))]
    return [name for name in KEY_FILES if (data_dir / name).is_file()] + of_tls


def seal_keys(data_dir: Path, passphrase: str) -> bytes:
    """All of them, as a text that only the passphrase opens.

    Raises:
        InvalidArgumentError: the passphrase is too short to be one.
    """
    if len(passphrase) < MIN_PASSPHRASE_CHARS:
        raise InvalidArgumentError(f"the passphrase must have {MIN_PASSPHRASE_CHARS} characters at least")
    files = {name: base64.b64encode((data_dir / name).read_bytes()).decode() for name in key_files(data_dir)}
    salt, nonce = os.urandom(16), os.urandom(12)
    sealed = AESGCM(_derive(passphrase, salt, _COST)).encrypt(nonce, json.dumps(files).encode(), _NAME)
    told = {"scrypt_n": _COST, "salt": _text(salt), "nonce": _text(nonce), "sealed": _text(sealed)}
    return json.dumps(told).encode() + b"\n"


def open_keys(sealed: bytes, passphrase: str) -> dict[str, bytes]:
    """The contents of the files by their names.

    Raises:
        PermissionDeniedError: it is another passphrase.
        CorruptedError: that was not made by :func:`seal_keys`.
    """
    try:
        told = json.loads(sealed)
        salt, nonce, data = (base64.b64decode(told[name]) for name in ("salt", "nonce", "sealed"))
        opened = AESGCM(_derive(passphrase, salt, int(told["scrypt_n"]))).decrypt(nonce, data, _NAME)
        return {name: base64.b64decode(text) for name, text in json.loads(opened).items()}
    except InvalidTag:
        raise PermissionDeniedError("the passphrase does not open the keys; give the one of the backup") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptedError("the sealed keys cannot be read; use another backup") from error


def put_keys(data_dir: Path, files: dict[str, bytes]) -> None:
    """Write them where they belong, for their owner only; but what clients are to trust is for everybody."""
    for name, content in files.items():
        path = data_dir / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = 0o644 if name == PUBLIC else 0o600
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(content)


def _derive(passphrase: str, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase.encode())


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
