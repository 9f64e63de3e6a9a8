"""The SQLite store against a real file: crashes, shared commits, full disks, other processes, damage."""

from __future__ import annotations

import asyncio
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from jobsphere.domain.errors import (
    CorruptedError,
    JobsphereError,
    ResourceExhaustedError,
    UnavailableError,
)
from jobsphere.domain.job import Job, JobSpec, JobStatus
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.store.writer import GROUP_LIMIT, _stopped

NOW = datetime(2026, 3, 1, tzinfo=UTC)
_numbers = count()


def a_job(job_id: str = "", **fields: object) -> Job:
    return Job(id=job_id or f"job{next(_numbers)}", project_id="p1", created_by_id="me", created_at=NOW,
               spec=JobSpec(cmd="true"), **fields)  # fmt: skip


def create(job: Job) -> Operation:
    return Operation(f"op-{job.id}", OperationKind.CREATE, job.project_id, job.id, NOW, "me")


def opened(path: Path, **options: float) -> SqliteJobStore:
    return SqliteJobStore.open(path, lambda job: job.id.encode(), **options)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobsphere.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteJobStore]:
    store = opened(path)
    yield store
    await store.close()


# Durability.


async def test_what_was_stored_is_there_after_reopening(path: Path) -> None:
    store, job = opened(path), a_job()
    await store.add_job(job, create(job))
    await store.close()
    again = opened(path)
    assert await again.get_job(job.id) == job
    await again.close()


async def test_close_commits_what_waits_and_leaves_one_file(path: Path) -> None:
    store, jobs = opened(path), [a_job() for _ in range(GROUP_LIMIT * 2 + 1)]
    writes = asyncio.gather(*(store.add_job(job, create(job)) for job in jobs))
    await asyncio.sleep(0)
    await store.close()
    await writes
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    again = opened(path)
    assert len((await again.page_jobs("p1", None, 1000, "")).views) == len(jobs)
    await again.close()


async def _write_without_end(path: Path) -> None:
    """Run in a process of its own: each line is a job that the store has acknowledged."""
    store = opened(path)

    async def add_and_tell(writer: int) -> None:
        for number in count():
            job = a_job(f"{writer}-{number}")
            await store.add_job(job, create(job))
            sys.stdout.write(f"{job.id}\n")
            sys.stdout.flush()

    await asyncio.gather(*(add_and_tell(writer) for writer in range(20)))


async def test_close_empties_the_log_while_another_process_looks_on(path: Path) -> None:
    store, job = opened(path), a_job()
    await store.add_job(job, create(job))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
        await store.close()
        assert path.with_name(f"{path.name}-wal").stat().st_size == 0


