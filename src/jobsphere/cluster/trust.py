"""How servers and agents know each other: by the authority and the key that their shared folder has."""

from __future__ import annotations

import ssl
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PURPOSE = b"jobsphere agent v1"


def agent_token(key: bytes) -> str:
    """What servers show to agents, of the key that they sign with. It tells nothing of the key."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(key).hex()


def answering_context(server_pem: Path) -> ssl.SSLContext:
    """For an agent: its key and its certificate, from one file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server_pem)
    return context


def asking_context(ca_pem: Path) -> ssl.SSLContext:
    """For a server: it trusts this authority only, and looks at the names."""
    return ssl.create_default_context(cafile=str(ca_pem))
