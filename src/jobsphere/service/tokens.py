"""Tokens, as text: who may have made them, and whom they speak for. Nothing here is stored.

- ``js1.<kind>.<expiry>.<name>.<signature>``: the operator's. Any process with the data directory's key can issue one
  while the server runs (``jobsphere client-env``), and none can be taken back before it expires.
- ``js2.<expiry>.<holder>.<signature>``: short-lived, for an account. It names the long-lived token, or the account,
  that it stands for: it ends with that.
- ``jsp_<random>``: long-lived, for an account. Only its hash is known to the server.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobsphere.domain.ports import Clock, Ids

OPERATORS = "js1"
SHORT = "js2"
LONG = "jsp_"


@dataclass(frozen=True, slots=True)
class ShortToken:
    """What a short-lived token says: exactly one of the two ids, and when it ends."""

    expires_at: datetime
    credential_id: str = ""
    account_id: str = ""


class Tokens:
    """Issues and checks tokens. ``key``: 32 secret bytes."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = hmac.new(key, b"tokens", hashlib.sha256).digest()
        self._clock = clock

    def issue(self, subject: str, life: timedelta, kind: str = "iam") -> tuple[str, datetime]:
        """A token of the operator, by the name of ``subject``, that is good for ``life``, and when it ends."""
        expires = self._clock.now() + life
        name = base64.urlsafe_b64encode(subject.encode()).decode().rstrip("=")
        return self._signed(f"{OPERATORS}.{kind}.{int(expires.timestamp())}.{name}"), expires

    def operator(self, token: str) -> tuple[str, datetime] | None:
        """The name in a token of the operator and when it ends; None if it is forged, expired or none of ours."""
        body = self._body(token, OPERATORS)
        if body is None:
            return None
        _, _, expiry, name = body.split(".")
        expires = datetime.fromtimestamp(int(expiry), UTC)
        if expires <= self._clock.now():
            return None
        return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode(), expires

    def shorten(self, short: ShortToken) -> str:
        """The text of a short-lived token."""
        holder = f"t-{short.credential_id}" if short.credential_id else f"a-{short.account_id}"
        return self._signed(f"{SHORT}.{int(short.expires_at.timestamp())}.{holder}")

    def short(self, token: str) -> ShortToken | None:
        """What a short-lived token says; None if it is forged, expired or none of ours."""
        body = self._body(token, SHORT)
        if body is None:
            return None
        _, expiry, holder = body.split(".")
        expires = datetime.fromtimestamp(int(expiry), UTC)
        if expires <= self._clock.now():
            return None
        kind, _, id_ = holder.partition("-")
        return ShortToken(expires, credential_id=id_) if kind == "t" else ShortToken(expires, account_id=id_)

    def genuine(self, token: str) -> bool:
        """Whether the token was issued here; it may have expired since."""
        return self._body(token, OPERATORS) is not None or self._body(token, SHORT) is not None

    def _signed(self, body: str) -> str:
        return f"{body}.{self._signature(body)}"

    def _body(self, token: str, prefix: str) -> str | None:
        if not token.isascii():
            return None
        body, _, signature = token.rpartition(".")
        genuine = hmac.compare_digest(signature.encode(), self._signature(body).encode())
        return body if genuine and body.startswith(f"{prefix}.") else None

    def _signature(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()


def new_long_token(ids: Ids) -> str:
    """The text of a new long-lived token: more than 200 random bits."""
    return f"{LONG}{ids.new()}{ids.new()}"


def hash_of(token: str) -> str:
    """What is stored of a long-lived token, and looked for. A guess says nothing of how near it came.

    The token has so many random bits that a slow hash would add nothing.
    """
    return hashlib.sha256(token.encode()).hexdigest()
