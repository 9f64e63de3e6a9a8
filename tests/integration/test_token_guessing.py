"""Who guesses tokens is slowed down and told so; who has one is not, wherever they sit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from rpc_rows import PROJECT, Rpcs, rpcs
from tests.unit.test_identity import BOSS, Gate, a_gate

from jobsphere.domain.errors import ResourceExhaustedError, UnauthenticatedError
from jobsphere.service.guesses import AT_ONCE, Guesses, comes_from
from jobsphere.service.identity import MAX_TOKEN_CHARS

LIST, EXCHANGE = "ProjectJobService/List", "IamTokenService/Create"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Rpcs]:
    async with rpcs(tmp_path) as running:
        yield running


async def list_jobs(server: Rpcs, token: str) -> tuple[str, str]:
    return (await server.call(LIST, server.message(LIST, project_id=PROJECT), token))[:2]


async def exchange(server: Rpcs, token: str) -> tuple[str, str, str]:
    request = server.message(EXCHANGE, yandex_passport_oauth_token=token)
    code, words, answer = await server.call(EXCHANGE, request, "")
    return code, words, answer.iam_token if answer else ""


@pytest.mark.parametrize("way", ["call", "exchange"])
async def test_a_guesser_is_stopped_and_nobody_else(server: Rpcs, way: str) -> None:
    member, unseen = (
        next(c.token for c in server.callers if c.member and c.role.endswith(f"projects.{role}"))
        for role in ("viewer", "admin")
    )
    assert (await list_jobs(server, member))[0] == "OK"
    _, _, short = await exchange(server, member)

    async def guess(number: int) -> str:
        wrong = f"jsp_{number:040}"
        return (await (list_jobs if way == "call" else exchange)(server, wrong))[0]

    codes = [await guess(number) for number in range(AT_ONCE)]
    codes_at_once = await asyncio.gather(*(guess(number) for number in range(100, 150)))

    assert set(codes) == {"UNAUTHENTICATED"}
    assert codes_at_once.count("UNAUTHENTICATED") <= 2
    assert codes_at_once.count("RESOURCE_EXHAUSTED") >= 48
    code, words = await list_jobs(server, unseen)
    assert code == "RESOURCE_EXHAUSTED"
    assert "try again in" in words
    for honest in (member, short, server.operator):
        assert (await list_jobs(server, honest))[0] == "OK"
    assert (await list_jobs(server, ""))[0] == "UNAUTHENTICATED"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def wrong(guesses: Guesses, origin: str) -> None:
    comes_from(lambda: origin)
    with pytest.raises(UnauthenticatedError), guesses.one():
        raise UnauthenticatedError("wrong")


def refused(guesses: Guesses, origin: str) -> bool:
    comes_from(lambda: origin)
    try:
        with guesses.one():
            return False
    except ResourceExhaustedError:
        return True


def test_addresses_are_counted_apart_and_forgiven_with_time() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    for port in range(AT_ONCE):
        wrong(guesses, f"10.0.0.1:{port}")
    assert refused(guesses, "10.0.0.1:9")
    assert not refused(guesses, "10.0.0.2:9")
    clock.seconds += 1
    assert not refused(guesses, "10.0.0.1:9")
    wrong(guesses, "10.0.0.1:9")
    assert refused(guesses, "10.0.0.1:9")


def test_an_ipv6_network_counts_as_one() -> None:
    guesses = Guesses(Clock())
    for number in range(AT_ONCE):
        wrong(guesses, f"[2001:db8::{number:x}]:1")
    assert refused(guesses, "[2001:db8::ffff:1]:1")
    assert not refused(guesses, "[2001:db8:0:1::1]:1")


def test_what_is_right_costs_nothing_and_many_addresses_little() -> None:
    guesses = Guesses(Clock())
    assert not any(refused(guesses, "10.0.0.1:1") for _ in range(10 * AT_ONCE))
    for number in range(20_000):
        wrong(guesses, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}:1")
    assert len(guesses._spent) <= 10_000


async def test_tokens_that_nobody_checks_take_no_memory() -> None:
    gate: Gate = a_gate(required=False)
    for number in range(1000):
        await gate.who(f"{number:08000}")
    assert not gate.identity._known
    await gate.refused("x" * (MAX_TOKEN_CHARS + 1))


async def test_a_token_that_is_revoked_counts_as_wrong_from_then_on() -> None:
    gate = a_gate()
    text, _, id_ = await gate.long_token()
    comes_from(lambda: "10.0.0.1:1")
    await gate.who(text)
    await gate.accounts.revoke_token(BOSS, id_)
    gate.pass_by(2)
    for _ in range(AT_ONCE + 1):  # the first look is at one that was right before
        await gate.refused(text)
    with pytest.raises(ResourceExhaustedError):
        await gate.who(text)
