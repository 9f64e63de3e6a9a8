"""What leases promise, whichever database keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from jobsphere.domain.replica_ports import Alone, Leases
from jobsphere.store.jobs import SqlJobStore
from jobsphere.store.leases import SqlLeases
from jobsphere.store.postgres import PostgresJobStore
from jobsphere.store.sqlite import SqliteJobStore

Made = Callable[[str, float], Leases]


@pytest.fixture(params=["sqlite", "postgres"])
async def made(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Made]:
    store: SqlJobStore
    if request.param == "sqlite":
        store = SqliteJobStore.open(tmp_path / "jobsphere.db", lambda _: b"")
    else:
        store = await PostgresJobStore.open(request.getfixturevalue("address"), lambda _: b"")
    yield lambda holder, life_s: store.beside(lambda database: SqlLeases(database, holder, life_s))
    await store.close()


async def test_one_holds_it_until_it_gives_it_back(made: Made) -> None:
    one, two = made("one", 60), made("two", 60)
    assert [await one.hold("x"), await two.hold("x"), await one.hold("x")] == [True, False, True]
    assert await two.hold("y")
    assert [await two.holder("x"), await one.holder("y"), await one.holder("z")] == ["one", "two", ""]
    await two.release("x")  # not its own
    assert not await two.hold("x")
    await one.release("x")
    assert await two.hold("x")


async def test_one_that_is_gone_loses_it(made: Made) -> None:
    gone, next_ = made("gone", 0), made("next", 60)
    assert await gone.hold("x")
    async with asyncio.timeout(10):
        while await gone.holder("x"):
            pass
    async with asyncio.timeout(10):
        while not await next_.hold("x"):
            pass
    assert not await gone.hold("x")


async def test_a_server_takes_its_own_up_after_a_restart(made: Made) -> None:
    assert await made("one", 60).hold("x")
    assert await made("one", 60).hold("x")


async def test_of_many_at_once_one_gets_it(made: Made) -> None:
    for name in ("x", "y"):
        held = await asyncio.gather(*(made(f"server{number}", 60).hold(name) for number in range(20)))
        assert sum(held) == 1


async def test_one_server_by_itself_holds_all() -> None:
    alone = Alone()
    assert await alone.hold("x")
    assert not await alone.holder("x")
    await alone.release("x")
