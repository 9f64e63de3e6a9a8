"""Tokens: whom they speak for, and when they end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.world import NOW, CountedIds, StandingClock

from jobsphere.domain.access_ports import ExternalIdentity
from jobsphere.domain.accounts import AccountKind
from jobsphere.domain.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from jobsphere.domain.resource import Subject
from jobsphere.service.accounts import Accounts
from jobsphere.service.identity import IAM_TOKEN_LIFE, LOOK_AGAIN_S, Identity, operator
from jobsphere.service.tokens import Tokens, hash_of
from jobsphere.store.failing_access import Failing
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.memory_access import MemoryAccounts

BOSS = operator("boss")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
JWT = "eyJhbGciOi.eyJzdWIi.c2ln"


class OneProvider:
    """Knows one token."""

    async def verify(self, token: str) -> ExternalIdentity:
        if token != JWT:
            raise UnauthenticatedError("forged")
        return ExternalIdentity("sub-1", NOW + HOUR)


@dataclass
class Gate:
    """Everything around the identity."""

    clock: StandingClock
    tokens: Tokens
    faults: Failing[MemoryAccounts]
    accounts: Accounts
    identity: Identity
    seconds: list[float]

    async def long_token(self, name: str = "ann", life: timedelta = DAY) -> tuple[str, Subject, str]:
        """An account with a token: its text, the account as a subject, the token's id."""
        account = await self.accounts.add(BOSS, name, AccountKind.USER)
        credential, text = await self.accounts.create_token(BOSS, name, "laptop", life)
        return text, Subject(account.id, name), credential.id

    async def who(self, token: str) -> Subject:
        return await self.identity.authenticate(f"Bearer {token}")

    async def refused(self, token: str) -> str:
        with pytest.raises(UnauthenticatedError) as caught:
            await self.who(token)
        return caught.value.public

    def pass_by(self, seconds: float) -> None:
        self.seconds[0] += seconds
        self.clock.pass_by(seconds)


def a_gate(*, required: bool = True, provider: OneProvider | None = None) -> Gate:
    clock, seconds = StandingClock(), [0.0]
    faults = Failing(MemoryAccounts(MemoryJobStore()))
    tokens = Tokens(b"k" * 32, clock)
    identity = Identity(tokens, required, "local", faults.store, clock, provider, lambda: seconds[0])
    return Gate(clock, tokens, faults, Accounts(faults.store, clock, CountedIds()), identity, seconds)


# The operator.


@pytest.mark.parametrize("name", ["ann", "Änne Müller", "a.b.c", ""])
async def test_a_token_made_with_the_key_is_the_operators(name: str) -> None:
    gate = a_gate()
    assert await gate.who(gate.tokens.issue(name, HOUR)[0]) == operator(name)


async def test_it_ends_when_it_says_so() -> None:
    gate = a_gate()
    token, expires = gate.tokens.issue("ann", HOUR)
    assert await gate.who(token) == operator("ann")
    gate.clock.time = expires
    await gate.refused(token)


async def test_a_token_of_another_key_or_with_another_word_is_refused() -> None:
    gate = a_gate()
    token, _ = gate.tokens.issue("ann", HOUR)
    other, _ = Tokens(b"o" * 32, StandingClock()).issue("ann", HOUR)
    head, signature = token.rsplit(".", 1)
    for forged in (other, f"{head}x.{signature}", head, token[:-1], token.replace("js1.iam", "js1.root")):
        await gate.refused(forged)


@given(st.text(max_size=200))
@example("js1")
@example("js1....")
@example("js1.a.b.c.d")
@example("js2.")
@example("js2.1.t-x.0")
@example("jsp_")
@example("js1.iam.1.\ud800.x".encode("utf-8", "replace").decode())
async def test_any_other_words_are_refused_and_never_break(text: str) -> None:
    with pytest.raises(UnauthenticatedError):
        await a_gate().identity.authenticate(text)


async def test_without_tokens_everybody_is_the_operator() -> None:
    gate = a_gate(required=False)
    assert await gate.identity.authenticate(None) == operator("local")
    assert await gate.who("whatever") == operator("local")
    assert await gate.who("js1.iam.1.\ud800.x") == operator("local")
    assert await gate.who(gate.tokens.issue("ann", HOUR)[0]) == operator("ann")


async def test_an_operators_long_token_is_turned_into_a_short_one() -> None:
    gate = a_gate()
    short, expires = await gate.identity.issue(gate.tokens.issue("ann", timedelta(days=365))[0], "oauth")
    assert await gate.who(short) == operator("ann")
    assert expires - NOW == IAM_TOKEN_LIFE
    with pytest.raises(UnauthenticatedError, match="oauth"):
        await gate.identity.issue("not one of ours", "oauth")


# Accounts.


async def test_a_long_token_speaks_for_its_account_and_for_no_operator() -> None:
    gate = a_gate()
    token, ann, _ = await gate.long_token()
    assert await gate.who(token) == ann
    assert not ann.operator
    await gate.refused(token[:-1])


async def test_only_the_hash_of_a_token_is_kept() -> None:
    gate = a_gate()
    token, _, _ = await gate.long_token()
    assert len(token) >= 40
    assert token not in repr(vars(gate.faults._inner))
    assert await gate.faults.store.holder(hash_of(token)) is not None


