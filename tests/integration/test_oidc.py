"""Tokens of an OpenID provider, against a real issuer over HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from jobsphere.domain.errors import UnauthenticatedError, UnavailableError
from jobsphere.oidc import FETCH_AGAIN_S, KEEP_AT_MOST_S, KEEP_S, OidcProvider, OidcSettings

AUDIENCE = "jobsphere"
FORMS = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}


def new_key(alg: str = "RS256") -> Any:
    if alg == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if alg == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 2048)


KEYS = {alg: new_key(alg) for alg in FORMS}
OTHER = new_key()


@dataclass
class Issuer:
    """An OpenID provider; what it answers can be changed while it runs."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    calls: Counter[str] = field(default_factory=Counter[str])
    about: dict[str, Any] = field(default_factory=dict[str, Any])
    away: bool = False
    gate: asyncio.Event | None = None

    def publish(self, alg: str = "RS256", kid: str = "k1", key: Any = None, **more: Any) -> None:
        public = json.loads(FORMS[alg].to_jwk((key or KEYS[alg]).public_key()))
        self.keys.append({**public, "kid": kid, "alg": alg, "use": "sig", **more})

    def token(self, alg: str = "RS256", kid: str | None = "k1", key: Any = None, **claims: Any) -> str:
        now = int(time.time())
        payload = {"iss": self.url, "aud": AUDIENCE, "sub": "ann-1", "iat": now, "exp": now + 600, **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        return jwt.encode(payload, key or KEYS[alg], alg, headers={"kid": kid} if kid else {})

    async def discovery(self, _: web.Request) -> web.Response:
        return await self._answer("discovery", {"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.about})

    async def jwks(self, _: web.Request) -> web.Response:
        return await self._answer("keys", {"keys": self.keys})

    async def _answer(self, what: str, document: dict[str, Any]) -> web.Response:
        self.calls[what] += 1
        if self.gate is not None:
            await self.gate.wait()
        return web.Response(status=503) if self.away else web.json_response(document)


@pytest.fixture
async def issuer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Issuer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = Issuer()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", found.discovery)
    app.router.add_get("/keys", found.jwks)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    found.publish()
    yield found
    await runner.cleanup()


@dataclass
class Provider:
    seconds: list[float]
    provider: OidcProvider

    async def verify(self, token: str) -> str:
        return (await self.provider.verify(token)).external_id

    async def refused(self, token: str) -> str:
        with pytest.raises(UnauthenticatedError) as caught:
            await self.provider.verify(token)
        assert token not in repr(caught.value.context)
        return caught.value.public

    def pass_by(self, seconds: float) -> None:
        self.seconds[0] += seconds


def a_provider(issuer: Issuer, claim: str = "sub") -> Provider:
    seconds = [0.0]
    return Provider(seconds, OidcProvider(OidcSettings(issuer.url, AUDIENCE, claim), lambda: seconds[0]))


@pytest.mark.parametrize("alg", FORMS)
async def test_a_good_token_says_who_and_until_when(issuer: Issuer, alg: str) -> None:
    issuer.publish(alg, "of-" + alg)
    until = int(time.time()) + 60
    external = await a_provider(issuer).provider.verify(issuer.token(alg, "of-" + alg, exp=until))
    assert (external.external_id, external.expires_at) == ("ann-1", datetime.fromtimestamp(until, UTC))


async def test_a_list_of_audiences_and_no_name_of_the_only_key_are_fine(issuer: Issuer) -> None:
    assert await a_provider(issuer).verify(issuer.token(kid=None, aud=["x", AUDIENCE])) == "ann-1"


async def test_a_token_that_is_not_good_is_refused(issuer: Issuer) -> None:
    provider = a_provider(issuer)
    good = issuer.token()
    head, body, signature = good.split(".")
    other = issuer.token(sub="bob-1").split(".")[1]
    unsigned = jwt.encode({"sub": "ann-1", "iss": issuer.url, "aud": AUDIENCE, "exp": time.time() + 9}, "", "none")
    shared = jwt.encode({"sub": "ann-1", "iss": issuer.url, "aud": AUDIENCE, "exp": time.time() + 9}, "s" * 64, "HS512")
    for token, words in (
        (issuer.token(exp=int(time.time()) - 60), "expired"),
        (issuer.token(exp=None), "forged or broken"),
        (issuer.token(nbf=int(time.time()) + 600), "forged or broken"),
        (issuer.token(aud="another"), "not meant for"),
        (issuer.token(aud=None), "forged or broken"),
        (issuer.token(iss="https://elsewhere.example"), "not of the issuer"),
        (issuer.token(iss=None), "forged or broken"),
        (issuer.token(sub=None), "no claim"),
        (issuer.token(sub=""), "no claim"),
        (issuer.token(key=OTHER), "forged or broken"),
        (f"{head}.{other}.{signature}", "forged or broken"),
        (f"{head}.{body}.", "forged or broken"),
        (unsigned, "not signed by a key"),
        (shared, "not signed by a key"),
        (issuer.token(kid="unknown"), "does not publish"),
        ("eyJ.x.y", "none of an OpenID"),
        ("x", "none of an OpenID"),
    ):
        assert words in await provider.refused(token), token


async def test_a_key_of_another_kind_than_the_token_says_is_refused(issuer: Issuer) -> None:
    issuer.publish("ES256", "k2")
    assert "forged" in await a_provider(issuer).refused(issuer.token("RS256", "k2"))


async def test_an_email_must_be_a_verified_one(issuer: Issuer) -> None:
    provider = a_provider(issuer, "email")
    assert "not verified" in await provider.refused(issuer.token(email="ann@example.org"))
    assert "not verified" in await provider.refused(issuer.token(email="ann@example.org", email_verified="true"))
    assert await provider.verify(issuer.token(email="ann@example.org", email_verified=True)) == "ann@example.org"


async def test_keys_are_fetched_once_however_many_ask(issuer: Issuer) -> None:
    provider = a_provider(issuer)
    issuer.gate = asyncio.Event()
    asking = [asyncio.create_task(provider.verify(issuer.token())) for _ in range(20)]
    while not issuer.calls:  # noqa: ASYNC110 - the issuer has no events
        await asyncio.sleep(0.005)
    issuer.gate.set()
    assert set(await asyncio.gather(*asking)) == {"ann-1"}
    await provider.verify(issuer.token())
    assert issuer.calls == {"discovery": 1, "keys": 1}
    provider.pass_by(KEEP_S)
    await provider.verify(issuer.token())
    assert issuer.calls["keys"] == 2


async def test_a_new_key_is_found_and_one_that_was_withdrawn_ends(issuer: Issuer) -> None:
    provider = a_provider(issuer)
    old = issuer.token()
    assert await provider.verify(old) == "ann-1"
    issuer.keys.clear()
    issuer.publish(kid="k2", key=OTHER)
    provider.pass_by(FETCH_AGAIN_S)
    assert await provider.verify(issuer.token(kid="k2", key=OTHER)) == "ann-1"
    assert "does not publish" in await provider.refused(old)


async def test_unknown_keys_cannot_make_it_fetch_without_end(issuer: Issuer) -> None:
    provider = a_provider(issuer)
    await provider.verify(issuer.token())
    for number in range(50):
        await provider.refused(issuer.token(kid=f"made-up-{number}"))
    assert issuer.calls["keys"] == 1
    provider.pass_by(FETCH_AGAIN_S)
    for number in range(50):
        await provider.refused(issuer.token(kid=f"made-up-{number}"))
    assert issuer.calls["keys"] == 2


async def test_a_provider_that_is_away_is_no_matter_for_a_day(issuer: Issuer) -> None:
    provider = a_provider(issuer)
    token = issuer.token()
    await provider.verify(token)
    issuer.away = True
    provider.pass_by(KEEP_S)
    assert await provider.verify(token) == "ann-1"
    provider.pass_by(KEEP_AT_MOST_S)
    with pytest.raises(UnavailableError, match="cannot be fetched"):
        await provider.provider.verify(token)
    issuer.away = False
    provider.pass_by(FETCH_AGAIN_S)
    assert await provider.verify(token) == "ann-1"


@pytest.mark.parametrize(
    ("about", "cause"),
    [
        ({"issuer": "https://elsewhere.example"}, "calls itself"),
        ({"jwks_uri": "http://elsewhere.example/keys"}, "no https"),
        ({"jwks_uri": None}, "no https"),
    ],
)
async def test_a_provider_that_says_strange_things_is_not_believed(
    issuer: Issuer, about: dict[str, Any], cause: str
) -> None:
    issuer.about = about
    with pytest.raises(UnavailableError) as caught:
        await a_provider(issuer).provider.verify(issuer.token())
    assert cause in str(caught.value.context["cause"])


async def test_keys_that_cannot_be_used_are_passed_over(issuer: Issuer) -> None:
    issuer.keys += [{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}, {"kty": "RSA", "kid": "broken"}, {"kty": "?"}]
    issuer.publish(kid="enc", use="enc")
    provider = a_provider(issuer)
    assert await provider.verify(issuer.token()) == "ann-1"
    assert "does not publish" in await provider.refused(issuer.token(kid="enc"))
    issuer.keys = [{"kty": "oct", "kid": "s", "k": "c2VjcmV0"}]
    with pytest.raises(UnavailableError):
        await a_provider(issuer).provider.verify(issuer.token())
