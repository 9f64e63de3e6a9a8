"""Makes a backup of a data directory while its server runs; nothing in there is held up or changed.

The database is copied as it is at one moment; then the files that this copy refers to. What it refers to and what was
removed meanwhile means that the copy is out of date: another one is made, and what is lacking is added. Files never
change under their name, so that what was copied for the first one is right for the last.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from jobsphere.backup import layout
from jobsphere.backup.keys import seal_keys
from jobsphere.backup.layout import Manifest
from jobsphere.backup.transfer import Report, copy_file, files_below, size_of
from jobsphere.blob.paths import TRASH, blob_path
from jobsphere.domain.errors import AlreadyExistsError, InvalidArgumentError, ResourceExhaustedError
from jobsphere.domain.job import JobStatus
from jobsphere.environments.disk import sync_file_system
from jobsphere.runner.rundir import CLAIM, COLLECTED, CUT, EXIT, LOGS, PLAN, STARTED
from jobsphere.store.snapshot import Contents, JobFacts, take_snapshot

RECORDS = (PLAN, CLAIM, STARTED, EXIT, COLLECTED, CUT, LOGS)
"""What stays of an attempt that has ended."""
RECORDS_UNDER_WAY = (PLAN, CLAIM, STARTED, LOGS)
Total = Callable[[int], None]
"""Told how many bytes there will be, so far as is known."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a backup is to be like.

    ``link``: hard links where that can be; ``passphrase``: None leaves the keys out; ``blobs``: they are in the data
    directory, and not in a bucket, which has to be kept by its own means.
    """

    link: bool = False
    passphrase: str | None = None
    blobs: bool = True


def make_backup(data_dir: Path, target: Path, wanted: Wanted, total: Total, report: Report) -> Manifest:
    """Back a data directory up into the new folder ``target``, which appears when it is complete.

    Raises:
        AlreadyExistsError: the target exists, or another backup to it is being made.
        InvalidArgumentError: the target lies in the data directory, or the passphrase is too short.
        NotFoundError, FailedPreconditionError, CorruptedError: as :func:`jobsphere.store.snapshot.take_snapshot`.
        ResourceExhaustedError: no room.
    """
    target = target.absolute()
    if target.resolve().is_relative_to(data_dir.resolve()):
        raise InvalidArgumentError(
            f"{target} lies in the data directory itself; name a folder outside, on another disk"
        )
    if target.exists():
        raise AlreadyExistsError(f"{target} is there already; name a new folder for each backup")
    with _unfinished(target) as folder, _told():
        manifest = _Backup(data_dir, folder, wanted, total, report).make()
        sync_file_system(folder)
        folder.rename(target)
        sync_file_system(target)
    return manifest


@dataclass
class _Backup:
    data_dir: Path
    folder: Path
    wanted: Wanted
    total: Total
    report: Report
    sums: dict[str, str] = field(default_factory=dict[str, str])
    ended: set[str] = field(default_factory=set[str])
    damaged: set[str] = field(default_factory=set[str])

    def make(self) -> Manifest:
        contents, at, lost = self._follow()
        self._drop_what_went(contents)
        self._whole_file(layout.DATABASE)
        if (self.data_dir / layout.SETTINGS).is_file():
            self._copy(self.data_dir / layout.SETTINGS, layout.SETTINGS)
        if self.wanted.passphrase is not None:
            sealed = seal_keys(self.data_dir, self.wanted.passphrase)
            (self.folder / layout.KEYS).write_bytes(sealed)
            self.sums[layout.KEYS] = hashlib.sha256(sealed).hexdigest()
        sums = layout.dump_sums(self.sums)
        (self.folder / layout.SUMS).write_bytes(sums)
        manifest = Manifest(
            at.isoformat(),
            version("jobsphere"),
            contents.revision,
            len(contents.projects),
            len(contents.jobs),
            sum(_under_way(job) for job in contents.jobs.values()),
            len(self.sums),
            sum(size_of(self.folder / path) for path in self.sums),
            self.wanted.passphrase is not None,
            hashlib.sha256(sums).hexdigest(),
            tuple(sorted({*lost, *self.damaged})),
        )
        layout.write_manifest(self.folder, manifest)
        return manifest

    def _follow(self) -> tuple[Contents, datetime, set[str]]:
        """Copy what there is until a copy of the database and the files agree; what was lost before, in sentences."""
        missed: set[str] = set()
        while True:
            at = datetime.now(UTC)
            contents = take_snapshot(self.data_dir / layout.DATABASE, self._at(layout.DATABASE))
            if not missed:
                self.total(self._bytes_to_come(contents))
            before, lost = missed, self._copy_all(contents)
            missed = lost | self._without_log(contents)
            # What a second look, with a newer list, does not find either was not removed: it is not there.
            if not missed - before:
                return contents, at, lost

    def _copy_all(self, contents: Contents) -> set[str]:
        """Copy the blobs, datasets and disks that are not copied yet; those that are not there."""
        lost = {
            f"blob {sha256} of project {project_id} is not there; jobs refer to it: {', '.join(jobs[:3])}"
            for (project_id, sha256), jobs in contents.references.items()
            if self.wanted.blobs
            and not self._blob(project_id, sha256)
            and any(_needs_files(contents.jobs.get(id_)) for id_ in jobs)
        }
        for project_id in contents.projects:
            self._tree(f"{layout.DISKS}/{project_id}")
        return lost | {
            f"dataset {id_} of project {project_id} is not there"
            for project_id, id_ in contents.datasets
            if not self._tree(f"{layout.DATASETS}/{project_id}/{id_}", link=self.wanted.link)
        }

    def _without_log(self, contents: Contents) -> set[str]:
        """Copy records and logs; the ended jobs that have none: some never had, others are just being deleted."""
        attempts = [job for job in contents.jobs.values() if job.attempt_id and not job.data_cleared]
        return {job.id for job in attempts if not self._attempt(job) and job.status.terminal}

    def _blob(self, project_id: str, sha256: str) -> bool:
        root = self.data_dir / layout.BLOBS
        place = blob_path(Path(layout.DATA, layout.BLOBS), project_id, sha256).as_posix()
        if place in self.sums:
            return True
        # It may be out of reach for the moment in which it is asked whether it can go, and come back.
        lies = blob_path(root, project_id, sha256)
        for source in (lies, root / TRASH / project_id / sha256, lies):
            found = copy_file(source, self.folder / place, self.report, link=self.wanted.link)
            if found is not None:
                self.sums[place] = found
                if found != sha256:
                    self.damaged.add(f"blob {sha256} of project {project_id} is damaged: its bytes are others")
                return True
        return False

    def _attempt(self, job: JobFacts) -> bool:
        """The records and the log of an attempt, of which one that is under way has fewer."""
        if job.attempt_id in self.ended:
            return True
        names = RECORDS if job.status.terminal else RECORDS_UNDER_WAY
        for source in (layout.ATTEMPTS, layout.ENDED):  # the one becomes the other when it is tidied up
            folder, place = self.data_dir / source / job.attempt_id, f"{layout.ENDED}/{job.attempt_id}"
            link = self.wanted.link and source == layout.ENDED
            found = [self._copy(folder / name, f"{place}/{name}", link=link) for name in names]
            if any(found) and folder.is_dir():
                if job.status.terminal:
                    self.ended.add(job.attempt_id)
                return True
        return False

    def _tree(self, place: str, *, link: bool = False) -> bool:
        source, target = self.data_dir / place, self._at(place)
        if target.exists():
            return True
        if not source.is_dir():
            return False
        target.mkdir(mode=0o700)
        for path, is_folder in files_below(source):
            below = f"{place}/{path.relative_to(source)}"
            if is_folder:
                self._at(below).mkdir(mode=0o700, exist_ok=True)
            else:
                self._copy(path, below, link=link)
        return source.is_dir()

    def _copy(self, source: Path, place: str, *, link: bool = False) -> bool:
        found = copy_file(source, self._at(place), self.report, link=link)
        if found is not None:
            self.sums[f"{layout.DATA}/{place}"] = found
        return found is not None

    def _whole_file(self, place: str) -> None:
        with self._at(place).open("rb") as file:
            self.sums[f"{layout.DATA}/{place}"] = hashlib.file_digest(file, "sha256").hexdigest()

    def _drop_what_went(self, contents: Contents) -> None:
        """What an earlier look has brought, and what is gone by the last one."""
        kept = {f"{layout.BLOBS}/{blob_path(Path(), *key).as_posix()}" for key in contents.references}
        tops = {f"{layout.DATASETS}/{project}/{id_}" for project, id_ in contents.datasets}
        tops |= {f"{layout.DISKS}/{project}" for project in contents.projects}
        tops |= {f"{layout.ENDED}/{job.attempt_id}" for job in contents.jobs.values() if not job.data_cleared}
        for path in list(self.sums):
            name = path.removeprefix(f"{layout.DATA}/")
            if name not in kept and not any(top in tops for top in _tops(name)):
                del self.sums[path]
                (self.folder / path).unlink()
                _remove_empty((self.folder / path).parent)

    def _bytes_to_come(self, contents: Contents) -> int:
        root = self.data_dir / layout.BLOBS
        blobs = sum(size_of(blob_path(root, *key)) for key in contents.references)
        folders = [f"{layout.DATASETS}/{project}/{id_}" for project, id_ in contents.datasets]
        folders += [f"{layout.DISKS}/{project}" for project in contents.projects]
        folders += [f"{layout.ENDED}/{job.attempt_id}" for job in contents.jobs.values() if job.attempt_id]
        trees = (path for folder in folders for path, is_folder in files_below(self.data_dir / folder) if not is_folder)
        return blobs + sum(map(size_of, trees))

    def _at(self, place: str) -> Path:
        path = self.folder / layout.DATA / place
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path


def _tops(name: str) -> Iterator[str]:
    """The folders that a file may be in as a part of one thing."""
    parts = name.split("/")
    return ("/".join(parts[:depth]) for depth in (2, 3))


def _remove_empty(folder: Path) -> None:
    """The folder and those above it, as far as there is nothing in them."""
    while not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def _under_way(job: JobFacts) -> bool:
    return not job.status.terminal and job.status is not JobStatus.CREATING


def _needs_files(job: JobFacts | None) -> bool:
    """A job that is not executed yet may wait for its inputs."""
    return job is not None and job.status is not JobStatus.CREATING


@contextmanager
def _unfinished(target: Path) -> Generator[Path]:
    """A folder beside the target, of which nothing is left if it does not become the target.

    Raises:
        AlreadyExistsError: somebody else is making a backup there.
    """
    folder = target.with_name(f".{target.name}.unfinished")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyExistsError(f"another backup to {target} is being made") from None
        for path in folder.iterdir():  # of one that was killed
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    finally:
        os.close(fd)


@contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceExhaustedError(f"the backup cannot be written: {error.strerror or error}") from error
