"""The disk of a project: a folder that its jobs read, and that its people put files into and get them from.

Paths are those of the disk: ``/`` between names, from its top on, and never out of it, by ``..`` or by a link.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobsphere.blob.incoming import open_draft, remove_stale
from jobsphere.blob.paths import INCOMING, projects_in
from jobsphere.domain.command import normalised
from jobsphere.domain.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
)
from jobsphere.durable import Point, durable

FOLDER = "disks"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder of the disk. ``size_bytes`` of a folder is that of all files in it."""

    path: str
    size_bytes: int
    modified_at: datetime
    is_folder: bool


class ProjectDisk:
    """The disk of one project, below ``data_dir``."""

    def __init__(self, data_dir: Path, project_id: str) -> None:
        self._root = data_dir / FOLDER / project_id

    def folder(self) -> Path:
        """The folder on this host; made if it is not there, readable by whatever user a job runs as."""
        self._root.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_folder(self._root)
        return self._root

    def drop(self) -> None:
        """Remove the disk of a project that is gone."""
        shutil.rmtree(self._root, ignore_errors=True)

    def list(self, path: str = "") -> list[Entry]:
        """What is in a folder, by name; of a file, the file alone.

        Raises:
            NotFoundError: there is nothing of that path.
            InvalidArgumentError: the path leads out of the disk.
        """
        place = self._existing(path)
        found = sorted(place.iterdir()) if place.is_dir() else [place]
        return [self._entry(member) for member in found]

    def growth(self, source: Path, path: str = "") -> int:
        """How many bytes more there will be when :meth:`put` is through, less those of the files that it replaces.

        Raises:
            NotFoundError, InvalidArgumentError: as :meth:`put`.
        """
        pairs = [(o, copy) for o, copy in self._copies(source, path) if o.is_file()]
        return sum(o.stat().st_size - (copy.stat().st_size if copy.is_file() else 0) for o, copy in pairs)

    def put(self, source: Path, path: str = "") -> list[Entry]:
        """Copy a file or a folder of this host to ``path``; into it, if that is a folder or ends in ``/``.

        Each file is there whole or not at all, and replaces one of its name: who reads the old one goes on with that.

        Returns:
            The files that were put.

        Raises:
            NotFoundError: there is no such source.
            InvalidArgumentError: the path leads out of the disk, or the source holds what is no file and no folder.
            FailedPreconditionError: a file stands where a folder is to be, or a folder where a file is to be.
            ResourceExhaustedError: the disk is full.
        """
        pairs, drafts = self._copies(source, path), drafts_in(self._root.parent)
        with _told():
            for original, copy in pairs:
                _place(original, copy, drafts)
        return [self._entry(copy) for _, copy in pairs if copy.is_file()]

    def get(self, path: str, target: Path) -> list[Path]:
        """Copy a file or a folder of the disk to this host; into ``target``, if that is a folder.

        Returns:
            The files that were written.

        Raises:
            NotFoundError, InvalidArgumentError: as :meth:`list`.
            FailedPreconditionError: something else is in the way at the target.
        """
        place = self._existing(path)
        if target.is_dir() and place != self._root:
            target = target / place.name
        pairs = list(_pairs(place, target))
        with _told():
            for original, copy in pairs:
                _place(original, copy, copy.parent)
        return [copy for _, copy in pairs if copy.is_file()]

    def remove(self, path: str, *, recursive: bool) -> Entry:
        """Remove a file, or a folder with all that is in it; what it was.

        Raises:
            NotFoundError, InvalidArgumentError: as :meth:`list`; also for the disk as a whole.
            FailedPreconditionError: it is a folder, and ``recursive`` was not asked for.
        """
        place = self._existing(path)
        if place == self._root:
            raise InvalidArgumentError("path: is the whole disk; name what is in it")
        entry = self._entry(place)
        if entry.is_folder and not recursive:
            raise FailedPreconditionError(f"{entry.path} is a folder; remove it with all that is in it by --recursive")
        with _told():
            if entry.is_folder:
                shutil.rmtree(place)
            else:
                place.unlink()
        return entry

    def _copies(self, source: Path, path: str) -> list[tuple[Path, Path]]:
        """What :meth:`put` copies, and where to."""
        if not source.exists():
            raise NotFoundError(f"there is no {source}")
        target = self._inside(path)
        if path.endswith("/") or target.is_dir():
            target = self._inside(os.path.join(path, source.resolve().name))
        return list(_pairs(source, target))

    def _inside(self, path: str) -> Path:
        """The place on this host.

        Raises:
            InvalidArgumentError: it is not on the disk.
        """
        clean = normalised(path or ".").lstrip("/")
        if ".." in path.split("/") or "\0" in path:
            raise InvalidArgumentError(f"path: {path[:200]!r} leads out of the project's disk")
        place = self.folder() / clean
        root = os.path.realpath(self._root)
        real = os.path.realpath(place)
        if real != root and not real.startswith(f"{root}/"):
            raise InvalidArgumentError(f"path: {path[:200]!r} leads out of the project's disk, by a link")
        return place

    def _existing(self, path: str) -> Path:
        place = self._inside(path)
        if not place.exists():
            raise NotFoundError(f"there is no {path[:200]!r} on the project's disk")
        return place

    def _entry(self, place: Path) -> Entry:
        status = place.lstat()
        is_folder = stat.S_ISDIR(status.st_mode)
        size = _size(place) if is_folder else status.st_size
        modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
        return Entry(str(place.relative_to(self._root)), size, modified, is_folder)


