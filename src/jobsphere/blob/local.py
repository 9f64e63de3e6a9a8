"""Blobs as read-only files of one directory.

::

    <root>/<project_id>/<first two digits>/<sha256>   a blob: complete, verified, durable, mode 0444
    <root>/.incoming/<random>                         one that is being received; after a crash: rubbish
    <root>/.corrupted/<project_id>-<sha256>           one that was found to be damaged: for the operator to look at
    <root>/.trash/<project_id>/<sha256>               one that is out of reach while it is asked whether it may go
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from jobsphere.blob.durable import make_directories, put_in_place
from jobsphere.blob.incoming import READ_ONLY, Incoming, open_draft, remove_stale
from jobsphere.blob.paths import INCOMING, TRASH, blob_path, checked_hash, project_path, projects_in, trash_path
from jobsphere.blob.usage import blob_bytes
from jobsphere.domain.artifact import EMPTY_SHA256
from jobsphere.domain.errors import CorruptedError, InvalidArgumentError, NotFoundError
from jobsphere.domain.ports import FinishedFile
from jobsphere.durable import Point, durable, sync_directory

_CHUNK = 1 << 20
_LOOK_AGAIN_S = 60.0
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP})


class LocalBlobStore:
    """The :class:`jobsphere.domain.ports.BlobStore` of one machine.

    Making one tidies up after a crash: uploads that nobody carries on are removed, and blobs that were left out of
    reach come back, to be asked about by the next :meth:`remove` of their project.

    Args:
        root: Its directory; made if it is not there. To link finished files it must share a file system with them.
    """

    far = False

    def __init__(self, root: Path) -> None:
        self._root = root
        self._removing = asyncio.Lock()
        self._sizes: dict[str, tuple[float, int]] = {}
        self._looking = asyncio.Lock()
        make_directories(root)
        remove_stale(root / INCOMING)
        self._leftovers = self._bring_back_leftovers()

    async def missing(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        """Those of the hashes whose bytes the project does not hold."""
        return {h for h in sha256s if not blob_path(self._root, project_id, h).exists()}

    async def held(self, project_id: str) -> set[str]:
        """Every hash that the project holds. What a failed :meth:`remove` left out of reach comes back first."""
        async with self._removing:  # nobody else has anything out of reach
            return await asyncio.to_thread(self._held, project_id)

    async def receive(self, project_id: str, sha256: str, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Take the bytes in; the same blob may come several times at once. Holds some MiB in memory at most.

        Raises:
            InvalidArgumentError: they are not of that size or hash; nothing is kept.
            ResourceExhaustedError: no room; nothing is kept.
        """
        target = blob_path(self._root, project_id, sha256)
        incoming = Incoming(self._root / INCOMING / secrets.token_hex(16), sha256, size_bytes)
        try:
            await asyncio.to_thread(incoming.open)
            await incoming.take(chunks)
            new = not target.exists()
            await asyncio.to_thread(incoming.finish, target)
            self._count(project_id, size_bytes if new else 0)
        finally:
            await asyncio.shield(asyncio.to_thread(incoming.discard))

    async def adopt(self, project_id: str, files: Sequence[FinishedFile]) -> None:
        """Take over finished, fsynced files of this host: by a hard link, or a copy where that cannot be.

        Raises:
            NotFoundError: neither a file nor its blob is there.
            CorruptedError: a file is not a regular file of that size.
        """
        self._count(project_id, await asyncio.to_thread(self._adopt_all, project_id, files))

    async def read(self, project_id: str, sha256: str) -> Path:
        """The blob as a read-only file of this host.

        Raises:
            NotFoundError: the project does not hold it.
        """
        path = blob_path(self._root, project_id, sha256)
        if not path.exists():
            raise NotFoundError("the project does not hold this file; its data may have been cleared")
        return path

    async def remove(
        self, project_id: str, sha256s: Iterable[str], wanted: Callable[[set[str]], Awaitable[set[str]]]
    ) -> None:
        """Free the bytes of blobs that nobody refers to; see the port. A refusal of ``wanted`` puts all back."""
        hashes = {checked_hash(h) for h in sha256s}
        async with self._removing:
            hashes |= self._leftovers.pop(project_id, set())
            hidden = await asyncio.to_thread(self._hide, project_id, hashes)
            keep = hidden
            try:
                keep = hidden and await wanted(hidden)
            finally:
                freed = await asyncio.shield(asyncio.to_thread(self._settle, project_id, hidden, keep))
                self._count(project_id, -freed)

    async def stored_bytes(self, project_id: str) -> int:
        """See :class:`jobsphere.domain.quota_ports.StoredBytes`: looked up now and then, counted in between."""
        async with self._looking:
            looked_at, size = self._sizes.setdefault(project_id, (-_LOOK_AGAIN_S, 0))
            if time.monotonic() - looked_at > _LOOK_AGAIN_S:
                found = await asyncio.to_thread(blob_bytes, self._root, project_id)
                # What came during the look may have been passed by already: rather twice than not at all.
                came = max(self._sizes.get(project_id, (looked_at, size))[1] - size, 0)
                self._sizes[project_id] = (time.monotonic(), found + came)
            return self._sizes[project_id][1]

    async def projects(self) -> Sequence[str]:
        """The ids of all projects that may hold a blob."""
        return projects_in(self._root)

    async def drop(self, project_id: str) -> None:
        """Free all bytes of a project that is gone."""
        async with self._removing:
            self._leftovers.pop(project_id, None)
            self._sizes.pop(project_id, None)
            for folder in (project_path(self._root, project_id), trash_path(self._root, project_id)):
                # What cannot be removed now is found by the sweep of the next start.
                with durable(Point.BLOBS_DROPPED):
                    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    def _held(self, project_id: str) -> set[str]:
        self._bring_back(project_id)
        return {path.name for path in project_path(self._root, project_id).glob("??/*")}

    def _count(self, project_id: str, more: int) -> None:
        if project_id in self._sizes:
            looked_at, size = self._sizes[project_id]
            self._sizes[project_id] = (looked_at, max(size + more, 0))

    def _adopt_all(self, project_id: str, files: Sequence[FinishedFile]) -> int:
        """How many bytes are new."""
        targets = [blob_path(self._root, project_id, file.sha256) for file in files]
        new = sum(self._adopt(target, file) for target, file in zip(targets, files, strict=True))
        # Also for a blob that was there: a crash may have come between its link and this.
        for folder in {target.parent for target in targets}:
            sync_directory(folder, Point.BLOB_ADOPTED)
        return new

    def _adopt(self, target: Path, file: FinishedFile) -> int:
        make_directories(target.parent)
        if target.exists():
            return 0
        try:
            if file.sha256 == EMPTY_SHA256:
                self._copy(Path(os.devnull), target)
            else:
                self._link(target, file.size_bytes, file.path)
        except FileNotFoundError:
            # A repeat of this call may have taken it over in between, and the file was removed then.
            if not target.exists():
                raise NotFoundError("the file to be kept is gone", path=str(file.path)) from None
        return file.size_bytes

    def _link(self, target: Path, size_bytes: int, path: Path) -> None:
        check_file(path, size_bytes)
        os.chmod(path, READ_ONLY)
        try:
            with durable(Point.BLOB_ADOPTED):
                os.link(path, target, follow_symlinks=False)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy(path, target)

    def _copy(self, path: Path, target: Path) -> None:
        """For what cannot be linked to: the bytes under a name of their own first."""
        draft = self._root / INCOMING / secrets.token_hex(16)
        try:
            with open(open_draft(draft), "wb") as writer, path.open("rb") as reader:
                shutil.copyfileobj(reader, writer, _CHUNK)
                writer.flush()
                os.fchmod(writer.fileno(), READ_ONLY)
                with durable(Point.BLOB_ADOPTED):
                    os.fsync(writer.fileno())
                put_in_place(draft, target)
        finally:
            draft.unlink(missing_ok=True)

    def _hide(self, project_id: str, hashes: set[str]) -> set[str]:
        """Put the blobs out of reach. Also answers those that an earlier call left there."""
        trash = trash_path(self._root, project_id)
        trash.mkdir(parents=True, exist_ok=True)
        for sha256 in hashes:
            _move(blob_path(self._root, project_id, sha256), trash / sha256, Point.BLOB_HIDDEN)
        return {entry.name for entry in trash.iterdir()}

    def _settle(self, project_id: str, hidden: set[str], keep: set[str]) -> int:
        """How many bytes were freed."""
        freed = 0
        trash = trash_path(self._root, project_id)
        for sha256 in hidden & keep:
            _move(trash / sha256, blob_path(self._root, project_id, sha256), Point.BLOB_KEPT)
            # It may have been adopted anew meanwhile: to rename one link of a file to another does nothing.
            (trash / sha256).unlink(missing_ok=True)
        for sha256 in hidden - keep:
            with suppress(FileNotFoundError), durable(Point.BLOB_FREED):
                size = (trash / sha256).lstat().st_size
                (trash / sha256).unlink()
                freed += size
        return freed

    def _bring_back_leftovers(self) -> dict[str, set[str]]:
        """What a crash left out of reach may be referred to by now: bring it back, and remember to ask about it."""
        trash = self._root / TRASH
        trash.mkdir(exist_ok=True)
        return {project.name: self._bring_back(project.name) for project in trash.iterdir()}

    def _bring_back(self, project_id: str) -> set[str]:
        """Put within reach what is out of it, while nobody asks about it: which blobs."""
        trash = trash_path(self._root, project_id)
        left = {entry.name for entry in trash.iterdir()} if trash.is_dir() else set[str]()
        self._settle(project_id, left, left)
        return left


def check_file(path: Path, size_bytes: int) -> None:
    """The outbox is written by a supervisor, after a program that may have done anything: look before taking it.

    Raises:
        FileNotFoundError: it is not there.
        InvalidArgumentError, CorruptedError: it is no regular file, or not of that size.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise InvalidArgumentError("only a regular file can be kept", path=str(path))
    if found.st_size != size_bytes:
        raise CorruptedError(
            f"the file to be kept has {found.st_size} bytes, while {size_bytes} were recorded", path=str(path)
        )


def _move(source: Path, target: Path, point: Point) -> None:
    """Rename, and take it calmly if the file is not there: the step was done before."""
    try:
        with durable(point):
            os.rename(source, target)
    except FileNotFoundError:
        if source.exists():
            raise
