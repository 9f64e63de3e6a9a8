"""Tokens, subjects and projects."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.world import WHO, StandingClock, World

from jobsphere.domain.errors import AlreadyExistsError, InvalidArgumentError, UnauthenticatedError
from jobsphere.domain.resource import Subject
from jobsphere.service.access import Access, Tokens
from jobsphere.store.memory import MemoryJobStore

HOUR = timedelta(hours=1)


def access(*, required: bool = True, clock: StandingClock | None = None) -> tuple[Access, Tokens]:
    tokens = Tokens(b"k" * 32, clock or StandingClock())
    return Access(tokens, required, "local", MemoryJobStore()), tokens


@pytest.mark.parametrize("name", ["ann", "Änne Müller", "a.b.c", ""])
def test_a_token_speaks_for_its_subject(name: str) -> None:
    gate, tokens = access()

    assert gate.authenticate(f"Bearer {tokens.issue(name, HOUR)[0]}") == Subject(name)


def test_an_expired_token_is_refused() -> None:
    clock = StandingClock()
    gate, tokens = access(clock=clock)
    token, expires = tokens.issue("ann", HOUR)
    clock.time = expires

    with pytest.raises(UnauthenticatedError):
        gate.authenticate(f"Bearer {token}")


def test_a_token_of_another_key_or_with_another_word_is_refused() -> None:
    gate, tokens = access()
    token, _ = tokens.issue("ann", HOUR)
    other, _ = Tokens(b"o" * 32, StandingClock()).issue("ann", HOUR)
    head, signature = token.rsplit(".", 1)

    for forged in (other, f"{head}x.{signature}", head, token[:-1], token.replace("js1.iam", "js1.root")):
        with pytest.raises(UnauthenticatedError):
            gate.authenticate(f"Bearer {forged}")


@given(st.text(max_size=200))
@example("js1")
@example("js1....")
@example("js1.a.b.c.d")
@example("js1.iam.1.\ud800.x".encode("utf-8", "replace").decode())
def test_any_other_words_are_refused_and_never_break(text: str) -> None:
    gate, _ = access()

    with pytest.raises(UnauthenticatedError):
        gate.authenticate(text)


def test_without_tokens_everybody_is_the_local_user() -> None:
    gate, tokens = access(required=False)

    assert gate.authenticate(None) == Subject("local")
    assert gate.authenticate("Bearer whatever") == Subject("local")
    assert gate.authenticate(f"Bearer {tokens.issue('ann', HOUR)[0]}") == Subject("ann")


def test_a_long_token_is_turned_into_a_short_one() -> None:
    gate, tokens = access()
    short, expires = gate.issue(tokens.issue("ann", timedelta(days=365))[0], "oauth")

    assert gate.authenticate(f"Bearer {short}") == Subject("ann")
    assert expires - StandingClock().now() == timedelta(hours=12)
    with pytest.raises(UnauthenticatedError, match="oauth"):
        gate.issue("not one of ours", "oauth")


async def test_projects_are_paged_and_filtered(tmp_path: Path) -> None:
    world = await World(tmp_path).open()
    community = "c" * 20
    for name in ("alpha", "beta", "alphabet"):
        await world.projects.create(WHO, name)

    first, token = await world.projects.page(WHO, community, page_size=3)
    rest, end = await world.projects.page(WHO, community, page_size=3, page_token=token)
    assert [p.name for p in first + rest] == ["default", "alpha", "beta", "alphabet"]
    assert end == ""
    named, _ = await world.projects.page(WHO, community, name_pattern="alpha*")
    assert [p.name for p in named] == ["alpha", "alphabet"]
    assert (await world.projects.page(WHO, community, owned_by_id="bob"))[0] == []
    for bad in ({"community_id": ""}, {"community_id": "c", "page_size": -1}, {"community_id": "c", "page_token": "x"}):
        with pytest.raises(InvalidArgumentError):
            await world.projects.page(WHO, **bad)  # type: ignore[arg-type]


async def test_a_project_has_a_name_of_its_own(tmp_path: Path) -> None:
    world = await World(tmp_path).open()
    await world.projects.create(WHO, "one")

    with pytest.raises(AlreadyExistsError):
        await world.projects.create(WHO, "one")
    for bad in ("", "Big", "-x", "x-", "a" * 64, "sp ace"):
        with pytest.raises(InvalidArgumentError):
            await world.projects.create(WHO, bad)
    assert (await world.projects.ensure_default(WHO)).name == "default"
