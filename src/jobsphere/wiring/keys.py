"""The key of a data directory, and what is made with it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path

from jobsphere.durable import Point, locked, write_private
from jobsphere.service.tokens import Tokens
from jobsphere.system import SystemClock
from jobsphere.wiring.desk import local_subject

_KEY_BYTES = 32


def ca_file(data_dir: Path) -> Path:
    """The local certificate authority that clients of this data directory's server trust."""
    return data_dir / "tls" / "ca.pem"


def secret_key(data_dir: Path) -> bytes:
    """The 32 secret bytes that sign tokens and URLs; made at the first call, readable by the owner only."""
    path = data_dir / "key"
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        # Of two that start at once one makes it, and nobody ever reads a half-written key.
        with locked(data_dir):
            if not path.exists():
                write_private(path, secrets.token_bytes(_KEY_BYTES), Point.SERVER_KEY)
    return path.read_bytes()


def issue_token(data_dir: Path, life: timedelta) -> str:
    """A token for the operator, good for ``life`` on every server of this data directory."""
    token, _ = Tokens(secret_key(data_dir), SystemClock()).issue(local_subject().id, life)
    return token
