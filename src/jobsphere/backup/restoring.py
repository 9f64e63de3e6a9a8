"""The way back: from a backup to a new data directory, each file checked on the way."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jobsphere.api.codec import encode_job
from jobsphere.backup import layout
from jobsphere.backup.keys import open_keys, put_keys
from jobsphere.backup.layout import Manifest, read_manifest
from jobsphere.backup.making import Total
from jobsphere.backup.transfer import Report, copy_file, files_below, read_hash, size_of
from jobsphere.domain.errors import (
    AlreadyExistsError,
    CorruptedError,
    InvalidArgumentError,
    ResourceExhaustedError,
    listed,
)
from jobsphere.domain.job import LIVE_STATUSES, Failure, Job, Phase
from jobsphere.domain.lifecycle import AttemptFailed, decide
from jobsphere.environments.disk import sync_file_system
from jobsphere.store.sqlite import SqliteJobStore
from jobsphere.system import SystemClock


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done. ``ended``: the jobs that were under way and are ended now."""

    manifest: Manifest
    ended: tuple[Job, ...] = ()


def check_backup(backup: Path, total: Total, report: Report) -> Manifest:
    """Read all of a backup and compare it with what it says of itself.

    Raises:
        CorruptedError: files are missing or changed; they are named.
        InvalidArgumentError, FailedPreconditionError: as :func:`jobsphere.backup.layout.read_manifest`.
    """
    manifest, sums = _listed(backup)
    total(sum(size_of(backup / path) for path in sums))
    _refuse(_hashes(backup, sums, report), sums)
    return manifest


async def restore(backup: Path, data_dir: Path, passphrase: str | None, total: Total, report: Report) -> Restored:
    """Make a data directory of a backup; it appears when all of it is checked and ready.

    Jobs that were under way end: what became of them after the backup nobody knows here, and a program is never started
    a second time. Those that were not executed yet wait on.

    Args:
        backup: The backup.
        data_dir: The new data directory: it is not there yet, or an empty folder.
        passphrase: Opens the keys of the backup; None leaves them out.
        total: Told how many bytes there are.
        report: Told how many were read.

    Raises:
        AlreadyExistsError: the data directory is not empty.
        PermissionDeniedError: the passphrase is another one.
        CorruptedError, InvalidArgumentError, FailedPreconditionError: as :func:`check_backup`; also where the backup's
            schema is newer than this version.
        ResourceExhaustedError: no room.
    """
    manifest, sums = _listed(backup)
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise AlreadyExistsError(f"{data_dir} is not empty; restore into a new data directory")
    keys = open_keys((backup / layout.KEYS).read_bytes(), passphrase) if passphrase is not None else {}
    total(sum(size_of(backup / path) for path in sums))
    with _aside(data_dir) as aside, _told():
        _refuse(_copied(backup, aside, sums, report), sums)
        put_keys(aside, keys)
        ended = await _end_jobs(aside / layout.DATABASE, datetime.fromisoformat(manifest.made_at))
        sync_file_system(aside)
        aside.rename(data_dir)
    return Restored(manifest, tuple(ended))


def _listed(backup: Path) -> tuple[Manifest, dict[str, str]]:
    manifest = read_manifest(backup)
    try:
        data = (backup / layout.SUMS).read_bytes()
        if hashlib.sha256(data).hexdigest() != manifest.sums_sha256:
            raise ValueError
        sums = layout.load_sums(data)
    except (OSError, ValueError):
        raise CorruptedError(f"the list of files {backup / layout.SUMS} is damaged; use another backup") from None
    if any(path.startswith("/") or ".." in path.split("/") for path in sums):
        raise InvalidArgumentError(f"{backup} names files outside of itself; it is no backup of jobsphere")
    return manifest, sums


def _hashes(backup: Path, sums: Mapping[str, str], report: Report) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for path in sums:
        try:
            with (backup / path).open("rb", buffering=0) as file:
                found[path] = read_hash(file.fileno(), report)
        except OSError:
            found[path] = None
    return found


def _copied(backup: Path, aside: Path, sums: Mapping[str, str], report: Report) -> dict[str, str | None]:
    source = backup / layout.DATA
    for path, is_folder in files_below(source):
        if is_folder:
            (aside / path.relative_to(source)).mkdir(mode=0o700, parents=True, exist_ok=True)
    found: dict[str, str | None] = {}
    for path in sums:
        if path.startswith(f"{layout.DATA}/"):
            found[path] = copy_file(backup / path, aside / path.removeprefix(f"{layout.DATA}/"), report)
        else:
            found |= _hashes(backup, {path: sums[path]}, report)
    _open_to_jobs(aside)
    return found


def _open_to_jobs(aside: Path) -> None:
    """Folders that jobs read, whatever user they run as; those of datasets nobody writes to."""
    for disk in (aside / layout.DISKS).glob("*"):
        disk.chmod(0o755)
        for path, is_folder in files_below(disk):
            if is_folder:
                path.chmod(0o755)
    for project in (aside / layout.DATASETS).glob("*"):
        project.chmod(0o755)
        for path, is_folder in list(files_below(project)):
            if is_folder:
                path.chmod(0o555)


def _refuse(found: Mapping[str, str | None], sums: Mapping[str, str]) -> None:
    wrong = [path for path in sums if found[path] != sums[path]]
    if wrong:
        raise CorruptedError(
            f"the backup is damaged: missing or changed: {listed(sorted(wrong))}; use another backup, or bring these "
            "files back from a copy of it"
        )


async def _end_jobs(database: Path, made_at: datetime) -> list[Job]:
    """End what was under way, in a database that no server has open."""
    text = (
        f"The server was restored from a backup of {made_at:%Y-%m-%d %H:%M} UTC, when this job was under way. What it "
        "logged until then is kept. Whether it ended on the former server is not known here: create or fork it to run "
        "it again"
    )
    clock = SystemClock()
    store = SqliteJobStore.open(database, encode_job)
    try:
        ended: list[Job] = []
        for job in await store.jobs_in(LIVE_STATUSES):
            now = clock.now()
            new, _ = decide(job, AttemptFailed(now, Failure(Phase.MACHINE, text)), now)
            if new is job or not await store.update_job(new, job):
                continue
            ended.append(new)
        return ended
    finally:
        await store.close()


@contextmanager
def _aside(data_dir: Path) -> Generator[Path]:
    """A folder beside the data directory, of which nothing is left if it does not become that."""
    folder = data_dir.with_name(f".{data_dir.name}.restoring")
    if folder.exists():
        _remove(folder)
    folder.mkdir(mode=0o700, parents=True)
    try:
        yield folder
    except BaseException:
        _remove(folder)
        raise


def _remove(folder: Path) -> None:
    for path, is_folder in list(files_below(folder)):
        if is_folder:
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceExhaustedError(f"the data directory cannot be written: {error.strerror or error}") from error
