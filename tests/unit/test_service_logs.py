"""Log streams, and who still reads when a job has ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.unit.world import NOW, WHO, StandingClock, World, attempt

from jobsphere.domain.attempt import LogChunk, LogFrame, LogStream
from jobsphere.domain.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from jobsphere.domain.job import Job
from jobsphere.service.logs import Readers


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return await World(tmp_path).open()


def frame(text: bytes) -> LogFrame:
    return LogFrame(LogStream.OUT, 1, text)


async def read(world: World, job: Job, offset: int = 0) -> bytes:
    async with asyncio.timeout(20):
        chunks = [c async for c in world.logs.stream(WHO, job.id, offset)]
    return b"".join(f.content for c in chunks for f in c.frames)


async def test_a_stream_follows_until_all_is_given(world: World) -> None:
    job = await world.running()
    reading = asyncio.create_task(read(world, job))
    for text in (b"one\n", b"two\n"):
        await world.runner.write(attempt(job), frame(text))
        await asyncio.sleep(0)
    await world.ends(job)

    assert await reading == b"one\ntwo\n"
    assert await read(world, job, 1) == b"two\n"


async def test_from_now_on_leaves_out_what_was(world: World) -> None:
    job = await world.running()
    await world.runner.write(attempt(job), frame(b"old\n"))
    stream = world.logs.stream(WHO, job.id, -1)
    first = asyncio.ensure_future(anext(stream))
    for _ in range(5):
        await asyncio.sleep(0)
    await world.runner.write(attempt(job), frame(b"new\n"))

    async with asyncio.timeout(20):
        assert [f.content for f in (await first).frames] == [b"new\n"]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_stream_waits_for_the_attempt_and_ends_without_one(world: World) -> None:
    job = await world.created()
    reading = asyncio.create_task(read(world, job))
    await asyncio.sleep(0)
    await world.jobs.cancel(WHO, job.id, "", graceful=False)

    assert await reading == b""


async def test_bad_offsets_cleared_data_and_a_stopping_server_are_told(world: World) -> None:
    job = await world.running()
    with pytest.raises(InvalidArgumentError):
        await read(world, job, -2)
    with pytest.raises(InvalidArgumentError):
        await read(world, job, 99)
    world.logs.shut_down()
    with pytest.raises(UnavailableError):
        await read(world, job)
    await world.ends(job)
    await world.reconcile(job)
    await world.jobs.delete_data(WHO, job.id)
    with pytest.raises(FailedPreconditionError):
        await read(world, job)


class Reading:
    """Readers with a clock of the test's own, of a server that started long ago."""

    def __init__(self, job: Job) -> None:
        self.seconds = 0.0
        self.job = job
        self.readers = Readers(StandingClock(), lambda: self.seconds)
        self.seconds = 1000.0

    def pending(self) -> bool:
        return self.readers.pending(self.job) > 0


@pytest.fixture
async def reading(world: World) -> Reading:
    return Reading(await world.created())


def chunk(lines: int) -> LogChunk:
    return LogChunk((frame(b"x\n" * lines),), 1, complete=False)


def test_nobody_reading_is_waited_for(reading: Reading) -> None:
    assert not reading.pending()


def test_an_open_stream_is_waited_for_and_then_a_moment_more(reading: Reading) -> None:
    reader = reading.readers.enter(reading.job.id)
    assert reading.pending()
    reading.readers.leave(reader)
    assert reading.pending()
    reading.seconds += 0.31
    assert not reading.pending()


def test_a_flood_has_the_time_to_be_printed(reading: Reading) -> None:
    reader = reading.readers.enter(reading.job.id)
    reading.readers.took(reader, chunk(200_000))
    reading.readers.leave(reader)
    reading.seconds += 11
    assert reading.pending()
    reading.seconds += 3
    assert not reading.pending()


def test_lines_that_came_slowly_are_printed_already(reading: Reading) -> None:
    reader = reading.readers.enter(reading.job.id)
    reading.readers.took(reader, chunk(200_000))
    reading.seconds += 60
    reading.readers.took(reader, chunk(1))
    reading.readers.leave(reader)
    reading.seconds += 0.4
    assert not reading.pending()


def test_who_was_printing_long_ago_is_forgotten_though_nobody_asked(reading: Reading) -> None:
    for number in range(1000):
        reader = reading.readers.enter(f"job {number}")
        reading.readers.took(reader, chunk(10))
        reading.readers.leave(reader)
        reading.seconds += 1
    assert len(reading.readers._settled_at) < 10


@pytest.mark.fault("client that stops reading a stream")
def test_a_reader_that_takes_nothing_holds_nobody_up(reading: Reading) -> None:
    reading.readers.offer(reading.readers.enter(reading.job.id))
    reading.seconds += 9
    assert reading.pending()
    reading.seconds += 2
    assert not reading.pending()


def test_after_a_restart_a_job_that_was_under_way_waits_for_its_reader(reading: Reading) -> None:
    clock, seconds = StandingClock(), [0.0]
    clock.pass_by(60)
    readers = Readers(clock, lambda: seconds[0])

    assert readers.pending(reading.job) > 0
    seconds[0] = 8
    assert readers.pending(reading.job) == 0


def test_after_a_restart_a_reader_that_has_come_and_gone_is_enough(reading: Reading) -> None:
    clock, seconds = StandingClock(), [0.0]
    clock.pass_by(60)
    readers = Readers(clock, lambda: seconds[0])
    readers.leave(readers.enter(reading.job.id))
    seconds[0] = 1

    assert readers.pending(reading.job) == 0


def test_a_reader_at_another_server_is_waited_for(reading: Reading) -> None:
    told: list[tuple[str, float]] = []
    there = Readers(StandingClock(), lambda: reading.seconds, lambda job_id, for_s: told.append((job_id, for_s)))

    def pass_on(server: str) -> None:
        while told:
            reading.readers.heard(server, *told.pop(0))

    reader = there.enter(reading.job.id)
    assert len(told) == 1
    for _ in range(30):
        pass_on("there")
        assert reading.pending()
        reading.seconds += 1
        there.goes_on(reader)
    pass_on("there")
    there.took(reader, chunk(200_000))
    there.leave(reader)
    pass_on("there")
    reading.seconds += 11
    assert reading.pending()  # it is being printed
    reading.seconds += 3
    assert not reading.pending()


def test_a_server_that_is_gone_with_its_reader_holds_nobody_up_for_long(reading: Reading) -> None:
    reading.readers.heard("gone", reading.job.id, 10)
    reading.readers.heard("other", reading.job.id, 0.3)
    reading.seconds += 9
    assert reading.pending()
    reading.seconds += 2
    assert not reading.pending()
    for number in range(3000):
        reading.readers.heard("gone", f"job {number}", 0.3)
        reading.seconds += 1
    assert len(reading.readers._elsewhere) < 1100


def test_a_reader_whose_server_stops_is_waited_for_until_it_is_back(reading: Reading) -> None:
    told: list[float] = []
    there = Readers(StandingClock(), lambda: reading.seconds, lambda _, for_s: told.append(for_s))
    there.leave(there.enter(reading.job.id), comes_back=True)
    assert told[-1] > 5


async def test_after_a_restart_a_new_job_waits_for_nobody(world: World) -> None:
    clock = StandingClock()
    readers = Readers(clock, lambda: 0.0)
    assert clock.now() == NOW

    assert readers.pending(await world.created()) == 0
