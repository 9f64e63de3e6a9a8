"""Puts a job's inputs where its layout wants them, each checked against its hash on the way, unless it just was."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Generator
from io import FileIO
from pathlib import Path

from jobsphere.domain.command import WORK, Placement
from jobsphere.domain.errors import NotFoundError
from jobsphere.domain.job import Phase
from jobsphere.domain.limits import MAX_DEPTH, human_size
from jobsphere.runner import checked
from jobsphere.runner.archive import ArchiveError, is_inside, unpack
from jobsphere.runner.bench import Bench, StepError

Source = Callable[[str, str], Path]
"""The bytes of ``(project_id, sha256)`` as a file of this host."""
SetAside = Callable[[str, str], object]
"""Sees to it that nobody is given the bytes of ``(project_id, sha256)`` any more: they are other ones."""
_CHUNK, _RANGE = 1 << 20, 64 << 20
_NO_RANGES = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_FICLONE = 0x40049409


class _CorruptedError(Exception):
    """The stored bytes are other ones than the hash says."""


def stage_inputs(bench: Bench, source: Source, set_aside: SetAside) -> None:
    """Stage every input of the plan. Done once, in a root that holds nothing yet.

    Raises:
        StepError: an input is missing, is not what its hash says, or stands in the way of another.
        StoppedError: a stop was asked for.
    """
    inputs = bench.plan.inputs
    if not inputs:
        return
    begin, total = time.monotonic(), 0
    for number, placement in enumerate(inputs):
        bench.step(
            f"Staging input {number + 1} of {len(inputs)}: {placement.file.desc.path}", 2 + 8 * number // len(inputs)
        )
        _stage(bench, source, set_aside, placement)
        total += placement.file.size_bytes
    bench.log(f"Staged {len(inputs)} inputs ({human_size(total)}) in {time.monotonic() - begin:.3f} s")


def make_output_folders(bench: Bench) -> None:
    """The folders of outputs whose place the server chose. In the working directory they are the program's to make."""
    for output in bench.plan.outputs:
        if not output.location.startswith(f"{WORK}/"):
            Path(bench.run_directory.at(output.location)).parent.mkdir(parents=True, exist_ok=True)


def _stage(bench: Bench, source: Source, set_aside: SetAside, placement: Placement) -> None:
    root = os.path.realpath(bench.run_directory.path)
    target = os.path.normpath(os.path.join(root, placement.target))
    name = placement.file.desc.path
    if target == root or not is_inside(target, root):
        raise StepError(Phase.STAGE, f"Input {name!r} would be placed outside of the job's folders")
    if placement.target.count("/") > MAX_DEPTH + 2:  # in a folder of the job's root
        raise StepError(Phase.STAGE, f"Input {name[:100]!r}… is more than {MAX_DEPTH} folders deep")
    try:
        stored = str(source(bench.plan.project_id, placement.file.sha256))
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        if placement.unpack:
            _check_hash(bench, stored, placement)
            _unpack(bench, stored, target, into_target=placement.into_target)
        else:
            _copy(bench, stored, target, placement)
    except _CorruptedError as error:
        set_aside(bench.plan.project_id, placement.file.sha256)
        what = f"The stored input {name!r} is corrupted; create the job again to upload it"
        raise StepError(Phase.STAGE, what) from error
    except (ArchiveError, NotFoundError) as error:
        raise StepError(Phase.STAGE, f"Input {name!r}: {error}") from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise StepError(Phase.STAGE, f"Input {name!r} and another one are in each other's way") from error
    except OSError as error:
        raise StepError(Phase.STAGE, f"Input {name!r}: {error.strerror or error}") from error


def _unpack(bench: Bench, stored: str, target: str, *, into_target: bool) -> None:
    count = unpack(stored, target if into_target else os.path.dirname(target), bench.check)
    if not count:
        Path(target).mkdir(parents=True, exist_ok=True)


def _copy(bench: Bench, stored: str, target: str, placement: Placement) -> None:
    """Share the blocks where the file system can, else copy. Executable: what travels carries no mode."""
    with open(stored, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:
        shared = _share_blocks(reader.fileno(), writer.fileno())
        if not checked.is_checked(reader.fileno(), placement.file.sha256):
            _hash(bench, reader, None if shared else writer.write, placement)
        elif not shared:
            _copy_all(bench, reader, writer)
        os.fchmod(writer.fileno(), 0o755)


def _copy_all(bench: Bench, reader: FileIO, writer: FileIO) -> None:
    """Within the kernel as far as it can, the rest by hand."""
    try:
        while os.copy_file_range(reader.fileno(), writer.fileno(), _RANGE):
            bench.check()
    except OSError as error:
        if error.errno not in _NO_RANGES:
            raise
    for chunk in _chunks(bench, reader):
        _write_all(writer.write, chunk)


def _chunks(bench: Bench, reader: FileIO) -> Generator[memoryview]:
    """What is left to read, in one buffer over and over; ends when a stop is asked for."""
    buffer = memoryview(bytearray(_CHUNK))
    while count := reader.readinto(buffer):
        bench.check()
        yield buffer[:count]


def _share_blocks(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:  # another file system, or one that cannot: each has its own way to say so
        return False
    return True


def _check_hash(bench: Bench, stored: str, placement: Placement) -> None:
    with open(stored, "rb", buffering=0) as reader:
        if not checked.is_checked(reader.fileno(), placement.file.sha256):
            _hash(bench, reader, None, placement)


def _hash(
    bench: Bench,
    reader: FileIO,
    write: Callable[[memoryview], int | None] | None,
    placement: Placement,
) -> None:
    looked = checked.looks(reader.fileno())
    digest = hashlib.sha256()
    for chunk in _chunks(bench, reader):
        digest.update(chunk)
        if write is not None:
            _write_all(write, chunk)
    if digest.hexdigest() != placement.file.sha256:
        raise _CorruptedError
    checked.remember(reader.fileno(), placement.file.sha256, looked)


def _write_all(write: Callable[[memoryview], int | None], data: memoryview) -> None:
    while data:
        data = data[write(data) or 0 :]
