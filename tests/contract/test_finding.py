"""What every JobFinder promises, asked of all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from jobsphere.domain.errors import InvalidArgumentError, UnavailableError
from jobsphere.domain.finding import LOOKED_AT, JobFinder
from jobsphere.domain.job import Job, JobSpec, JobStatus
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.ports import JobStore
from jobsphere.store.failing_access import Failing
from jobsphere.store.finding import MemoryJobFinder, SqlJobFinder
from jobsphere.store.memory import MemoryJobStore
from jobsphere.store.postgres import PostgresJobStore
from jobsphere.store.sqlite import SqliteJobStore

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_numbers = count()


@dataclass
class Stores:
    jobs: JobStore
    finder: JobFinder

    async def add(self, name: str = "", status: JobStatus = JobStatus.SUCCESS, project: str = "p", **more: str) -> Job:
        number = next(_numbers)
        job = Job(f"id{number}", project, more.pop("by", "ann"), NOW, JobSpec("true"), name, status=status, **more)  # type: ignore[arg-type]
        await self.jobs.add_job(job, Operation(f"op{number}", OperationKind.CREATE, project, job.id, NOW, "ann"))
        return job

    async def names(self, text: str = "", *statuses: JobStatus, limit: int = 10, token: str = "") -> list[str]:
        found = await self.finder.find("p", statuses or None, text, limit, token)
        return [job.name for job in found.jobs]


@pytest.fixture(params=["sqlite", "postgres", "memory", "failing"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    if request.param == "sqlite":
        jobs = SqliteJobStore.open(tmp_path / "jobsphere.db", lambda job: job.id.encode())
        opened = Stores(jobs, jobs.beside(SqlJobFinder))
    elif request.param == "postgres":
        other = await PostgresJobStore.open(request.getfixturevalue("address"), lambda job: job.id.encode())
        opened = Stores(other, other.beside(SqlJobFinder))
    else:
        memory = MemoryJobStore()
        finder: JobFinder = MemoryJobFinder(memory)
        opened = Stores(memory, finder if request.param == "memory" else Failing(finder).store)
    yield opened
    await opened.jobs.close()


async def test_a_text_is_found_in_what_people_know_a_job_by(stores: Stores) -> None:
    ours = await stores.add("Обучение BERT", desc="на всех данных", by="bob")
    await stores.add("other", project="q")
    await stores.add("evaluate")
    for text in ("bert", "обучение", "ДАННЫХ", "BOB", ours.id):
        assert await stores.names(text) == ["Обучение BERT"], text
    assert await stores.names("") == ["evaluate", "Обучение BERT"]
    assert await stores.names("%") == await stores.names("nothing") == []


async def test_statuses_narrow_the_search(stores: Stores) -> None:
    await stores.add("a", JobStatus.ERROR)
    await stores.add("b", JobStatus.SUCCESS)
    await stores.add("c", JobStatus.CANCELLED)
    assert await stores.names("", JobStatus.ERROR, JobStatus.CANCELLED) == ["c", "a"]
    assert await stores.names("c", JobStatus.SUCCESS) == []


async def test_pages_follow_each_other_without_gaps(stores: Stores) -> None:
    for number in range(5):
        await stores.add(f"n{number}")
    first = await stores.finder.find("p", None, "", 2, "")
    second = await stores.finder.find("p", None, "", 2, first.next_token)
    last = await stores.finder.find("p", None, "", 2, second.next_token)
    assert [j.name for page in (first, second, last) for j in page.jobs] == ["n4", "n3", "n2", "n1", "n0"]
    assert (bool(second.next_token), last.next_token) == (True, "")
    with pytest.raises(InvalidArgumentError):
        await stores.finder.find("p", None, "", 2, "none of ours")


async def test_a_look_ends_somewhere_and_goes_on_from_there(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    assert LOOKED_AT >= 1000
    monkeypatch.setattr("jobsphere.store.finding.LOOKED_AT", 3)
    await stores.add("wanted")
    for _ in range(5):
        await stores.add("other")
    first = await stores.finder.find("p", None, "wanted", 1, "")
    assert (first.jobs, bool(first.next_token)) == ((), True)
    assert await stores.names("wanted", token=first.next_token) == ["wanted"]


async def test_forks_of_a_job_newest_first(stores: Stores) -> None:
    parent = await stores.add("parent")
    for name in ("a", "b", "c"):
        await stores.add(name, parent_job_id=parent.id)
    await stores.add("stranger", parent_job_id="another")
    assert [j.name for j in await stores.finder.forks(parent, 2)] == ["c", "b"]


async def test_a_failing_finder_fails() -> None:
    failing: Failing[JobFinder] = Failing(MemoryJobFinder(MemoryJobStore()))
    failing.fail("find")
    with pytest.raises(UnavailableError):
        await failing.store.find("p", None, "", 1, "")
