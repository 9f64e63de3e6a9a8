"""A data directory made by hand: what a server would have, without one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.unit.world import NOW, PROJECT, a_file, a_spec

from jobsphere.api.codec import encode_job
from jobsphere.blob.paths import blob_path
from jobsphere.domain.artifact import Artifacts
from jobsphere.domain.attempt import AttemptPlan
from jobsphere.domain.job import Attempt, Job, JobStatus
from jobsphere.domain.operation import Operation, OperationKind
from jobsphere.domain.resource import Community, Project
from jobsphere.runner.rundir import create_run_directory
from jobsphere.store.access import SqlTeams
from jobsphere.store.sqlite import SqliteJobStore

CONTENTS = (b"one", b"two", b"three")


def blob(data: Path, content: bytes) -> Path:
    return blob_path(data / "blobs", PROJECT, hashlib.sha256(content).hexdigest())


async def fill(data: Path) -> None:
    """A data directory with a job for each content, the last of them under way."""
    data.mkdir(mode=0o700)
    (data / "key").write_bytes(b"k" * 32)
    (data / "key").chmod(0o600)
    (data / "jobsphere.toml").write_text("job_pids = 100\n")
    store = SqliteJobStore.open(data / "jobsphere.db", encode_job)
    teams = store.beside(SqlTeams)
    await teams.add_community(Community("c" * 20, "default", NOW, "ann"), None)
    await teams.create_project(Project(PROJECT, "default", "c" * 20, NOW, "ann"), None, None)
    for number, content in enumerate(CONTENTS):
        out = a_file("out.txt", content)
        ended = content != CONTENTS[-1]
        job = Job(
            f"j{number:019}",
            PROJECT,
            "ann",
            NOW,
            a_spec(),
            status=JobStatus.SUCCESS if ended else JobStatus.EXECUTING,
            attempt=Attempt(f"j{number:019}-1", "here", NOW),
            started_at=NOW,
            artifacts=Artifacts((out,)),
        )
        await store.add_job(job, Operation(f"o{number:019}", OperationKind.CREATE, PROJECT, job.id, NOW, "ann"))
        blob(data, content).parent.mkdir(parents=True, exist_ok=True)
        blob(data, content).write_bytes(content)
        run = data / ("ended" if ended else "attempts") / f"{job.id}-1"
        run.parent.mkdir(exist_ok=True)
        create_run_directory(str(run), AttemptPlan(f"{job.id}-1", job.id, PROJECT, "true"))
        (run / "logs").write_bytes(b"log of " + content)
    await store.close()
