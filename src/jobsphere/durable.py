"""The steps that a crash may come between: each has a name here, and is done within ``with durable(Point.…):``.

Whatever makes something last (a sync, a rename, a link, a commit), or must not happen twice (a claim, the start of a
program), is such a step; a test reads the sources and finds one that is not. Tests have themselves told of each step,
and kill the process before it or after it. In production nobody is told, and a step costs about a microsecond.

Standard library only: supervisors use it too.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path


class Point(StrEnum):
    """All the steps, by whose they are. One that consists of several system calls is told of at each of them."""

    SERVER_KEY = "server.key"
    SERVER_INFO = "server.info"
    SERVER_DATABASE = "server.database"
    SECRETS_KEY = "secrets.key"
    TLS_FILE = "tls.file"
    RAY_INTENDED = "ray.intended"
    NODE_TOLD = "node.told"

    STORE_SCHEMA = "store.schema"
    STORE_COMMIT = "store.commit"
    STORE_CLOSE = "store.close"

    BLOB_RECEIVED = "blob.received"
    BLOB_FOLDER = "blob.folder"
    BLOB_PLACED = "blob.placed"
    BLOB_ADOPTED = "blob.adopted"
    BLOB_SET_ASIDE = "blob.set-aside"
    BLOB_HIDDEN = "blob.hidden"
    BLOB_KEPT = "blob.kept"
    BLOB_FREED = "blob.freed"
    BLOBS_DROPPED = "blobs.dropped"
    OBJECT_PUT = "object.put"
    OBJECT_DELETED = "object.deleted"
    DATASET_SEALED = "dataset.sealed"
    DATASET_PLACED = "dataset.placed"
    DATASET_REMOVED = "dataset.removed"
    DISK_FILE = "disk.file"

    ATTEMPT_MADE = "attempt.made"
    ATTEMPT_NOTE = "attempt.note"
    ATTEMPT_CLAIM = "attempt.claim"
    ATTEMPT_RECORD = "attempt.record"
    ATTEMPT_RESERVE = "attempt.reserve"
    ATTEMPT_CLEARED = "attempt.cleared"
    ATTEMPT_TIDIED = "attempt.tidied"
    ATTEMPT_REMOVED = "attempt.removed"
    SLURM_SUBMIT = "slurm.submit"
    PROGRAM_START = "program.start"
    LOG_SYNC = "log.sync"
    SYSTEM_FILES = "system-files"
    OUTPUT_LINKED = "output.linked"
    OUTPUT_PACKED = "output.packed"
    OUTPUT_DATASET = "output.dataset"
    OUTPUT_SYNC = "output.sync"
    TREE_FLATTENED = "tree.flattened"

    ENVIRONMENT_SYNC = "environment.sync"
    ENVIRONMENT_RECORD = "environment.record"
    ENVIRONMENT_CLEARED = "environment.cleared"
    CACHE_DROPPED = "cache.dropped"
    PORTABLE_MADE = "portable.made"
    IMAGE_RECORD = "image.record"


Observer = Callable[[Point, bool], None]
"""Called with a step, before it (False) and after it (True), in the thread that does it."""

_observers: list[Observer] = []


def observe(observer: Observer) -> None:
    """Have every step of this process, and of those forked from it, told to ``observer``. For tests."""
    _observers.append(observer)


class durable:  # noqa: N801  reads as a statement
    """The context in which one step is done; ``after`` it only if it came to its end."""

    __slots__ = ("_point",)

    def __init__(self, point: Point) -> None:
        self._point = point

    def __enter__(self) -> None:
        if _observers:
            self._tell(done=False)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if _observers and kind is None:
            self._tell(done=True)

    def _tell(self, *, done: bool) -> None:
        for observer in _observers:
            observer(self._point, done)


def sync_directory(path: str | os.PathLike[str], point: Point) -> None:
    """Make the names that were given or taken in a directory last. Blocks."""
    _sync(path, os.O_DIRECTORY, point)


def sync_file(path: str | os.PathLike[str], point: Point) -> None:
    """Make what is in a file last; a link is not followed. Blocks."""
    _sync(path, os.O_NOFOLLOW, point)


def _sync(path: str | os.PathLike[str], flag: int, point: Point) -> None:
    fd = os.open(path, os.O_RDONLY | flag | os.O_CLOEXEC)
    try:
        with durable(point):
            os.fsync(fd)
    finally:
        os.close(fd)


def write_private(path: Path, content: bytes, point: Point, *, mode: int = 0o600) -> None:
    """Put a small file in place, whole and lasting or not at all. The caller keeps others from it (:func:`locked`).

    What a killed writer left is written over: the draft has one name.
    """
    draft = path.with_name(f"{path.name}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        os.fchmod(fd, mode)
        file.write(content)
        file.flush()
        with durable(point):
            os.fsync(fd)
    with durable(point):
        os.replace(draft, path)
    sync_directory(path.parent, point)


def ensure_private(path: Path, make: Callable[[], bytes], point: Point, *, mode: int = 0o600) -> bool:
    """See to it that a small file is there, whole and lasting: whether it was made now.

    Of any number that do so at once, on one host or on several that share the folder, one makes it. What a killed one
    leaves is a draft that nobody reads, and goes as soon as the file is there.
    """
    if path.exists():
        _drop_drafts(path)
        return False
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            os.fchmod(fd, mode)
            file.write(make())
            file.flush()
            with durable(point):
                os.fsync(fd)
        with durable(point):
            os.link(draft, path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        if path.exists():  # another was first, and somebody has removed all drafts since
            return False
        raise
    finally:
        draft.unlink(missing_ok=True)
    _drop_drafts(path)
    sync_directory(path.parent, point)
    return True


def _drop_drafts(path: Path) -> None:
    """Whoever still writes one has lost, and looks whether the file is there."""
    for left in path.parent.glob(f".{path.name}.*.new"):
        left.unlink(missing_ok=True)


def open_lock(path: str | os.PathLike[str]) -> int:
    """Open a lock file, made if need be. The descriptor is not inherited by programs."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def lock_is_free(fd: int, kind: int) -> bool:
    """Take the lock (``fcntl.LOCK_SH`` or ``LOCK_EX``) if nobody is in the way: whether it is held now."""
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def share(path: str | os.PathLike[str], pause: Callable[[], None]) -> int:
    """Take a shared lock; ``pause`` again and again while somebody holds it alone: its descriptor."""
    fd = open_lock(path)
    try:
        while not lock_is_free(fd, fcntl.LOCK_SH):
            pause()
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def alone(path: str | os.PathLike[str]) -> Generator[bool]:
    """Hold the lock alone, if nobody has it: whether that is so.

    The file stays for ever: to remove it would let two processes hold two locks of one name.
    """
    fd = open_lock(path)
    try:
        yield lock_is_free(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


@contextmanager
def locked_file(path: str | os.PathLike[str]) -> Generator[None]:
    """Hold the lock alone, however long that takes to get. The file stays, as with :func:`alone`."""
    fd = open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Generator[None]:
    """Be the only process of this host in here, for this folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
