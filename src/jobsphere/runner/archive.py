"""Folders as ZIP archives, both ways, and nothing but folders and files in them."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from jobsphere.archives import MAX_ENTRIES, largest, open_zip
from jobsphere.domain.limits import GIB, MAX_DEPTH, human_size
from jobsphere.runner.folders import JobFolders, Member, UnreachableError

MAX_UNPACKED_BYTES = 100 * GIB
_CHUNK = 1 << 20
_SMALL = 64 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ArchiveError(Exception):
    """The archive cannot be unpacked or made; the text says why, for the user."""


def unpack(archive: str, parent: str, check: Callable[[], None]) -> int:
    """Unpack below ``parent``; how many entries there were. Files keep their executable bits.

    ``check`` is called now and then and may raise to end it.

    Raises:
        ArchiveError: not a ZIP, an entry that would leave ``parent`` or is no file and no folder, too large, or two
            entries (or an entry and a file that is there) in each other's way.
    """
    try:
        with open_zip(archive) as source:
            entries = source.infolist()
            _check_size(entries, os.stat(archive).st_size)
            for entry in entries:
                check()
                _unpack_entry(source, entry, parent, check)
            return len(entries)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError) as error:
        raise ArchiveError(f"not a ZIP archive that can be unpacked: {error}") from error


def _check_size(entries: list[zipfile.ZipInfo], packed: int) -> None:
    total = sum(e.file_size for e in entries)
    if total > min(MAX_UNPACKED_BYTES, largest(packed)):
        raise ArchiveError(f"its {human_size(packed)} would unpack to {human_size(total)}; refused")


def _unpack_entry(source: zipfile.ZipFile, entry: zipfile.ZipInfo, parent: str, check: Callable[[], None]) -> None:
    name, mode = entry.filename, entry.external_attr >> 16
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise ArchiveError(f"its entry {name!r} would leave the folder")
    if name.rstrip("/").count("/") > MAX_DEPTH:
        raise ArchiveError(f"its entry {name[:100]!r}… is more than {MAX_DEPTH} folders deep")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveError(f"its entry {name!r} is neither a file nor a folder")
    target = os.path.join(parent, name)
    try:
        if entry.is_dir():
            Path(target).mkdir(parents=True, exist_ok=True)
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with source.open(entry) as reader, open(target, "xb") as writer:
            while data := reader.read(_CHUNK):
                check()
                writer.write(data)
            os.fchmod(writer.fileno(), 0o644 | (mode & 0o111))
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise ArchiveError(f"its entry {name!r} is in the way of another file of the same name") from error


class FolderPacker:
    """Packs the folders of one job; equal folders give equal bytes, whenever they were written.

    Args:
        folders: The job's: nothing outside of them is packed.
        limit: No archive larger than this.
    """

    def __init__(self, folders: JobFolders, limit: int) -> None:
        self._folders = folders
        self._limit = limit
        self._entries = self._bytes = 0
        self._problems: list[str] = []

    def pack(self, folder: Member, name: str, target: str) -> list[str]:
        """Write the ZIP of ``folder`` to ``target``; each entry begins with ``name/``.

        Returns:
            What could not be packed, a sentence each: links that lead out or nowhere, devices, sockets, FIFOs.

        Raises:
            ArchiveError: larger than the limit, or more of it (with those packed before) than could ever be unpacked.
        """
        self._entries, self._problems = 0, []
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for member, entry in self._walk(folder, name, 1):
                self._add(archive, member, entry)
        return self._problems

    def _walk(self, folder: Member, name: str, depth: int) -> Iterator[tuple[Member, str]]:
        """Every folder (its entry ends in ``/``) and file."""
        yield folder, f"{name}/"
        if depth > MAX_DEPTH:
            self._leave_out(name, f"more than {MAX_DEPTH} folders deep")
            return
        taken: set[str] = set()
        for member_name in folder.member_names():
            entry = f"{name}/{_shown(member_name)}"
            if entry in taken:
                self._leave_out(entry, "another file has the same name but for bytes that are no UTF-8")
                continue
            taken.add(entry)
            try:
                with self._folders.open_member(folder, member_name) as member:
                    if member.is_folder:
                        yield from self._walk(member, entry, depth + 1)
                    elif member.is_file:
                        yield member, entry
                    else:
                        self._leave_out(entry, "neither a file nor a folder")
            except UnreachableError as problem:
                self._leave_out(entry, str(problem))

    def _leave_out(self, entry: str, why: str) -> None:
        """Names are a program's: no line break and no control character of theirs goes into a log or a terminal."""
        self._problems.append(f"{entry!r}: {why}")

    def _add(self, archive: zipfile.ZipFile, member: Member, entry: str) -> None:
        mode = member.status.st_mode
        info = zipfile.ZipInfo(entry, _EPOCH)
        info.external_attr = (stat.S_IFMT(mode) | (mode & 0o777)) << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        self._count(member)
        if member.is_folder:
            info.external_attr |= 0x10
            archive.writestr(info, b"", zipfile.ZIP_STORED)
            return
        info.file_size = member.status.st_size
        with open(member.open(), "rb") as reader, archive.open(info, "w") as writer:
            while data := reader.read(_CHUNK):
                writer.write(data)
                self._check_limit(archive)

    def _count(self, member: Member) -> None:
        """Sparse files and links to folders make much of little: what nobody could unpack is not packed."""
        self._entries += 1
        size = member.status.st_size if member.is_file else 0
        if self._entries > MAX_ENTRIES:
            raise ArchiveError(f"more than {MAX_ENTRIES} files and folders; pack them into one file")
        if self._bytes + size > MAX_UNPACKED_BYTES:
            raise ArchiveError(f"the files of the job's folders are more than {human_size(MAX_UNPACKED_BYTES)}")
        self._bytes += size

    def _check_limit(self, archive: zipfile.ZipFile) -> None:
        size = archive.fp.tell() if archive.fp else 0
        if size > self._limit:
            raise ArchiveError(f"larger than {human_size(self._limit)}, the limit for one file, even packed")


