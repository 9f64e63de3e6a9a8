"""Who is calling, and what they may do: tokens signed with the server's own key.

A token is ``js1.<kind>.<expiry>.<subject>.<signature>``; nothing about it needs to be stored, so that any process with
the data directory's key (the operator, by ``jobsphere client-env``) can issue one while the server runs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from jobsphere.domain.errors import UnauthenticatedError
from jobsphere.domain.ports import Clock, JobStore
from jobsphere.domain.resource import Project, Subject

_PREFIX = "js1"
IAM_TOKEN_LIFE = timedelta(hours=12)


class Tokens:
    """Issues and checks tokens. ``key``: 32 secret bytes."""

    def __init__(self, key: bytes, clock: Clock) -> None:
        self._key = hmac.new(key, b"tokens", hashlib.sha256).digest()
        self._clock = clock

    def issue(self, subject: str, life: timedelta, kind: str = "iam") -> tuple[str, datetime]:
        """A token for ``subject`` that is good for ``life``, and when it ends."""
        expires = self._clock.now() + life
        name = base64.urlsafe_b64encode(subject.encode()).decode().rstrip("=")
        body = f"{_PREFIX}.{kind}.{int(expires.timestamp())}.{name}"
        return f"{body}.{self._signature(body)}", expires

    def subject(self, token: str) -> str | None:
        """Whom a token speaks for; None if it is forged, expired or none of ours."""
        if not token.isascii():
            return None
        body, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            return None
        _, _, expires, name = body.split(".")
        if datetime.fromtimestamp(int(expires), UTC) <= self._clock.now():
            return None
        return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()

    def _signature(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()


class Access:
    """Turns an ``authorization`` header into a subject, and guards projects.

    Args:
        tokens: Checks tokens.
        required: Whether a call without a valid token is refused. False only on a server that listens on loopback.
        local_user: Who everybody is then, unless they hold a valid token.
        store: Where projects are.
    """

    def __init__(self, tokens: Tokens, required: bool, local_user: str, store: JobStore) -> None:
        self._tokens = tokens
        self._required = required
        self._local = Subject(local_user)
        self._store = store

    def authenticate(self, authorization: str | None) -> Subject:
        """The caller.

        Raises:
            UnauthenticatedError: tokens are required and this is not a valid one.
        """
        token = (authorization or "").removeprefix("Bearer ").strip()
        name = self._tokens.subject(token) if token.startswith(_PREFIX) else None
        if name is not None:
            return Subject(name)
        if self._required:
            raise UnauthenticatedError(
                "no valid token: it is missing, wrong or expired; get a fresh one with `jobsphere client-env`"
            )
        return self._local

    def issue(self, identity: str, kind: str) -> tuple[str, datetime]:
        """Turn a long-lived token (``kind`` ``oauth`` or ``jwt``, by which name the client sent it) into a short one.

        Returns:
            The token and when it expires.

        Raises:
            UnauthenticatedError: tokens are required and ``identity`` is not a valid one.
        """
        try:
            subject = self.authenticate(f"Bearer {identity}")
        except UnauthenticatedError as e:
            raise UnauthenticatedError(f"the {kind} token is not one that this server gave, or it has expired") from e
        return self._tokens.issue(subject.id, IAM_TOKEN_LIFE)

    async def project(self, who: Subject, project_id: str) -> Project:  # noqa: ARG002
        """The project, if ``who`` may see it.

        Raises:
            NotFoundError: there is none, or it is not theirs to see.
        """
        return await self._store.get_project(project_id)
