"""What watches of run directories tell apart, by inotify and by looking."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobsphere.domain.attempt import Started
from jobsphere.runner.rundir import LOGS, STARTED, RunDirectory
from jobsphere.runner.watch import Hint, InotifyWatch, PollingWatch, Watch

Told = list[tuple[str, str]]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the watch tells by what it calls
            await asyncio.sleep(0.001)


@pytest.fixture(params=[InotifyWatch, PollingWatch])
def make(request: pytest.FixtureRequest) -> Callable[[Hint, Hint], Watch]:
    return request.param


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
async def watch(make: Callable[[Hint, Hint], Watch], told: Told) -> AsyncIterator[Watch]:
    opened = make(lambda path: told.append(("changed", path)), lambda path: told.append(("grown", path)))
    yield opened
    opened.close()


async def test_a_line_in_the_log_is_told_to_readers_and_a_record_to_all(
    watch: Watch, told: Told, tmp_path: Path
) -> None:
    run = RunDirectory(str(tmp_path))
    (tmp_path / LOGS).touch()
    watch.add(run.path)
    watch.add_logs(run.path)
    with (tmp_path / LOGS).open("ab", buffering=0) as log:
        log.write(b"a line")
        await until(lambda: bool(told))
        assert told == [("grown", run.path)]
        run.record(STARTED, Started(datetime.now(UTC)))
        await until(lambda: ("changed", run.path) in told)
        log.write(b"the last")
        await until(lambda: told[-1] == ("grown", run.path))
