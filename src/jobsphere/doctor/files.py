"""The files of a data directory beside what its database says there must be."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jobsphere.backup.transfer import files_below
from jobsphere.blob.paths import INCOMING, TRASH, blob_path, projects_in
from jobsphere.doctor.look import Finding, Known, Level, names_in
from jobsphere.domain.attempt import job_id_of
from jobsphere.domain.job import LIVE_STATUSES, Job, JobStatus
from jobsphere.domain.resources import Dataset, output_dataset_id
from jobsphere.environments.disk import remove_tree
from jobsphere.environments.eviction import stored_environments, trim
from jobsphere.runner.leftovers import orphaned_attempts
from jobsphere.runner.processes import attempt_mark, end_leftovers
from jobsphere.runner.rundir import SPARE, RunDirectory
from jobsphere.store.snapshot import stored_resources

ASIDE = "set-aside"
_STALE_S = 24 * 3600.0
_LIVE_OR_ENDED = ("attempts", "ended")
_CHUNK = 1 << 20
_NEXT_START = "the next start of the server removes it, so does --repair while none runs"
_REPAIR = "stop the server and run `jobsphere doctor --repair`"


def blobs(known: Known) -> Iterator[Finding]:
    """What jobs refer to is there, and what is there has its hash."""
    if known.look.settings.blobs:
        text = (
            f"files of jobs are in {known.look.settings.blobs}: they are verified when a job reads them, and not here"
        )
        yield Finding(text, "see that the bucket keeps what it has (versions, a copy elsewhere)", Level.NOTE)
        return
    root, contents = known.look.shared / "blobs", known.contents
    for (project_id, sha256), ids in contents.references.items():
        job_ids = [id_ for id_ in ids if id_ in contents.jobs and contents.jobs[id_].status is not JobStatus.CREATING]
        if job_ids and not blob_path(root, project_id, sha256).exists():
            text = f"blob {sha256} of project {project_id} is not there; jobs: {', '.join(job_ids[:3])}"
            yield Finding(text, "bring it back from a backup (data/blobs/…); or delete the data of these jobs")
    for project_id in projects_in(root):
        yield from _blobs_of(known, root, project_id)


def _blobs_of(known: Known, root: Path, project_id: str) -> Iterator[Finding]:
    unreferenced = 0
    for path, is_folder in files_below(root / project_id):
        if is_folder:
            continue
        if known.look.deep and _sha256(path, known.look.report) != path.name:
            text = f"blob {path.name} of project {project_id} is damaged: its bytes are others"
            step = f"bring it back from a backup; --repair puts it into {ASIDE}/, so that no job gets it"
            yield Finding(text, step, repair=_setting_aside(known.look.shared, path), lasting=True)
        elif (project_id, path.name) not in known.contents.references and known.is_settled(path):
            unreferenced += 1
    if unreferenced:
        text = f"{unreferenced} blobs of project {project_id} belong to no job"
        yield Finding(text, _NEXT_START, Level.NOTE, lambda: _remove_unreferenced(known, root, project_id))


def run_directories(known: Known) -> Iterator[Finding]:
    """Every run directory has its job, and jobs whose program ran have their log."""
    jobs = {job.id for job in known.contents.jobs.values() if not job.data_cleared}
    there: set[str] = set()
    for kind in _LIVE_OR_ENDED:
        for name in names_in(known.look.data_dir / kind):
            path = known.look.data_dir / kind / name
            if name.startswith("."):
                continue
            there.add(name)
            if job_id_of(name) not in jobs and known.is_settled(path) and not RunDirectory(str(path)).is_locked():
                yield Finding(f"run directory {kind}/{name} belongs to no job", _REPAIR, repair=_removing(path))
    for job in known.jobs.values():
        if job.attempt and job.started_at and not job.data_cleared and job.attempt.id not in there:
            yield Finding(
                f"job {job.id} ran, and its log is not there", "bring ended/ back from a backup, or delete it"
            )


def datasets(known: Known) -> Iterator[Finding]:
    """Every dataset has its folder with as many files and bytes as it was made with."""
    root = known.look.shared / "datasets"
    stored = {(d.project_id, d.id): d for d in stored_resources(known.look.database, Dataset)}
    for (project_id, id_), dataset in stored.items():
        files = [path for path, is_folder in files_below(root / project_id / id_) if not is_folder]
        size = sum(path.lstat().st_size for path in files)
        if (len(files), size) != (dataset.body.files, dataset.body.size_bytes):
            text = (
                f"dataset {dataset.name!r} ({id_}) has {len(files)} files and {size} bytes; it was made with "
                f"{dataset.body.files} and {dataset.body.size_bytes}"
            )
            yield Finding(text, "bring it back from a backup, or delete it and make it again")
    kept = {*stored, *_being_made(known)}
    for project_id in projects_in(root):
        for name in names_in(root / project_id):
            path = root / project_id / name
            if (project_id, name) not in kept and known.is_settled(path):
                yield Finding(f"datasets/{project_id}/{name} is no dataset's", _REPAIR, repair=_removing(path))


def disks(known: Known) -> Iterator[Finding]:
    """Every disk has its project."""
    for project_id in projects_in(known.look.shared / "disks"):
        if project_id not in known.contents.projects:
            path = known.look.shared / "disks" / project_id
            yield Finding(f"disks/{project_id} is of a project that is gone", _NEXT_START, repair=_removing(path))


def environments(known: Known) -> Iterator[Finding]:
    """Every environment is whole, or being built."""
    data_dir = known.look.data_dir
    for environment in stored_environments(data_dir):
        if not environment.complete and not environment.in_use:
            text = f"environment {environment.fingerprint[:12]} is half built: its build was broken off"
            yield Finding(text, _NEXT_START, Level.NOTE, lambda: trim(data_dir, 1 << 62))
    for ready in sorted((data_dir / "environments").glob("*.ready")):
        if not ready.with_suffix("").is_dir():
            text = f"environment {ready.stem[:12]} is called complete and is not there"
            yield Finding(text, _REPAIR, repair=lambda path=ready: path.unlink(missing_ok=True))
    doomed = data_dir / "cache.removed"
    if doomed.exists() and known.is_settled(doomed):
        yield Finding("cache.removed was to be removed", _REPAIR, Level.NOTE, lambda: remove_tree(doomed))


def leftovers(known: Known) -> Iterator[Finding]:
    """Nothing is left of what was killed: half-made files, processes without a supervisor, working storage."""
    top = known.look.data_dir
    for name in names_in(top / "attempts"):
        path = top / "attempts" / name
        kept = name.startswith(SPARE) and known.look.busy
        if name.startswith(".") and known.is_settled(path) and not kept:
            yield Finding(
                f"attempts/{name} was left half made or half removed", _NEXT_START, Level.NOTE, _removing(path)
            )
    shared = known.look.shared
    for folder in (shared / "blobs" / INCOMING, shared / "blobs" / TRASH):
        for path, is_folder in files_below(folder):
            if not is_folder and time.time() - path.lstat().st_ctime > _STALE_S:
                # What lies in the trash may be wanted: a start brings it back and asks.
                repair = _removing(path) if folder.name == INCOMING else None
                yield Finding(f"{path.relative_to(shared)} is more than a day old", _NEXT_START, Level.NOTE, repair)
    for attempt_id, pids in orphaned_attempts(top / "attempts").items():
        mark = attempt_mark(str(top / "attempts" / attempt_id))
        text = f"attempt {attempt_id} has no supervisor, and processes of it run: {', '.join(map(str, pids))}"
        yield Finding(text, f"start the server: it ends them; {_REPAIR}", repair=lambda mark=mark: end_leftovers(mark))
    for name in names_in(top / "storage"):
        if not any((top / kind / name).is_dir() for kind in _LIVE_OR_ENDED) and known.is_settled(
            top / "storage" / name
        ):
            yield Finding(f"storage/{name} is of no attempt", _REPAIR, repair=_removing(top / "storage" / name))
    told = top / "run" / "server.json"
    if told.exists() and not known.look.busy:
        text = "the last server was killed: run/server.json still says where it listened"
        yield Finding(text, "start the server, or --repair", Level.NOTE, lambda: told.unlink(missing_ok=True))


def _being_made(known: Known) -> Iterator[tuple[str, str]]:
    for job in known.jobs.values():
        if job.status in LIVE_STATUSES and job.attempt:
            yield from ((job.project_id, id_) for id_ in _output_ids(job, job.attempt.id))


def _output_ids(job: Job, attempt_id: str) -> list[str]:
    return [output_dataset_id(attempt_id, number) for number in range(len(job.spec.output_datasets))]


def _remove_unreferenced(known: Known, root: Path, project_id: str) -> None:
    contents = Known(known.look).contents  # as it is now
    for path, is_folder in list(files_below(root / project_id)):
        if not is_folder and (project_id, path.name) not in contents.references:
            path.unlink()


def _setting_aside(shared: Path, path: Path) -> Callable[[], None]:
    def repair() -> None:
        place = shared / ASIDE / path.relative_to(shared)
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.rename(path, place)

    return repair


def _removing(path: Path) -> Callable[[], None]:
    return lambda: remove_tree(path)


def _sha256(path: Path, report: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                report(len(chunk))
    except FileNotFoundError:  # a running server removed it
        return path.name
    return digest.hexdigest()
