"""Folders as ZIP archives, both ways, and nothing but folders and files in them."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from jobsphere.domain.limits import GIB, human_size

MAX_UNPACKED_BYTES = 100 * GIB
MAX_RATIO = 1100
"""Deflate cannot pack better than 1032 to 1: more means that entries overlap."""
RATIO_APPLIES_FROM = GIB
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
        with zipfile.ZipFile(archive) as source:
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
    limit = min(MAX_UNPACKED_BYTES, max(RATIO_APPLIES_FROM, packed * MAX_RATIO))
    if total > limit:
        raise ArchiveError(f"its {human_size(packed)} would unpack to {human_size(total)}; refused")


def _unpack_entry(source: zipfile.ZipFile, entry: zipfile.ZipInfo, parent: str, check: Callable[[], None]) -> None:
    name, mode = entry.filename, entry.external_attr >> 16
    if name.startswith("/") or "\0" in name or ".." in name.split("/"):
        raise ArchiveError(f"its entry {name!r} would leave the folder")
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
    """Packs one folder; equal folders give equal bytes, whenever they were written.

    Args:
        root: The job's root: a link that leads out of it is not followed.
        limit: No archive larger than this.
    """

    def __init__(self, root: str, limit: int) -> None:
        self._root = os.path.realpath(root)
        self._limit = limit
        self.problems: list[str] = []
        """What could not be packed, a sentence each: links that lead out or nowhere, devices, sockets, FIFOs."""

    def pack(self, folder: str, name: str, target: str) -> None:
        """Write the ZIP of ``folder`` to ``target``; each entry begins with ``name/``.

        Raises:
            ArchiveError: larger than the limit.
        """
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path, entry in self._walk(folder, name, (os.path.realpath(folder),)):
                self._add(archive, path, entry)

    def _walk(self, folder: str, name: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Every folder (its entry ends in ``/``) and file; ``above`` are the folders on the way, against loops."""
        yield folder, f"{name}/"
        with os.scandir(folder) as members:
            ordered = sorted(members, key=lambda m: m.name)
        for member in ordered:
            entry = f"{name}/{member.name}"
            real = os.path.realpath(member.path) if member.is_symlink() else member.path
            if member.is_symlink() and (problem := self._link_problem(real, above)):
                self.problems.append(f"{_shown(entry)}: {problem}")
            elif os.path.isdir(real):
                yield from self._walk(real, entry, (*above, real))
            elif os.path.isfile(real):
                yield real, entry
            else:
                self.problems.append(f"{_shown(entry)}: neither a file nor a folder")

    def _link_problem(self, real: str, above: tuple[str, ...]) -> str | None:
        if not is_inside(real, self._root):
            return "a link that leads out of the job's folders; it is not followed"
        if not os.path.exists(real):
            return "a link to nothing"
        if any(is_inside(folder, real) for folder in above):
            return "a link to a folder that it lies in"
        return None

    def _add(self, archive: zipfile.ZipFile, path: str, entry: str) -> None:
        status = os.stat(path)
        info = zipfile.ZipInfo(_shown(entry), _EPOCH)
        info.external_attr = (status.st_mode & 0xFFFF) << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        info.file_size = status.st_size
        if entry.endswith("/"):
            info.external_attr |= 0x10
            archive.writestr(info, b"", zipfile.ZIP_STORED)
            return
        with open(path, "rb") as reader, archive.open(info, "w") as writer:
            while data := reader.read(_CHUNK):
                writer.write(data)
                self._check_limit(archive)

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
    """Remove a folder and all below it, also what its program left without permissions."""

    def again(action: Callable[..., object], place: str, _: object) -> None:
        os.chmod(os.path.dirname(place), 0o700)
        if stat.S_ISDIR(os.lstat(place).st_mode):
            os.chmod(place, 0o700)
        if action in (os.open, os.scandir, os.lstat):
            shutil.rmtree(place)
        else:
            action(place)

    if os.path.lexists(path):
        shutil.rmtree(path, onerror=again)


def _shown(name: str) -> str:
    """A name as text: bytes that are no UTF-8 are replaced."""
    return os.fsencode(name).decode(errors="replace")