def is_inside(path: str, root: str) -> bool:
    """Whether a resolved path is ``root`` or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def file_sha256(path: str) -> tuple[str, int]:
    """The SHA-256 of a file and its size."""
    with open(path, "rb", buffering=0) as file:
        if os.fstat(file.fileno()).st_size <= _SMALL:  # a large buffer would cost more than the file
            data = file.readall()
            return hashlib.sha256(data).hexdigest(), len(data)
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


def remove_tree(path: str) -> None:
    """Remove a folder and all below it, however deep, also what its program left without permissions.

    What has members of its own is moved up first: no path becomes too long, and no folder is held open.

    Raises:
        OSError: it cannot be removed. EBUSY: something is mounted there (a bucket, perhaps); nothing of it is touched.
    """
    try:
        status = os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(path)
            return
    except FileNotFoundError:
        return
    _refuse_mount(status.st_dev, os.stat(os.path.dirname(os.path.abspath(path))).st_dev, path)
    mark, count = f".{os.urandom(8).hex()}-", 0
    os.chmod(path, 0o700)
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left = _clear(top)
        while left:
            name = left.pop()
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            try:
                _refuse_mount(os.fstat(folder).st_dev, status.st_dev, name)
                for child in _clear(folder):
                    count += 1
                    os.rename(child, f"{mark}{count}", src_dir_fd=folder, dst_dir_fd=top)
                    left.append(f"{mark}{count}")
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    Path(path).rmdir()


def _refuse_mount(device: int, around: int, name: str) -> None:
    if device != around:
        raise OSError(errno.EBUSY, "something is mounted there; it is not removed", name)


def _clear(folder: int) -> list[str]:
    """Remove what can go at once; the names of the folders that still have members, each with its permissions back."""
    left: list[str] = []
    for name in os.listdir(folder):
        try:
            os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            try:
                os.rmdir(name, dir_fd=folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                os.chmod(name, 0o700, dir_fd=folder)
                left.append(name)
    return left


def _shown(name: str) -> str:
    """A name as text: bytes that are no UTF-8 are replaced."""
    return os.fsencode(name).decode(errors="replace")