def acknowledged_until_killed(path: Path) -> list[str]:
    writer = subprocess.Popen([sys.executable, __file__, path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer, writer.stdout as lines:
        told = [next(lines).strip() for _ in range(300)]
        writer.kill()
        # The last line may be torn.
        told += [line.strip() for line in lines if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    return told


async def test_a_killed_server_loses_nothing_that_it_acknowledged(path: Path) -> None:
    acknowledged = acknowledged_until_killed(path)
    store = opened(path)
    for job_id in acknowledged:
        job = await store.get_job(job_id)
        assert (await store.get_operation(create(job).id)).job_id == job_id
    await store.close()


async def test_a_command_that_opens_and_leaves_takes_nothing_with_it(path: Path) -> None:
    """Also right after the server made the file: its locks tell others that the log is in use."""
    store = opened(path)
    visit = "import sys\nfrom contextlib import closing\nimport sqlite3\n"
    visit += "with closing(sqlite3.connect(sys.argv[1])) as c:\n    c.execute('SELECT count(*) FROM jobs').fetchone()\n"
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", visit, path], check=True)

    job = a_job("kept")
    await store.add_job(job, create(job))

    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT id FROM jobs").fetchall() == [("kept",)]
    await store.close()


def test_the_file_is_its_owners_alone(path: Path, store: SqliteJobStore) -> None:
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


async def test_commits_wait_for_the_disk(path: Path, store: SqliteJobStore) -> None:
    connection = store._writer._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# Group commit.


async def test_writes_that_wait_share_commits(store: SqliteJobStore) -> None:
    commits: list[str] = []
    store._writer._connection.set_trace_callback(lambda sql: commits.append(sql) if sql == "COMMIT" else None)
    jobs = [a_job() for _ in range(1000)]
    await asyncio.gather(*(store.add_job(job, create(job)) for job in jobs))
    assert len(commits) == 4


async def test_a_write_whose_waiter_was_cancelled_holds_up_nobody(store: SqliteJobStore) -> None:
    first, second = a_job(), a_job()
    given_up = asyncio.ensure_future(store.add_job(first, create(first)))
    other = asyncio.ensure_future(store.add_job(second, create(second)))
    await asyncio.sleep(0)
    given_up.cancel()
    await other
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert await store.get_job(second.id) == second


async def test_a_broken_writer_fails_its_waiters_and_goes_on(
    store: SqliteJobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [a_job() for _ in range(GROUP_LIMIT + 1)]
    with monkeypatch.context() as patched:
        patched.setattr("jobsphere.store.writer._commit_group", lambda *_: 1 / 0)
        answers = await asyncio.gather(*(store.add_job(job, create(job)) for job in jobs), return_exceptions=True)
    assert {str(answer) for answer in answers} == {str(_stopped())}
    await store.add_job(jobs[0], create(jobs[0]))


@pytest.mark.parametrize("steps", [1, 2], ids=["before its first step", "while it commits"])
async def test_a_cancelled_drain_leaves_nobody_waiting(store: SqliteJobStore, steps: int) -> None:
    jobs = [a_job() for _ in range(GROUP_LIMIT + 1)]
    writes = asyncio.gather(*(store.add_job(job, create(job)) for job in jobs), return_exceptions=True)
    for _ in range(steps):
        await asyncio.sleep(0)
    assert store._writer._drain is not None
    store._writer._drain.cancel()
    assert {str(answer) for answer in await writes} == {str(_stopped())}
    later = a_job()
    await store.add_job(later, create(later))


async def test_a_failing_work_is_undone_alone(store: SqliteJobStore) -> None:
    def bad(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM jobs")
        raise ZeroDivisionError

    jobs = [a_job(), a_job()]
    answers = await asyncio.gather(
        store.add_job(jobs[0], create(jobs[0])),
        store._writer.write(bad),
        store.add_job(jobs[1], create(jobs[1])),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), ZeroDivisionError, type(None)]
    assert [await store.get_job(job.id) for job in jobs] == jobs


async def test_a_closed_store_says_so(path: Path) -> None:
    store, job = opened(path), a_job()
    await store.close()
    with pytest.raises(UnavailableError, match="closed"):
        await store.add_job(job, create(job))
    with pytest.raises(UnavailableError):
        await store.view_job(job.id)


# Trouble with the disk and with others.


@contextmanager
def full_disk(store: SqliteJobStore) -> Iterator[None]:
    connection = store._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    yield
    connection.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def failing_disk(path: Path) -> Iterator[None]:
    """No file of this process may grow beyond what the log has now: the system call fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name(f"{path.name}-wal").stat().st_size, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def add_large_ones(store: SqliteJobStore) -> list[JobsphereError]:
    jobs = [a_job(config="x" * 100_000) for _ in range(10)]
    answers = await asyncio.gather(*(store.add_job(j, create(j)) for j in jobs), return_exceptions=True)
    return [answer for answer in answers if isinstance(answer, JobsphereError)]


@pytest.mark.fault("SQLite: full, failing, damaged")
async def test_a_full_disk_is_told_and_survived(store: SqliteJobStore) -> None:
    before = a_job()
    await store.add_job(before, create(before))
    with full_disk(store):
        errors = await add_large_ones(store)
    assert {type(error) for error in errors} == {ResourceExhaustedError}
    assert await store.get_job(before.id) == before
    assert await add_large_ones(store) == []


@pytest.mark.fault("SQLite: full, failing, damaged")
async def test_a_failing_disk_is_told_and_survived(path: Path, store: SqliteJobStore) -> None:
    before = a_job()
    await store.add_job(before, create(before))
    with failing_disk(path):
        errors = await add_large_ones(store)
    assert {type(error) for error in errors} == {UnavailableError}
    assert await store.get_job(before.id) == before
    assert await add_large_ones(store) == []


@pytest.mark.fault("SQLite: busy and locked")
async def test_a_lock_of_another_process_is_waited_for(path: Path, store: SqliteJobStore) -> None:
    job = a_job()
    with another_process_locks(path) as unlock:
        write = asyncio.ensure_future(store.add_job(job, create(job)))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(write), 0.2)
        assert (await store.page_jobs("p1", None, 10, "")).views == ()
        unlock()
        await write
    assert await store.get_job(job.id) == job


@pytest.mark.fault("SQLite: busy and locked")
async def test_a_lock_that_stays_is_told_and_survived(path: Path) -> None:
    store, job = opened(path, busy_timeout_s=0.05), a_job()
    with another_process_locks(path), pytest.raises(UnavailableError, match="locked"):
        await store.add_job(job, create(job))
    await store.add_job(job, create(job))
    await store.close()


_LOCK = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); print(flush=True); input()"
)


@contextmanager
def another_process_locks(path: Path) -> Iterator[Callable[[], None]]:
    locker = subprocess.Popen([sys.executable, "-c", _LOCK, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert locker.stdin is not None
    assert locker.stdout is not None
    with locker:
        locker.stdout.readline()
        yield locker.stdin.close
        locker.stdin.close()


# Damage.


@pytest.mark.fault("SQLite: full, failing, damaged")
async def test_a_bad_record_is_told_without_its_content_and_holds_up_no_other(store: SqliteJobStore) -> None:
    bad, good = a_job(status=JobStatus.EXECUTING), a_job(status=JobStatus.EXECUTING)
    await store.add_job(bad, create(bad))
    await store.add_job(good, create(good))

    def damage(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE jobs SET record = ? WHERE id = ?", (b'{"spec": "hush-hush"}', bad.id))

    await store._writer.write(damage)
    assert await store.jobs_in([JobStatus.EXECUTING]) == [good]
    with pytest.raises(CorruptedError, match=bad.id) as caught:
        await store.get_job(bad.id)
    assert "hush" not in f"{caught.value}{caught.value.context}{caught.value.__cause__}{caught.value.__context__}"


@pytest.mark.fault("SQLite: full, failing, damaged")
def test_a_file_that_is_no_database_is_told(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 1000)
    with pytest.raises(CorruptedError):
        opened(path)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="cannot be"):
        opened(tmp_path / "missing" / "jobsphere.db")


# Reads.


async def test_no_read_stays_open(path: Path, store: SqliteJobStore) -> None:
    jobs = [replace(a_job(), data_expires_at=NOW) for _ in range(5)]
    for job in jobs:
        await store.add_job(job, create(job))
    await store.page_jobs("p1", None, 2, "")
    await store.page_jobs("p1", list(JobStatus), 2, "")
    await store.expired_jobs(NOW, 2)
    await store.view_job(jobs[0].id)
    await store.get_job(jobs[0].id)
    with closing(sqlite3.connect(path)) as connection:
        # (busy, frames in the log, frames moved): an open read would keep the log from being emptied.
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)


if __name__ == "__main__":
    asyncio.run(_write_without_end(Path(sys.argv[1])))