def disks_in(data_dir: Path) -> list[str]:
    """The ids of the projects that have a disk there."""
    return projects_in(data_dir / FOLDER)


def drafts_in(root: Path) -> Path:
    """The folder for files on their way to a disk below ``root``; what killed writers have left there goes."""
    remove_stale(root / INCOMING)
    return root / INCOMING


def remove_disks(data_dir: Path, gone: Iterable[str]) -> None:
    """Remove the disks of projects that are gone, and what killed writers have left."""
    if (data_dir / FOLDER).is_dir():
        drafts_in(data_dir / FOLDER)
    for project_id in gone:
        shutil.rmtree(data_dir / FOLDER / project_id, ignore_errors=True)


def _size(folder: Path) -> int:
    files = (os.path.join(top, name) for top, _, names in os.walk(folder) for name in names)
    return sum(os.lstat(file).st_size for file in files)


def _pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Every folder and file of a source, and where it goes: folders before what is in them.

    Raises:
        InvalidArgumentError: something in it is neither; a link is none of them, but for the source itself.
    """
    source = source.resolve()
    yield source, target
    if source.is_dir():
        for member in sorted(source.iterdir()):
            if member.is_symlink() or not (member.is_dir() or member.is_file()):
                raise InvalidArgumentError(f"{member} is neither a file nor a folder; leave it out")
            yield from _pairs(member, target / member.name)
    elif not source.is_file():
        raise InvalidArgumentError(f"{source} is neither a file nor a folder; leave it out")


def _place(original: Path, copy: Path, drafts: Path) -> None:
    if original.is_dir():
        _make_folder(copy)
        return
    _make_folder(copy.parent)
    aside = drafts / f".{copy.name[:200]}.{os.urandom(4).hex()}"
    try:
        with original.open("rb") as reader, open(open_draft(aside), "wb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            os.fchmod(writer.fileno(), 0o755 if os.fstat(reader.fileno()).st_mode & 0o111 else 0o644)
            writer.flush()
            with durable(Point.DISK_FILE):
                os.fsync(writer.fileno())
        with durable(Point.DISK_FILE):
            aside.rename(copy)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path) -> None:
    """The folder and those above it: new ones are readable by whatever user a job runs as."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


@contextmanager
def _told() -> Generator[None]:
    """What the operating system says, as the caller's error."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise FailedPreconditionError(f"{error.filename} is in the way: {error.strerror}") from error
    except OSError as error:
        raise ResourceExhaustedError(f"it cannot be written: {error.strerror or error}") from error
