"""Gathers what an attempt leaves behind into the outbox: outputs, then logs and diagnostics.

May be repeated from the start after a kill at any instant: a member of the outbox has its final name only when it is
whole, and what was gathered before is taken as it is.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

from jobsphere.domain.artifact import (
    EMPTY_SHA256,
    ArtifactKind,
    Compression,
    File,
    FileDesc,
    FileError,
    FileErrorType,
)
from jobsphere.domain.attempt import (
    DOCKER_STATS,
    GPU_STATS,
    SYSTEM_LOG,
    Collected,
    CollectedFile,
    Ended,
    EndReason,
    LogStream,
)
from jobsphere.domain.command import OutputPlace, normalised
from jobsphere.domain.limits import MAX_FILE_BYTES, human_size
from jobsphere.durable import Point, durable, sync_directory, sync_file
from jobsphere.runner.archive import ArchiveError, FolderPacker, file_sha256
from jobsphere.runner.bench import Bench
from jobsphere.runner.datasets import collect_datasets
from jobsphere.runner.folders import JobFolders, Member, UnreachableError
from jobsphere.runner.frames import all_frames
from jobsphere.runner.rundir import OUTBOX

_LOGS = {
    (LogStream.OUT, ""): (ArtifactKind.LOG, "stdout.txt"),
    (LogStream.ERR, ""): (ArtifactKind.LOG, "stderr.txt"),
    (LogStream.FILE, SYSTEM_LOG): (ArtifactKind.LOG, "system.log"),
    (LogStream.FILE, DOCKER_STATS): (ArtifactKind.DIAGNOSTIC, "docker_stats.tsv"),
    (LogStream.FILE, GPU_STATS): (ArtifactKind.DIAGNOSTIC, "gpu_stats.tsv"),
}
_SHOWN_PROBLEMS = 10
_BUFFER_BYTES = 1 << 20


@dataclass(slots=True)
class _Found:
    files: list[CollectedFile] = field(default_factory=list[CollectedFile])
    errors: list[FileError] = field(default_factory=list[FileError])


def collect(bench: Bench, ended: Ended, seen_as: Mapping[str, str], moved: Mapping[str, str]) -> Collected:
    """Fill the outbox, durably; no process of the attempt is left. The log is written to for the last time.

    That an output is missing is worth a word only if the program ended by itself. ``seen_as``,
    ``moved``: see :class:`jobsphere.runner.folders.JobFolders`.
    """
    begin, found = time.monotonic(), _Found()
    with JobFolders(bench.run_directory.path, seen_as, moved) as folders:
        packer = FolderPacker(folders, MAX_FILE_BYTES)
        for number, place in enumerate(bench.plan.outputs):
            _collect_output(bench, folders, packer, number, place, found)
        datasets, errors = collect_datasets(bench, folders, ended)
    found.errors += errors
    if ended.reason is not EndReason.EXITED:
        found.errors = [e for e in found.errors if e.type is not FileErrorType.NOT_FOUND]
    _report(bench, found, time.monotonic() - begin)
    bench.logs.sync()
    _collect_logs(bench, found)
    sync_directory(bench.run_directory.at(OUTBOX), Point.OUTPUT_SYNC)
    return Collected(datetime.now(UTC), tuple(found.files), tuple(found.errors), bench.logs.size, tuple(datasets))


def _report(bench: Bench, found: _Found, seconds: float) -> None:
    if bench.plan.outputs:
        size = human_size(sum(f.file.size_bytes for f in found.files))
        of = f"{len(found.files)} of {len(bench.plan.outputs)}"
        bench.log(f"Collected {of} outputs ({size}) in {seconds:.3f} s")
    for error in found.errors:
        bench.log(error.description)


def _collect_output(
    bench: Bench, folders: JobFolders, packer: FolderPacker, number: int, place: OutputPlace, found: _Found
) -> None:
    def fail(text: object, kind: FileErrorType = FileErrorType.UPLOAD_FAILED) -> None:
        found.errors.append(FileError(f"Output {place.desc.path!r}: {text}", kind, place.desc))

    try:
        name, packing, problems = _bring(bench, folders, packer, place, f"output-{number}")
        found.files.append(_collected(bench, ArtifactKind.OUTPUT, place.desc, name, packing))
        for problem in problems:
            fail(problem)
    except FileNotFoundError:
        fail("the program did not create it", FileErrorType.NOT_FOUND)
    except (ArchiveError, UnreachableError) as error:
        fail(error)
    except OSError as error:
        fail(error.strerror or error)


def _bring(
    bench: Bench, folders: JobFolders, packer: FolderPacker, place: OutputPlace, name: str
) -> tuple[str, Compression, list[str]]:
    """Put an output into the outbox: its name there, how it is packed, and what of it had to be left out."""
    with folders.open(place.location) as member:
        if member.is_folder:
            packed = bench.run_directory.at(OUTBOX, f"{name}.zip")
            return f"{name}.zip", Compression.ZIP, _pack(packer, member, place, packed)
        if not member.is_file:
            raise ArchiveError("neither a file nor a folder")
        _link(member, bench.run_directory.at(OUTBOX, name))
        return name, Compression.NONE, []


def _link(member: Member, target: str) -> None:
    """A second name for the file: its bytes stay where they are, and nobody is left to write to them."""
    if (size := member.status.st_size) > MAX_FILE_BYTES:
        raise ArchiveError(f"{human_size(size)}, while the limit for one file is {human_size(MAX_FILE_BYTES)}")
    if os.path.lexists(target):
        return
    os.chmod(member.path, 0o600)
    folder = os.open(os.path.dirname(target), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:  # with a descriptor Python takes the call that follows the path to the open file
        with durable(Point.OUTPUT_LINKED):
            os.link(member.path, os.path.basename(target), dst_dir_fd=folder)
    except OSError as error:
        if error.errno != errno.EXDEV:  # the working directory has a volume of its own
            raise
        _copy(member, target)
    finally:
        os.close(folder)


def _copy(member: Member, target: str) -> None:
    with open(member.open(), "rb") as reader, open(f"{target}.tmp", "wb") as writer:
        shutil.copyfileobj(reader, writer, _BUFFER_BYTES)
    with durable(Point.OUTPUT_LINKED):
        os.rename(f"{target}.tmp", target)


def _pack(packer: FolderPacker, folder: Member, place: OutputPlace, target: str) -> list[str]:
    try:
        problems = packer.pack(folder, posixpath.basename(normalised(place.desc.path)), f"{target}.tmp")
    except (ArchiveError, OSError):
        os.unlink(f"{target}.tmp")
        raise
    with durable(Point.OUTPUT_PACKED):
        os.rename(f"{target}.tmp", target)
    shown, more = problems[:_SHOWN_PROBLEMS], len(problems) - _SHOWN_PROBLEMS
    return [*shown, f"and {more} more like these"] if more > 0 else shown


def _collect_logs(bench: Bench, found: _Found) -> None:
    """One file for each kind of frame. One that is empty is recorded only: its bytes need no file to come from."""
    outbox = bench.run_directory.at(OUTBOX)
    try:
        present = _split_frames(bench, outbox)
    except OSError as error:
        what = error.strerror or error
        found.errors += [
            FileError(f"Log {name}: {what}", FileErrorType.UPLOAD_FAILED, log_file_name=name)
            for kind, name in _LOGS.values()
            if kind is ArtifactKind.LOG
        ]
        return
    for key, (kind, name) in _LOGS.items():
        if key in present:
            found.files.append(_collected(bench, kind, FileDesc(name), name, Compression.NONE))
        elif key[1] != GPU_STATS:
            found.files.append(CollectedFile(kind, File(FileDesc(name), EMPTY_SHA256, 0, Compression.NONE), name))


def _split_frames(bench: Bench, outbox: str) -> set[tuple[LogStream, str]]:
    """Write a file for each kind of frame that there is: which there are."""
    writers: dict[tuple[LogStream, str], BinaryIO] = {}
    try:
        for frame in all_frames(bench.logs.fd):
            key = frame.stream, frame.path
            if key not in writers:
                writers[key] = open(os.path.join(outbox, _LOGS[key][1]), "wb", buffering=_BUFFER_BYTES)  # noqa: SIM115
            writers[key].write(frame.content)
    finally:
        for writer in writers.values():
            writer.close()
    return set(writers)


def _collected(bench: Bench, kind: ArtifactKind, desc: FileDesc, name: str, packing: Compression) -> CollectedFile:
    path = bench.run_directory.at(OUTBOX, name)
    sha256, size = file_sha256(path)
    sync_file(path, Point.OUTPUT_SYNC)
    return CollectedFile(kind, File(desc, sha256, size, packing), name)
