"""The content of datasets: a folder each, put together aside and renamed into place, never changed after that.

::

    <root>/<project_id>/<dataset_id>/              the content; its time: the last use
    <root>/<project_id>/.new-… and .removed-…      one on its way in, or out
    <root>/.<project_id>.lock                      held (flock, shared) by whoever has one on its way

What is there under no dataset's id, or on its way while nobody holds the lock, was left by a crash.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import filecmp
import os
import shutil
import stat
import tarfile
import time
import zipfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from lzma import LZMAError
from pathlib import Path
from typing import IO
from zlib import error as ZlibError  # noqa: N812

from jobsphere.archives import MAX_ENTRIES, largest, open_tar, open_zip
from jobsphere.blob.paths import projects_in
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from jobsphere.domain.limits import MAX_DEPTH, human_size
from jobsphere.domain.resource_ports import Content
from jobsphere.durable import Point, alone, durable, lock_is_free, open_lock, sync_directory, sync_file

FOLDER = "datasets"
"""In the data directory."""
_NEW, _GONE = ".new-", ".removed-"
_CHUNK = 1 << 20
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_POLL_S = 0.05
GRACE_S = 24 * 3600.0
"""For folders that several hosts share, whose locks may not reach each other."""
Write = Callable[[str, IO[bytes] | None, bool], None]
"""Puts a file (its bytes, whether it can be run) or a folder (None) at a path relative to the content."""


class LocalDatasets:
    """:class:`jobsphere.domain.resource_ports.DatasetFiles` below the folder ``root``, one folder for each project.

    ``grace_s``: what is younger is never taken for what a crash left.
    """

    def __init__(self, root: Path, grace_s: float = 0) -> None:
        self._root = root
        self._grace_s = grace_s

    def folder(self, project_id: str, dataset_id: str) -> Path:
        """See the port."""
        return self._root / project_id / dataset_id

    async def take(self, project_id: str, dataset_id: str, sources: Sequence[Path]) -> Content:
        """See the port."""
        return await asyncio.to_thread(self._take, project_id, dataset_id, sources)

    async def holds(self, project_id: str, dataset_id: str, folder: Path) -> bool:
        """See the port."""
        return await asyncio.to_thread(_alike, self.folder(project_id, dataset_id), folder)

    async def adopt(self, project_id: str, dataset_id: str, folder: Path) -> None:
        """See the port."""
        async with self.making(project_id):
            await asyncio.to_thread(self._adopt, project_id, dataset_id, folder)

    async def remove(self, project_id: str, dataset_id: str) -> None:
        """See the port."""
        if self.folder(project_id, dataset_id).exists():
            async with self.making(project_id):
                await asyncio.to_thread(self._remove, project_id, dataset_id)

    @asynccontextmanager
    async def making(self, project_id: str) -> AsyncGenerator[None]:
        """See the port."""
        with _told():
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = open_lock(self._lock(project_id))
        try:
            while not lock_is_free(fd, fcntl.LOCK_SH):  # noqa: ASYNC110 - another process's, maybe
                await asyncio.sleep(_POLL_S)
            yield
        finally:
            os.close(fd)

    async def used(self, project_id: str, dataset_id: str) -> None:
        """See the port."""
        with suppress(FileNotFoundError):
            os.utime(self.folder(project_id, dataset_id))

    async def last_used(self, project_id: str, dataset_id: str) -> datetime | None:
        """See the port."""
        try:
            return datetime.fromtimestamp(self.folder(project_id, dataset_id).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    async def projects(self) -> Sequence[str]:
        """See the port."""
        return projects_in(self._root)

    async def sweep(self, project_id: str, wanted: Callable[[], Awaitable[set[str]]]) -> bool:
        """See the port."""
        project = self._root / project_id
        if not project.is_dir():
            return True
        with alone(self._lock(project_id)) as idle:
            if idle:
                there = await asyncio.to_thread(os.listdir, project)
                left = set(there) - await wanted()
                await asyncio.to_thread(self._clear, [project / name for name in sorted(left)])
        return idle

    async def drop(self, project_id: str) -> None:
        """See the port."""
        await asyncio.to_thread(self._drop, project_id)

    def _lock(self, project_id: str) -> Path:
        return self._root / f".{project_id}.lock"

    def _take(self, project_id: str, dataset_id: str, sources: Sequence[Path]) -> Content:
        project = self._project(project_id)
        aside = project / f"{_NEW}{dataset_id}"
        try:
            with _told():
                aside.mkdir(mode=0o755)
                for source in sources:
                    _fill(aside, source, alone=len(sources) == 1)
                content = _seal(aside)
                _rename(aside, project / dataset_id)
        except BaseException:
            _remove_tree(aside)
            raise
        return content

    def _adopt(self, project_id: str, dataset_id: str, folder: Path) -> None:
        project = self._project(project_id)
        if (project / dataset_id).exists():
            return
        if not folder.is_dir():
            raise NotFoundError("the dataset that the job made is gone from its node", dataset=dataset_id)
        with _told():
            _seal(folder)
            try:
                _rename(folder, project / dataset_id)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self._bring(folder, project, dataset_id)

    def _bring(self, folder: Path, project: Path, dataset_id: str) -> None:
        """From another file system: a copy is put together aside. The folder stays until its attempt is tidied."""
        aside = project / f"{_NEW}{dataset_id}-{os.urandom(4).hex()}"
        try:
            shutil.copytree(folder, aside, symlinks=True)
            _seal(aside)
            try:
                _rename(aside, project / dataset_id)
            except OSError as error:  # a repeat of this was faster
                if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise
        finally:
            _remove_tree(aside)

    def _remove(self, project_id: str, dataset_id: str) -> None:
        folder = self.folder(project_id, dataset_id)
        if folder.exists():
            gone = folder.with_name(f"{_GONE}{dataset_id}")
            with durable(Point.DATASET_REMOVED):
                folder.rename(gone)
            _remove_tree(gone)

    def _clear(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if time.time() - folder.lstat().st_mtime >= self._grace_s:
                _remove_tree(folder)

    def _drop(self, project_id: str) -> None:
        with suppress(OSError):  # somebody else may be at it; what stays is found by the next sweep
            _remove_tree(self._root / project_id)
        self._lock(project_id).unlink(missing_ok=True)

    def _project(self, project_id: str) -> Path:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        project = self._root / project_id
        project.mkdir(mode=0o755, exist_ok=True)
        return project


def _rename(folder: Path, place: Path) -> None:
    with durable(Point.DATASET_PLACED):
        folder.rename(place)
    place.chmod(0o555)
    sync_directory(place.parent, Point.DATASET_PLACED)


def _fill(content: Path, source: Path, *, alone: bool) -> None:
    """Bring a source in: of a folder or an archive that is the only source, what is in it."""
    if not source.exists():
        raise NotFoundError(f"there is no {source}")
    write = _writer(content)
    name = source.name.lower()
    if alone and source.is_file() and name.endswith(".zip"):
        _unzip(source, write)
    elif alone and source.is_file() and name.endswith(_TARS):
        _untar(source, content, write)
    else:
        source = source.resolve()
        for path, place in _walk(source, "" if alone and source.is_dir() else source.name):
            if path.is_dir():
                write(place, None, False)
            else:
                with path.open("rb") as reader:
                    write(place, reader, bool(path.stat().st_mode & 0o111))


def _alike(content: Path, folder: Path) -> bool:
    """Whether two folders hold the same; sizes are looked at before any byte is."""
    if not folder.is_dir():
        raise NotFoundError(f"there is no folder {folder}")
    if not content.is_dir():
        return False
    if content.samefile(folder):
        return True
    ours, theirs = ({place: path for path, place in _walk(top.resolve(), "")} for top in (content, folder))
    if ours.keys() != theirs.keys() or any(_facts(path) != _facts(theirs[place]) for place, path in ours.items()):
        return False
    return all(path.is_dir() or filecmp.cmp(path, theirs[place], shallow=False) for place, path in ours.items())


def _facts(path: Path) -> tuple[bool, int, bool]:
    status = path.stat()
    if path.is_dir():
        return (True, 0, False)
    return (False, status.st_size, bool(status.st_mode & 0o111))


def _walk(source: Path, place: str) -> Iterator[tuple[Path, str]]:
    if source.is_symlink() or not (source.is_dir() or source.is_file()):
        raise InvalidArgumentError(f"{source} is neither a file nor a folder; leave it out")
    if place:
        yield source, place
    if source.is_dir():
        for member in sorted(source.iterdir()):
            yield from _walk(member, os.path.join(place, member.name))


def _unzip(source: Path, write: Write) -> None:
    try:
        with open_zip(str(source)) as archive:
            _check_size(source, sum(e.file_size for e in archive.infolist()), largest(source.stat().st_size))
            for entry in archive.infolist():
                mode = entry.external_attr >> 16
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise InvalidArgumentError(f"{source.name}: {entry.filename!r} is neither a file nor a folder")
                if entry.is_dir():
                    write(entry.filename, None, False)
                else:
                    with archive.open(entry) as reader:
                        write(entry.filename, reader, bool(mode & 0o111))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise InvalidArgumentError(f"{source.name} is no ZIP archive that can be unpacked: {error}") from error


def _check_size(source: Path, size: int, limit: int) -> None:
    """Refuse what could only fill the disk, before it does."""
    if size > limit:
        raise InvalidArgumentError(f"{source.name} would unpack to {human_size(size)} or more; refused")


def _untar(source: Path, content: Path, write: Write) -> None:
    try:
        with open_tar(str(source)) as archive:
            size, room = 0, shutil.disk_usage(content).free
            for number, entry in enumerate(archive):
                if number >= MAX_ENTRIES:
                    raise InvalidArgumentError(f"{source.name} has more than {MAX_ENTRIES} files and folders")
                size += entry.size
                _check_size(source, size, room)
                if not (entry.isreg() or entry.isdir()):
                    raise InvalidArgumentError(f"{source.name}: {entry.name!r} is neither a file nor a folder")
                write(entry.name, archive.extractfile(entry) if entry.isreg() else None, bool(entry.mode & 0o111))
    except (tarfile.TarError, EOFError, LZMAError, ZlibError) as error:
        raise InvalidArgumentError(f"{source.name} is no tar archive that can be unpacked: {error}") from error


def _writer(content: Path) -> Write:
    def write(name: str, reader: IO[bytes] | None, executable: bool) -> None:
        if name.startswith("/") or "\0" in name or ".." in name.split("/"):
            raise InvalidArgumentError(f"{name!r} would leave the dataset")
        if name.count("/") > MAX_DEPTH:
            raise InvalidArgumentError(f"{name[:100]!r}… is more than {MAX_DEPTH} folders deep")
        place = content / name
        try:
            if reader is None:
                place.mkdir(parents=True, exist_ok=True)
                return
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as writer:
                shutil.copyfileobj(reader, writer, _CHUNK)
                os.fchmod(writer.fileno(), 0o755 if executable else 0o644)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise InvalidArgumentError(f"{name!r} is there twice, or a file and a folder at once") from error

    return write


def _seal(top: Path) -> Content:
    """Make it durable, readable by whatever user a job runs as, and nobody's to write; what it holds."""
    size = files = 0
    folders = list(_open_up(top))
    for folder in reversed(folders):
        for member in sorted(folder.iterdir()):
            status = member.lstat()
            if stat.S_ISREG(status.st_mode):
                size, files = size + status.st_size, files + 1
                member.chmod(0o555 if status.st_mode & 0o111 else 0o444)
                sync_file(member, Point.DATASET_SEALED)
        # The top itself is to be renamed yet, and that needs the right to write to it.
        folder.chmod(0o755 if folder == top else 0o555)
        sync_directory(folder, Point.DATASET_SEALED)
    return Content(size, files)


def _open_up(top: Path) -> Iterator[Path]:
    """Every folder, each before those in it, with all rights for this user; no link is followed."""
    top.chmod(0o700)
    yield top
    for member in sorted(top.iterdir()):
        if member.is_dir() and not member.is_symlink():
            yield from _open_up(member)


def _remove_tree(top: Path) -> None:
    if top.is_dir() and not top.is_symlink():
        for _ in _open_up(top):
            pass
        shutil.rmtree(top)


@contextmanager
def _told() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceExhaustedError(f"the dataset cannot be written: {error.strerror or error}") from error