async def test_a_long_token_ends() -> None:
    gate = a_gate()
    token, ann, _ = await gate.long_token(life=HOUR)
    assert await gate.who(token) == ann
    gate.clock.time += HOUR
    assert "has expired" in await gate.refused(token)


async def test_a_token_of_an_account_is_never_taken_for_the_operator_where_none_is_asked_for() -> None:
    gate = a_gate(required=False)
    token, ann, credential_id = await gate.long_token()
    short, _ = await gate.identity.issue(token, "oauth")
    assert await gate.who(token) == ann
    await gate.accounts.revoke_token(BOSS, credential_id)
    gate.pass_by(LOOK_AGAIN_S)
    await gate.refused(token)
    await gate.refused(short)
    await gate.refused(short[:-1])


async def test_a_revoked_token_and_the_short_ones_of_it_end_within_a_second() -> None:
    gate = a_gate()
    token, ann, credential_id = await gate.long_token()
    short, _ = await gate.identity.issue(token, "oauth")
    assert [await gate.who(t) for t in (token, short)] == [ann, ann]
    await gate.accounts.revoke_token(BOSS, credential_id)
    gate.pass_by(LOOK_AGAIN_S)
    assert "revoked" in await gate.refused(token)
    assert "revoked" in await gate.refused(short)
    with pytest.raises(NotFoundError):
        await gate.accounts.revoke_token(BOSS, credential_id)


async def test_a_token_is_looked_up_once_a_second() -> None:
    gate = a_gate()
    token, _, _ = await gate.long_token()
    for _ in range(10):
        await gate.who(token)
    assert gate.faults.calls["holder"] == 1
    gate.pass_by(LOOK_AGAIN_S)
    await gate.who(token)
    assert gate.faults.calls["holder"] == 2


async def test_with_an_account_go_its_tokens() -> None:
    gate = a_gate()
    token, _, _ = await gate.long_token()
    short, _ = await gate.identity.issue(token, "oauth")
    await gate.accounts.remove(BOSS, "ann")
    await gate.refused(token)
    await gate.refused(short)


async def test_a_short_token_ends_with_its_long_one_and_makes_no_other() -> None:
    gate = a_gate()
    token, _, _ = await gate.long_token(life=HOUR)
    short, expires = await gate.identity.issue(token, "oauth")
    assert expires == NOW + HOUR
    with pytest.raises(UnauthenticatedError, match="short-lived token already"):
        await gate.identity.issue(short, "oauth")
    gate.clock.time = expires
    await gate.refused(short)


# An OpenID provider.


async def test_a_providers_token_speaks_for_the_account_of_its_subject() -> None:
    gate = a_gate(provider=OneProvider())
    assert "jobsphere user add" in await gate.refused(JWT)
    account = await gate.accounts.add(BOSS, "ann", AccountKind.USER, "sub-1")
    assert await gate.who(JWT) == Subject(account.id, "ann")
    short, expires = await gate.identity.issue(JWT, "jwt")
    assert expires == NOW + HOUR
    assert await gate.who(short) == Subject(account.id, "ann")
    await gate.accounts.remove(BOSS, account.id)
    gate.pass_by(LOOK_AGAIN_S)
    await gate.refused(short)
    await gate.refused(JWT)


async def test_a_providers_token_is_checked_also_where_none_is_asked_for() -> None:
    gate = a_gate(required=False, provider=OneProvider())
    assert await gate.refused(JWT + "x") == "forged"
    assert await a_gate(required=False).who(JWT) == operator("local")


# What the operator does.


async def test_accounts_are_the_operators_to_make() -> None:
    gate = a_gate()
    _, ann, credential_id = await gate.long_token()
    for call in (
        gate.accounts.add(ann, "bob", AccountKind.USER),
        gate.accounts.all(ann),
        gate.accounts.remove(ann, "ann"),
        gate.accounts.create_token(ann, "ann", "x", HOUR),
        gate.accounts.tokens(ann),
        gate.accounts.revoke_token(ann, credential_id),
    ):
        with pytest.raises(PermissionDeniedError, match="only the operator"):
            await call


async def test_accounts_and_tokens_have_names() -> None:
    gate = a_gate()
    await gate.long_token()
    for bad in ("", "-x", "sp ace", "x" * 64, "new\nline"):
        with pytest.raises(InvalidArgumentError, match="name"):
            await gate.accounts.add(BOSS, bad, AccountKind.USER)
        with pytest.raises(InvalidArgumentError, match="name"):
            await gate.accounts.create_token(BOSS, "ann", bad, HOUR)
    with pytest.raises(InvalidArgumentError, match="the operator's own"):
        await gate.accounts.add(BOSS, BOSS.id, AccountKind.USER)
    with pytest.raises(InvalidArgumentError, match="external id"):
        await gate.accounts.add(BOSS, "bob", AccountKind.USER, "x" * 256)
    for life in (timedelta(), timedelta(days=100_000)):
        with pytest.raises(InvalidArgumentError, match="days"):
            await gate.accounts.create_token(BOSS, "ann", "other", life)
    with pytest.raises(AlreadyExistsError, match="laptop"):
        await gate.accounts.create_token(BOSS, "ann", "laptop", HOUR)
    with pytest.raises(NotFoundError, match="jobsphere user list"):
        await gate.accounts.create_token(BOSS, "bob", "laptop", HOUR)
    ((credential, account),) = await gate.accounts.tokens(BOSS, "ann")
    assert (credential.name, account.name) == ("laptop", "ann")
