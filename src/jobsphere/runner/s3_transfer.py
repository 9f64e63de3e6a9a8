"""Moves what is below a prefix of a bucket into a folder, and what was changed there back: a program of its own.

``python -m jobsphere.runner.s3_transfer look|fetch|store FOLDER MANIFEST``, with the bucket and its keys as JSON in the
variable ``JOBSPHERE_S3`` (see :class:`Bucket`). It writes a summary, or the error of the bucket, to stdout; the
code says which.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from jobsphere.domain.limits import human_size

VARIABLE = "JOBSPHERE_S3"
_AT_ONCE = 8
_ERROR_CHARS = 800
_RETRIES: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
Manifest = dict[str, list[int]]
"""By path: inode, size and time of change, as they were when the file was fetched."""


class TransferError(Exception):
    """It cannot be done; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where objects are. Without keys, requests are not signed."""

    name: str
    endpoint: str = ""
    region: str = ""
    prefix: str = ""
    access_key: str = ""
    secret_key: str = ""

    def open(self) -> S3Store:
        """The objects below the prefix."""
        options: dict[str, Any] = {"region": self.region or "us-east-1"}
        if self.endpoint:
            options |= {"endpoint": self.endpoint}
        if self.access_key:
            options |= {"access_key_id": self.access_key, "secret_access_key": self.secret_key}
        else:
            options |= {"skip_signature": True}
        allowed: Any = {"allow_http": self.endpoint.startswith("http://"), "connect_timeout": "10s", "timeout": "300s"}
        return S3Store(self.name, prefix=self.prefix or None, client_options=allowed, retry_config=_RETRIES, **options)


def look(bucket: S3Store) -> None:
    """Find out whether its objects can be listed."""
    next(iter(obstore.list(bucket, chunk_size=1)), None)


def fetch(bucket: S3Store, folder: str) -> tuple[Manifest, int]:
    """Bring all objects; what there is then, and how many bytes that is."""
    objects = {str(meta["path"]): int(meta["size"]) for chunk in obstore.list(bucket) for meta in chunk}
    paths = [path for path, size in objects.items() if size or not _is_marker(path, objects)]
    _check(paths)
    total, free = sum(objects.values()), shutil.disk_usage(folder).free
    if total > free:
        raise TransferError(f"it holds {human_size(total)}, while this machine has {human_size(free)} of room")

    def bring(path: str) -> tuple[str, list[int]]:
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "xb") as file:
            file.writelines(obstore.get(bucket, path).stream())
            file.flush()
            return path, _state(os.fstat(file.fileno()))

    return dict(_all(bring, paths)), total


def store(bucket: S3Store, folder: str, before: Manifest) -> tuple[int, int]:
    """Write what is new or changed, remove what is gone: how many of each. Links are not followed."""
    now = dict(_files(folder))
    changed = [path for path, status in now.items() if _state(status) != before.get(path)]
    gone = [path for path in before if path not in now]

    def bring(path: str) -> None:
        fd = os.open(os.path.join(folder, path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            obstore.put(bucket, path, file)

    _all(bring, changed)
    _all(lambda path: obstore.delete(bucket, path), gone)
    return len(changed), len(gone)


def _is_marker(path: str, objects: Iterable[str]) -> bool:
    """Whether an empty object only stands for a folder, as consoles make them."""
    return any(other.startswith(f"{path.rstrip('/')}/") and other != path for other in objects)


def _check(paths: list[str]) -> None:
    for path in paths:
        parts = path.split("/")
        if "\0" in path or any(part in ("", ".", "..") or len(os.fsencode(part)) > 255 for part in parts):
            raise TransferError(f"the object {path[:200]!r} cannot be a file")
    known = set(paths)
    for path in paths:
        parts = path.split("/")
        above = next((p for n in range(1, len(parts)) if (p := "/".join(parts[:n])) in known), None)
        if above is not None:
            raise TransferError(f"{above!r} is an object and the folder of {path!r} at once")


def _all(act: Callable[[str], Any], paths: list[str]) -> list[Any]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(act, paths))


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    for top, _, names, fd in os.fwalk(folder):
        for name in names:
            path = os.path.relpath(os.path.join(top, name), folder)
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISREG(status.st_mode):
                yield path, status
            else:
                print(f"not written, for it is no file: {path!r}")  # noqa: T201


def _state(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def main(argv: list[str]) -> int:
    """The command; its exit code."""
    verb, folder, manifest = argv
    bucket = Bucket(**json.loads(os.environ.pop(VARIABLE)))
    try:
        if verb == "look":
            look(bucket.open())
            print(f"what was written is in the bucket {bucket.name}")  # noqa: T201
        elif verb == "fetch":
            found, size = fetch(bucket.open(), folder)
            with open(manifest, "w", encoding="utf-8", errors="surrogateescape") as file:
                json.dump(found, file)
            print(f"{_count(len(found))} ({human_size(size)}) brought from the bucket {bucket.name}")  # noqa: T201
        else:
            with open(manifest, encoding="utf-8", errors="surrogateescape") as file:
                before = cast("Manifest", json.load(file))
            written, removed = store(bucket.open(), folder, before)
            print(f"{_count(written)} written to the bucket {bucket.name}, {removed} removed from it")  # noqa: T201
    except (TransferError, OSError, BaseError, ValueError) as error:
        print(_words(error))  # noqa: T201
        return 1
    return 0


def _count(files: int) -> str:
    return "1 file" if files == 1 else f"{files} files"


def _words(error: Exception) -> str:
    """The error in one line, without what only the library's authors want to know."""
    text = str(error).partition("\n\nDebug source")[0]
    return re.sub(r"\s+", " ", text).strip()[:_ERROR_CHARS]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
