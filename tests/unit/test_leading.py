"""Who leads of several servers, for how long, and what a server does that leads no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from jobsphere.domain.errors import UnavailableError
from jobsphere.engine.leading import Leading
from jobsphere.engine.upkeep import cancelled

LIFE_S = 0.2


class Database:
    """One lease, and a clock that all servers read."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.holder = ""
        self.until = 0.0


class DatabaseLeases:
    """One server's way to it, which can be cut, or take long."""

    def __init__(self, database: Database, me: str) -> None:
        self._database = database
        self._me = me
        self.away = self.hangs = self.swallows = False
        self.takes_s = 0.0
        self.asked = 0

    async def hold(self, name: str) -> bool:
        assert name == "engine"
        if self.away:
            raise UnavailableError("the database is away")
        if self.hangs:
            await asyncio.Event().wait()
        if self.swallows:
            self.asked += 1
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        database = self._database
        if database.holder not in {"", self._me} and database.seconds < database.until:
            return False
        database.holder, database.until = self._me, database.seconds + LIFE_S
        database.seconds += self.takes_s
        return True

    async def release(self, name: str) -> None:
        assert name == "engine"
        if self._database.holder == self._me:
            self._database.holder = ""


class Server:
    """What it does while it leads: nothing but that this is seen."""

    def __init__(self, database: Database, me: str) -> None:
        self.leases = DatabaseLeases(database, me)
        self.works = False
        self.began = self.failures = 0
        self.leading = Leading(self.leases, "engine", LIFE_S, self._lead, lambda: database.seconds)
        self._task = asyncio.create_task(self.leading.run())

    @asynccontextmanager
    async def _lead(self) -> AsyncGenerator[None]:
        self.began += 1
        if self.failures:
            self.failures -= 1
            raise UnavailableError("something is away")
        self.works = True
        try:
            yield
        finally:
            self.works = False

    async def stop(self) -> None:
        self.leading.stop()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def start(database: Database) -> AsyncIterator[Callable[[str], Server]]:
    servers: list[Server] = []

    def started(me: str) -> Server:
        servers.append(Server(database, me))
        return servers[-1]

    yield started
    for server in servers:
        await server.stop()


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.005)


async def test_one_whose_database_swallows_its_cancellation_stops_all_the_same(
    database: Database, start: Callable[[str], Server]
) -> None:
    one = start("one")
    await until(lambda: one.works)
    one.leases.swallows = True
    await until(lambda: one.leases.asked)
    async with asyncio.timeout(20):
        await one.stop()
    assert not one.works
    assert database.holder == ""


async def test_what_swallows_its_cancellation_is_cancelled_again() -> None:
    async def deaf() -> None:
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        raise OSError("it ends somehow")

    tasks = [asyncio.create_task(deaf()) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await cancelled(*tasks, again_s=0.01)
    assert all(task.done() for task in tasks)
    await cancelled()


async def test_one_leads_and_another_at_once_when_it_stops(database: Database, start: Callable[[str], Server]) -> None:
    one = start("one")
    await until(lambda: one.works)
    two = start("two")
    seen = database.until
    database.seconds += 0.05
    await until(lambda: database.until > seen)  # it was renewed
    assert one.leading.leads
    assert not two.leading.leads
    await one.stop()
    assert not one.works
    await until(lambda: two.works)  # though no time has passed on the database's clock
    assert not one.leading.leads


async def test_one_that_is_gone_is_followed_when_its_lease_ends(
    database: Database, start: Callable[[str], Server]
) -> None:
    one = start("one")
    await until(lambda: one.works)
    one.leases.hangs = True  # as if it were killed: it asks for nothing any more
    two = start("two")
    await until(lambda: database.holder == "one")
    database.seconds = database.until
    await until(lambda: two.works)
    assert not one.leading.leads


@pytest.mark.parametrize("trouble", ["away", "hangs"])
async def test_one_that_cannot_renew_stops_by_itself_before_another_can_lead(
    database: Database, start: Callable[[str], Server], trouble: str
) -> None:
    one = start("one")
    await until(lambda: one.works)
    setattr(one.leases, trouble, True)
    assert one.leading.leads
    database.seconds = database.until - 0.01
    assert not one.leading.leads  # before any task had its turn
    await until(lambda: not one.works)
    setattr(one.leases, trouble, False)
    await until(lambda: one.works)
    assert one.began == 2


async def test_its_time_begins_before_it_asked(database: Database, start: Callable[[str], Server]) -> None:
    one = start("one")
    await until(lambda: one.works)
    one.leases.takes_s = LIFE_S  # of each answer
    await until(lambda: not one.works)
    assert not one.leading.leads
    one.leases.takes_s = 0
    await until(lambda: one.works)


async def test_one_that_stood_still_begins_anew(database: Database, start: Callable[[str], Server]) -> None:
    """Its lease may have been another's meanwhile, and be free again."""
    one = start("one")
    await until(lambda: one.works)
    database.seconds += 10 * LIFE_S
    await until(lambda: one.began == 2 and one.works)


async def test_one_that_cannot_begin_tries_again(start: Callable[[str], Server]) -> None:
    one = start("one")
    one.failures = 2
    await until(lambda: one.works)
    assert one.began == 3


async def test_one_whose_lease_was_taken_leads_no_more(database: Database, start: Callable[[str], Server]) -> None:
    one = start("one")
    await until(lambda: one.works)
    database.holder, database.until = "two", database.seconds + 1
    await until(lambda: not one.works)
    assert not one.leading.leads
