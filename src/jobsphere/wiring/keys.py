"""The key that servers sign with, and what is made with it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

from jobsphere.config import shared_of
from jobsphere.durable import Point, ensure_private
from jobsphere.service.tokens import Tokens
from jobsphere.system import SystemClock
from jobsphere.wiring.desk import local_subject

_KEY_BYTES = 32


def ca_file(data_dir: Path) -> Path:
    """The local certificate authority that clients of this data directory's server trust."""
    return data_dir / "tls" / "ca.pem"


def secret_key(shared: Path) -> bytes:
    """The 32 secret bytes that sign tokens and URLs; made at the first call, readable by the owner only.

    ``shared``: the folder of all servers. Of those that start at once one makes the key; nobody ever reads half of it.
    """
    path = shared / "key"
    shared.mkdir(parents=True, exist_ok=True, mode=0o700)
    ensure_private(path, lambda: secrets.token_bytes(_KEY_BYTES), Point.SERVER_KEY)
    return path.read_bytes()


def issue_token(data_dir: Path, life: timedelta) -> str:
    """A token for the operator, good for ``life`` on every server of this data directory."""
    token, _ = Tokens(secret_key(shared_of(data_dir)), SystemClock()).issue(local_subject().id, life)
    return token
