"""One blob on its way in: written and hashed in a thread while the next bytes arrive."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import threading
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from jobsphere.blob.durable import put_in_place
from jobsphere.blob.promised import Promised
from jobsphere.domain.errors import ResourceExhaustedError, UnavailableError
from jobsphere.domain.limits import human_size
from jobsphere.durable import Point, durable

BATCH_BYTES = 1 << 20
READ_ONLY = 0o444
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Incoming:
    """A file that becomes a blob if its bytes are the promised ones. Its methods block, save :meth:`take`.

    The lock is for a cancelled upload: the thread that writes its last batch may still be at it when it is discarded.
    """

    def __init__(self, path: Path, sha256: str, size_bytes: int) -> None:
        self._path = path
        self._promised = Promised(sha256, size_bytes)
        self._lock = threading.Lock()
        self._fd = -1

    def open(self) -> None:
        """Make the file.

        Raises:
            ResourceExhaustedError: the disk has no room for as many bytes as are promised.
        """
        free, size = _free_bytes(self._path.parent), self._promised.size_bytes
        if size > free:
            raise ResourceExhaustedError(
                f"the server's disk has {human_size(free)} left, and the file has {human_size(size)}; "
                "free some data, e.g. of old jobs, and try again"
            )
        with _room():
            self._fd = open_draft(self._path)

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Write all the chunks: one batch in a thread at a time, while the next one is gathered.

        Raises:
            InvalidArgumentError: more bytes came than were promised.
            ResourceExhaustedError: the disk is full.
            UnavailableError: it cannot be written now.
        """
        batch: list[bytes] = []
        gathered = 0
        writing: list[asyncio.Future[None]] = []
        try:
            async for chunk in chunks:
                self._promised.count(len(chunk))
                batch.append(chunk)
                gathered += len(chunk)
                if gathered >= BATCH_BYTES:
                    await asyncio.gather(*writing)
                    writing = [asyncio.ensure_future(asyncio.to_thread(self._write, batch))]
                    batch, gathered = [], 0
            await asyncio.gather(*writing)
            await asyncio.to_thread(self._write, batch)
        finally:
            # Whatever ended it: no thread writes on, and the error of a batch is not left unseen beside another one.
            await asyncio.gather(*writing, return_exceptions=True)

    def finish(self, target: Path) -> None:
        """Check what came, and make it durable as ``target``.

        Raises:
            InvalidArgumentError: the bytes are not of the promised size or hash.
        """
        self._promised.check()
        with self._lock, _room():
            os.fchmod(self._fd, READ_ONLY)
            with durable(Point.BLOB_RECEIVED):
                os.fsync(self._fd)
            put_in_place(self._path, target)

    def discard(self) -> None:
        """Let go of the file, and remove it unless it has become a blob. May be called whatever happened before."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            self._path.unlink(missing_ok=True)

    def _write(self, batch: Sequence[bytes]) -> None:
        with self._lock, _room():
            for chunk in batch:
                if self._fd < 0:
                    return
                self._promised.hash(chunk)
                _write_all(self._fd, chunk)


def open_draft(path: Path) -> int:
    """Make a file that its lock shows to be in the making, for as long as the descriptor is open."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def remove_stale(folder: Path) -> None:
    """Make the folder of drafts, or remove from it those whose makers are gone."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except OSError:  # it is under way; or this file system cannot tell (over NFS, of a file that is only read)
        return
    finally:
        os.close(fd)


@contextmanager
def _room() -> Generator[None]:
    """Turn the system's errors about a disk that is full, or cannot be written, into the domain's."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EROFS:
            raise UnavailableError(
                "the server's disk cannot be written: Read-only file system; try again later"
            ) from error
        if error.errno not in _NO_ROOM:
            raise
        raise ResourceExhaustedError(
            "the server's disk is full; free some data, e.g. of old jobs, and try again"
        ) from error


def _free_bytes(path: Path) -> int:
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def _write_all(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]
