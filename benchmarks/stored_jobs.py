"""A database with many ended jobs in it, for experiments about what their number costs."""

from __future__ import annotations

import asyncio
import atexit
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from tests.live import live_server

from jobsphere.api.codec import encode_job
from jobsphere.domain.artifact import File, FileDesc
from jobsphere.domain.job import Argument, EnvironmentSpec, Job, JobSpec, JobStatus
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.system import RandomIds

FEW, MANY = 1_000, 1_000_000
ERROR_EVERY = 100
"""So many succeeded for one that failed."""
_GROUP = 1000


@dataclass(frozen=True)
class Stored:
    """A data directory with jobs in it: the project they are in, and their ids."""

    data: Path
    project: str
    names: list[str]


@cache
def stored(count: int) -> Stored:
    """One that has ``count`` ended jobs: made once in a run, removed at its end, for servers that change no job."""
    folder = tempfile.TemporaryDirectory(prefix="jobsphere-bench-")
    atexit.register(folder.cleanup)
    data = Path(folder.name) / "data"
    with live_server(data) as server:
        project = server.client().project
    return Stored(data, project, asyncio.run(_fill(data, project, count)))


async def _fill(data: Path, project: str, count: int) -> list[str]:
    """Store ``count`` jobs as this server's users would leave them; their ids."""
    store, ids, now = SqliteJobStore.open(data / "jobsphere.db", encode_job), RandomIds(), datetime.now(UTC)
    names: list[str] = []
    for begin in range(0, count, _GROUP):
        jobs = [_job(ids.new(), project, now + timedelta(milliseconds=n), n) for n in range(begin, begin + _GROUP)]
        await asyncio.gather(
            *(store.add_job(j, Operation(ids.new(), OperationKind.CREATE, project, j.id, now, "bench")) for j in jobs)
        )
        names += [j.id for j in jobs]
    await store.close()
    return names


def _job(job_id: str, project: str, at: datetime, number: int) -> Job:
    """A job whose record is about 1.5 KiB."""
    files = tuple(File(FileDesc(f"data/part-{i}.csv", f"PART_{i}"), "ab" * 32, 1000 + i) for i in range(6))
    spec = JobSpec(
        "python train.py ${PART_0}", files, env=EnvironmentSpec((("KEY", "value" * 10),)), instance_types=("c1.4",),
        arguments=tuple(Argument(f"ARG_{i}", "x" * 20) for i in range(6)),
    )  # fmt: skip
    status = JobStatus.SUCCESS if number % ERROR_EVERY else JobStatus.ERROR
    return Job(
        job_id, project, "bench", at, spec, name="a job", config="cmd: python train.py\n" * 10,
        status=status, finished_at=at,
    )  # fmt: skip
