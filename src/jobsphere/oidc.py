"""Tokens of an OpenID provider: verified against the keys that it publishes, fetched over HTTP and kept a while."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import jwt
import structlog

from jobsphere.config import is_safe_url
from jobsphere.domain.access_ports import ExternalIdentity
from jobsphere.domain.errors import UnauthenticatedError, UnavailableError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Only those whose keys can be published: a token signed by a shared secret, or not at all, is none."""
KEEP_S = 600.0
"""How long keys are used before they are fetched anew."""
KEEP_AT_MOST_S = 86_400.0
"""How long they are used when they cannot be fetched anew."""
FETCH_AGAIN_S = 10.0
"""How often an unknown key, or a provider that does not answer, may make for a fetch."""
_TIMEOUT = aiohttp.ClientTimeout(total=5)
_MAX_BYTES = 1 << 20
_LEEWAY_S = 30
_log = structlog.get_logger("jobsphere.oidc")


@dataclass(frozen=True, slots=True)
class OidcSettings:
    """The provider: its ``issuer`` URL, for whom tokens must be meant, and the claim that names a user."""

    issuer: str
    audience: str
    subject_claim: str = "sub"


class _FetchError(Exception):
    """The provider did not give what it should; the text says what."""


@dataclass(frozen=True, slots=True)
class _Keys:
    by_id: Mapping[str, jwt.PyJWK]
    fetched_at: float


class OidcProvider:
    """The :class:`jobsphere.domain.access_ports.IdentityProvider` of one issuer, found by OpenID Connect Discovery.

    Nothing is fetched before the first token comes. A provider that is away is no matter as long as its keys are known.
    """

    def __init__(self, settings: OidcSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._keys: _Keys | None = None
        self._tried_at = -FETCH_AGAIN_S
        self._trouble = ""
        self._fetching = asyncio.Lock()

    async def verify(self, token: str) -> ExternalIdentity:
        """Whom the token speaks for; see the port."""
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise UnauthenticatedError("the token is none of an OpenID provider") from None
        if header.get("alg") not in ALGORITHMS:
            raise UnauthenticatedError("the token is not signed by a key that its provider publishes")
        key = await self._key(str(header.get("kid", "")))
        if key is None:
            raise UnauthenticatedError("the token is signed by a key that its provider does not publish")
        return self._identity(self._claims(token, key))

    def _claims(self, token: str, key: jwt.PyJWK) -> Mapping[str, Any]:
        try:
            return jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise UnauthenticatedError("the token has expired; log in with the provider again") from None
        except jwt.InvalidAudienceError:
            raise UnauthenticatedError(f"the token is not meant for {self._settings.audience!r}") from None
        except jwt.InvalidIssuerError:
            raise UnauthenticatedError(f"the token is not of the issuer {self._settings.issuer}") from None
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise UnauthenticatedError("the token is forged or broken", cause=type(error).__name__) from None

    def _identity(self, claims: Mapping[str, Any]) -> ExternalIdentity:
        claim = self._settings.subject_claim
        name = claims.get(claim)
        if not isinstance(name, str) or not name:
            raise UnauthenticatedError(f"the token has no claim {claim!r}, by which users are known here")
        if claim == "email" and claims.get("email_verified") is not True:
            raise UnauthenticatedError("the token's e-mail address is not verified by the provider")
        return ExternalIdentity(name, datetime.fromtimestamp(int(claims["exp"]), UTC))

    async def _key(self, key_id: str) -> jwt.PyJWK | None:
        keys = await self._current(key_id)
        if key_id:
            return keys.by_id.get(key_id)
        # A provider with one key need not name it.
        return next(iter(keys.by_id.values())) if len(keys.by_id) == 1 else None

    async def _current(self, key_id: str) -> _Keys:
        """Keys that are fresh enough and, if that can be, have this one among them."""
        if self._fresh(key_id) is None:
            async with self._fetching:
                # Another may have fetched them meanwhile.
                if self._fresh(key_id) is None and self._monotonic() - self._tried_at >= FETCH_AGAIN_S:
                    await self._renew()
        keys = self._keys
        if keys is None or self._monotonic() - keys.fetched_at >= KEEP_AT_MOST_S:
            raise UnavailableError(
                "the OpenID provider's keys cannot be fetched now; try again in a moment", cause=self._trouble
            )
        return keys

    def _fresh(self, key_id: str) -> _Keys | None:
        keys = self._keys
        if keys is None or self._monotonic() - keys.fetched_at >= KEEP_S:
            return None
        return keys if not key_id or key_id in keys.by_id else None

    async def _renew(self) -> None:
        self._tried_at = self._monotonic()
        try:
            self._keys = _Keys(await self._fetch(), self._monotonic())
        except (_FetchError, aiohttp.ClientError, TimeoutError) as error:
            self._trouble = str(error) or type(error).__name__
            _log.warning("keys not fetched", issuer=self._settings.issuer, cause=self._trouble)

    async def _fetch(self) -> Mapping[str, jwt.PyJWK]:
        issuer = self._settings.issuer
        async with aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True) as session:
            about = await _get(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
            if about.get("issuer") != issuer:
                raise _FetchError(f"the provider calls itself {about.get('issuer')!r}, not {issuer!r}")
            keys_url = about.get("jwks_uri")
            if not isinstance(keys_url, str) or not is_safe_url(keys_url):
                raise _FetchError(f"its jwks_uri {keys_url!r} is no https:// URL")
            return _read_keys(await _get(session, keys_url))


async def _get(session: aiohttp.ClientSession, url: str) -> Mapping[str, Any]:
    # A redirect could lead from TLS to where there is none.
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise _FetchError(f"{url} answers {response.status}")
        body = await response.content.read(_MAX_BYTES)
        while len(body) < _MAX_BYTES and (more := await response.content.read(_MAX_BYTES - len(body))):
            body += more
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _FetchError(f"{url} is no JSON object, or one of more than {_MAX_BYTES} bytes")
    return document


def _read_keys(document: Mapping[str, Any]) -> Mapping[str, jwt.PyJWK]:
    """The keys for signatures that can be used; others are passed over."""
    keys: dict[str, jwt.PyJWK] = {}
    listed = document.get("keys")
    for entry in listed if isinstance(listed, list) else []:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue
        try:
            keys[str(entry.get("kid", ""))] = jwt.PyJWK.from_dict(entry)
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
    if not keys:
        raise _FetchError("the provider publishes no key that can be used")
    return keys
