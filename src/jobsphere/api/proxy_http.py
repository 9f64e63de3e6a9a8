"""As much HTTP/1.1 as a CONNECT proxy reads and writes."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

MAX_HEAD_BYTES = 16 * 1024
_LINGER_S = 1.0
_AUTHORITY = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")


class Refusal(Exception):  # noqa: N818 - an answer rather than a mistake
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, public: str) -> None:
        super().__init__(public)
        self.status = status
        self.public = public


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. ``headers`` may hold credentials: never print them. Names are lower-case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)

    def authority(self) -> tuple[str, int]:
        """Host (lower-case, no final dot) and port of a CONNECT.

        Raises:
            Refusal: there is none.
        """
        match = _AUTHORITY.fullmatch(self.target)
        if match is None or int(match[2]) > 0xFFFF:
            raise Refusal(400, "CONNECT needs host:port")
        return match[1].strip("[]").lower().rstrip("."), int(match[2])

    def proxy_user(self) -> str:
        """The user name in the proxy's URL; empty if there is none."""
        scheme, _, credentials = self.headers.get("proxy-authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return ""
        try:
            return base64.b64decode(credentials, validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return ""


async def read_request(reader: asyncio.StreamReader) -> Request:
    """Read the head of a request; what follows it stays in the reader.

    Raises:
        Refusal: it is too long or not HTTP.
        EOFError: the client left before it was complete.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise Refusal(431, "the head of the request is too long") from None
    if len(head) > MAX_HEAD_BYTES:
        raise Refusal(431, "the head of the request is too long")
    line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise Refusal(400, "this is not an HTTP/1 request")
    return Request(words[0], words[1], _headers(lines))


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def response(status: int, content_type: str, body: bytes, with_body: bool = True, more: str = "") -> bytes:
    """A whole answer, after which the connection is closed. ``more``: further header lines, each with its end."""
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        f"Content-Type: {content_type}; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"{more}"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (body if with_body else b"")


async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, refusal: Refusal) -> None:
    """Answer a refused request, and wait a moment for the client to have read it.

    A connection that is closed while bytes of the client are unread is reset, and the answer with it.

    Raises:
        OSError: the client is gone.
    """
    writer.write(response(refusal.status, "text/plain", f"{refusal.public}\n".encode()))
    await writer.drain()
    if not writer.can_write_eof():
        return
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while await reader.read(MAX_HEAD_BYTES):
                pass
