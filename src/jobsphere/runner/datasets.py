"""The datasets that a program leaves: looked at, measured, and moved as they are into the outbox."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from jobsphere.domain.artifact import FileError, FileErrorType
from jobsphere.domain.attempt import CollectedDataset, Ended, EndReason
from jobsphere.domain.command import DatasetPlace
from jobsphere.domain.limits import GIB, MAX_DEPTH, human_size
from jobsphere.runner.archive import ArchiveError, is_inside
from jobsphere.runner.bench import Bench
from jobsphere.runner.folders import JobFolders, UnreachableError
from jobsphere.runner.rundir import OUTBOX


def collect_datasets(bench: Bench, folders: JobFolders, ended: Ended) -> tuple[list[CollectedDataset], list[FileError]]:
    """Those of a program that returned 0; of any other there are none. May be repeated after a kill."""
    found: list[CollectedDataset] = []
    errors: list[FileError] = []
    if ended.reason is EndReason.EXITED and ended.code == 0:
        for number, place in enumerate(bench.plan.datasets):
            try:
                found.append(_collect(bench, folders, number, place))
            except ArchiveError as error:
                errors.append(_error(place, str(error)))
            except OSError as error:
                errors.append(_error(place, error.strerror or str(error)))
    for dataset in found:
        bench.log(f"Dataset {dataset.desc.name!r}: {dataset.files} files, {human_size(dataset.size_bytes)}")
    return found, errors


def make_dataset_folders(bench: Bench) -> None:
    """The folders that the program is to fill."""
    for place in bench.plan.datasets:
        Path(bench.run_directory.at(place.location)).mkdir(parents=True, exist_ok=True)


def _error(place: DatasetPlace, text: str) -> FileError:
    return FileError(f"Output dataset {place.desc.name!r}: {text}; it was not made", FileErrorType.UPLOAD_FAILED)


def _collect(bench: Bench, folders: JobFolders, number: int, place: DatasetPlace) -> CollectedDataset:
    name = f"dataset-{number}"
    source, target = bench.run_directory.at(place.location), bench.run_directory.at(OUTBOX, name)
    folder = target if os.path.isdir(target) else source
    if folder == source and not _is_in_place(folders, place):
        raise ArchiveError("the program has put something else in the place of its folder")
    sizes = list(_sizes(folder, folder))
    limit = place.desc.size_gb * GIB
    if limit and sum(sizes) > limit:
        raise ArchiveError(f"{human_size(sum(sizes))}, while its size was given as {human_size(limit)}")
    if folder == source:
        os.chmod(source, 0o700)
        os.rename(source, target)
    return CollectedDataset(number, place.desc, name, sum(sizes), len(sizes))


def _is_in_place(folders: JobFolders, place: DatasetPlace) -> bool:
    """Whether the folder is where it was made, with no link on the way: only then may its path be used."""
    try:
        with folders.open(place.location) as member:
            return member.is_folder and "/".join(member.names) == place.location
    except (FileNotFoundError, UnreachableError):
        return False


def _sizes(folder: str, top: str, depth: int = 1) -> Iterator[int]:
    """The sizes of all files. Links within are kept, if they are relative and stay in the dataset.

    Raises:
        ArchiveError: something in there cannot be part of a dataset.
    """
    if depth > MAX_DEPTH:
        raise ArchiveError(f"it is more than {MAX_DEPTH} folders deep")
    os.chmod(folder, 0o700)
    with os.scandir(folder) as members:
        for member in members:
            shown = os.fsencode(os.path.relpath(member.path, top)).decode(errors="replace")
            mode = member.stat(follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                absolute = os.readlink(member.path).startswith("/")
                if absolute or not is_inside(os.path.realpath(member.path), os.path.realpath(top)):
                    raise ArchiveError(f"{shown!r} is a link that leads out of it")
            elif stat.S_ISDIR(mode):
                yield from _sizes(member.path, top, depth + 1)
            elif stat.S_ISREG(mode):
                yield member.stat(follow_symlinks=False).st_size
            else:
                raise ArchiveError(f"{shown!r} is neither a file nor a folder")
