"""Who is calling: from a token to a subject."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from jobsphere.domain.access_ports import AccountStore, ExternalIdentity, IdentityProvider
from jobsphere.domain.accounts import Account, Holder
from jobsphere.domain.errors import NotFoundError, UnauthenticatedError
from jobsphere.domain.ports import Clock
from jobsphere.domain.resource import Subject
from jobsphere.service import trail
from jobsphere.service.guesses import Guesses
from jobsphere.service.tokens import LONG, OPERATORS, SHORT, ShortToken, Tokens, hash_of

IAM_TOKEN_LIFE = timedelta(hours=12)
LOOK_AGAIN_S = 1.0
"""How long what was looked up counts: so long a token that another process revoked may still be taken."""
MAX_TOKEN_CHARS = 16 * 1024
_REMEMBERED = 10_000
_FOR_EVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Known:
    subject: Subject
    expires_at: datetime
    look_again_at: float


class Identity:
    """Turns an ``authorization`` header into a subject.

    Args:
        tokens: Checks tokens.
        required: Whether a call without a valid token is refused. False only on a server that listens on loopback.
        local_user: Who everybody is then, unless they show a token of an account: the operator.
        accounts: Where accounts and the hashes of their tokens are.
        clock: Decides what has expired.
        provider: Verifies tokens of an OpenID provider; None if none is configured.
    """

    def __init__(
        self,
        tokens: Tokens,
        required: bool,
        local_user: str,
        accounts: AccountStore,
        clock: Clock,
        provider: IdentityProvider | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens
        self._required = required
        self._local = operator(local_user)
        self._accounts = accounts
        self._clock = clock
        self._provider = provider
        self._monotonic = monotonic
        self._guesses = Guesses(monotonic)
        self._known: dict[str, _Known] = {}

    async def authenticate(self, authorization: str | None) -> Subject:
        """The caller.

        Raises:
            UnauthenticatedError: tokens are required and this is not a valid one, or it is one of an account and no
                longer good.
            ResourceExhaustedError: too many wrong tokens came from where this call comes from.
            UnavailableError: the OpenID provider's keys cannot be fetched now.
        """
        token = (authorization or "").removeprefix("Bearer ").strip()
        if not token and not self._required:
            return self._local
        known = self._known.get(token)
        if known is None or self._monotonic() >= known.look_again_at or self._clock.now() >= known.expires_at:
            return await self._look_up(token)
        return known.subject

    async def issue(self, identity: str, kind: str) -> tuple[str, datetime]:
        """Turn a long-lived token (``kind`` ``oauth`` or ``jwt``, by which name the client sent it) into a short one.

        Returns:
            The token and when it expires: with the long-lived one at the latest.

        Raises:
            UnauthenticatedError: tokens are required and ``identity`` is not a valid one.
            ResourceExhaustedError: as for :meth:`authenticate`.
        """
        try:
            with self._may_be_a_guess(identity):
                subject, short = await self._exchange(identity)
        except UnauthenticatedError as e:
            raise UnauthenticatedError(f"the {kind} token is not good here: {e.public}") from e
        trail.by(subject)
        if short is None:
            return self._tokens.issue(subject.id, IAM_TOKEN_LIFE)
        return self._tokens.shorten(short), short.expires_at

    async def _exchange(self, identity: str) -> tuple[Subject, ShortToken | None]:
        latest = self._clock.now() + IAM_TOKEN_LIFE
        if identity.startswith(f"{SHORT}."):
            raise UnauthenticatedError("it is a short-lived token already; send the long-lived one")
        if identity.startswith(LONG):
            account, expires_at, credential_id = await self._long(identity)
            return subject_of(account), ShortToken(min(latest, expires_at), credential_id=credential_id)
        if self._provider is not None and _looks_like_jwt(identity):
            account, external = await self._external(self._provider, identity)
            return subject_of(account), ShortToken(min(latest, external.expires_at), account_id=account.id)
        return (await self._subject(identity))[0], None

    async def _look_up(self, token: str) -> Subject:
        try:
            with self._may_be_a_guess(token):
                subject, expires_at = await self._subject(token)
        except UnauthenticatedError:
            self._known.pop(token, None)
            raise
        if expires_at != _FOR_EVER:  # what is nobody's token needs no looking up, and there is no end of them
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[token] = _Known(subject, expires_at, self._monotonic() + LOOK_AGAIN_S)
        return subject

    def _may_be_a_guess(self, token: str) -> AbstractContextManager[None]:
        """A token that was right before is none, and one with our signature cannot be."""
        if len(token) > MAX_TOKEN_CHARS:
            raise UnauthenticatedError(f"no token is longer than {MAX_TOKEN_CHARS} characters")
        trusted = not token or token in self._known or self._tokens.genuine(token)
        return nullcontext() if trusted else self._guesses.one()

    async def _subject(self, token: str) -> tuple[Subject, datetime]:
        if token.startswith(f"{SHORT}."):
            return await self._short(token)
        if token.startswith(LONG):
            account, expires_at, _ = await self._long(token)
            return subject_of(account), expires_at
        if self._provider is not None and _looks_like_jwt(token):
            account, external = await self._external(self._provider, token)
            return subject_of(account), external.expires_at
        found = self._tokens.operator(token) if token.startswith(f"{OPERATORS}.") else None
        if found is not None:
            return operator(found[0]), found[1]
        if self._required:
            raise UnauthenticatedError(
                "no valid token: it is missing, wrong or expired; get a fresh one with `jobsphere client-env`"
            )
        return self._local, _FOR_EVER

    async def _short(self, token: str) -> tuple[Subject, datetime]:
        short = self._tokens.short(token)
        if short is None:
            raise UnauthenticatedError("the short-lived token is wrong or has expired; get a new one")
        if short.account_id:
            try:
                account = await self._accounts.get_account(short.account_id)
            except NotFoundError:
                raise UnauthenticatedError("the account of this token was removed") from None
            return subject_of(account), short.expires_at
        account, expires_at, _ = self._held(await self._accounts.holder_of(short.credential_id))
        return subject_of(account), min(expires_at, short.expires_at)

    async def _long(self, token: str) -> tuple[Account, datetime, str]:
        return self._held(await self._accounts.holder(hash_of(token)))

    def _held(self, holder: Holder | None) -> tuple[Account, datetime, str]:
        if holder is None:
            raise UnauthenticatedError("the token is wrong or was revoked")
        credential = holder.credential
        if credential.expires_at <= self._clock.now():
            raise UnauthenticatedError(f"the token {credential.name!r} has expired; ask the operator for a new one")
        return holder.account, credential.expires_at, credential.id

    async def _external(self, provider: IdentityProvider, token: str) -> tuple[Account, ExternalIdentity]:
        external = await provider.verify(token)
        account = await self._accounts.account_of(external.external_id)
        if account is None:
            raise UnauthenticatedError(
                f"the token is good, but {external.external_id!r} is no user here; the operator adds one by "
                f"`jobsphere user add NAME --external-id {external.external_id}`"
            )
        return account, external


def operator(name: str) -> Subject:
    """Who may do everything: whoever has the key of the data directory, or reaches a server that asks for no tokens."""
    return Subject(name, name, operator=True)


def subject_of(account: Account) -> Subject:
    """The account as a caller."""
    return Subject(account.id, account.name)


def _looks_like_jwt(token: str) -> bool:
    return token.startswith("eyJ") and token.count(".") == 2
