"""Objects below a prefix of a bucket, by obstore: S3 and what speaks like it, Google Cloud Storage, Azure.

Only what all of them do is used: put, multipart put, ranged get, list, delete, create if absent, signed URLs.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import AzureStore, GCSStore, S3Store

from jobsphere.blob.promised import Promised
from jobsphere.domain.errors import FailedPreconditionError, UnavailableError
from jobsphere.durable import Point, durable

PART_BYTES = 8 << 20
"""What travels in one request; up to so much an object is put whole."""
_PARTS_AT_ONCE = 4
_CALLS_AT_ONCE = 32
_SENDS_AT_ONCE = 8
"""Each holds some parts in memory."""
_ERROR_CHARS = 800
_KINDS = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the objects are. ``scheme``: s3, gs or az; ``options``: obstore's own for it, keys among them."""

    scheme: str
    bucket: str
    prefix: str = ""
    options: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    def text(self) -> str:
        """All of it, keys too."""
        return json.dumps(asdict(self))

    @staticmethod
    def of(text: str) -> Place:
        """What :meth:`text` gave."""
        return Place(**json.loads(text))

    def open(self, patience: timedelta = timedelta(seconds=5)) -> Objects:
        """The objects there. ``patience``: for how long a call is tried again while the service fails.

        Raises:
            FailedPreconditionError: the library does not take the options.
        """
        client: Any = {
            "allow_http": self.options.get("endpoint", "").startswith("http://"),
            "connect_timeout": "5s",
            "timeout": "60s",
        }
        retries: Any = {
            "max_retries": max(int(patience.total_seconds()), 2),
            "retry_timeout": patience,
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
        }
        kind: Any = _KINDS[self.scheme]
        how = {"client_options": client, "retry_config": retries, **self.options}
        try:
            return Objects(kind(self.bucket, prefix=self.prefix or None, **how))
        except UnknownConfigurationKeyError as error:
            raise FailedPreconditionError(f"setting blobs_key_file: {_words(error)}") from error
        except BaseError as error:  # its words may hold a part of a key
            what = f"not what a bucket of {self.scheme}:// needs ({type(error).__name__})"
            raise FailedPreconditionError(
                f"setting blobs_key_file: the keys are {what}; see docs/operations.md"
            ) from None


@dataclass(frozen=True, slots=True)
class Found:
    """An object as a list has it."""

    key: str
    size_bytes: int
    modified_at: datetime


# A thread of the library that still lets go of the last result while the interpreter ends takes the process down with a
# signal (one exit of four, measured): here it has the time for it.
atexit.register(time.sleep, 0.05)


class Objects:
    """The objects of a store of the library. What its service does not do now is an UnavailableError."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)
        self._sends = asyncio.Semaphore(_SENDS_AT_ONCE)

    async def listed(self, prefix: str) -> list[Found]:
        """All objects below a folder."""
        async with self._calls:
            with _told():
                found = [meta async for chunk in obstore.list(self._store, prefix) for meta in chunk]
        return [Found(str(meta["path"]), int(meta["size"]), meta["last_modified"]) for meta in found]

    async def folders(self, prefix: str) -> list[str]:
        """The names of the folders right below a folder."""
        async with self._calls:
            with _told():
                found = await obstore.list_with_delimiter_async(self._store, prefix)
        return [path.rstrip("/").rpartition("/")[2] for path in found["common_prefixes"]]

    async def create(self, key: str, content: bytes) -> bool:
        """Put a small object; False if there is one of that key."""
        async with self._calls:
            with _told(), suppress(AlreadyExistsError), durable(Point.OBJECT_PUT):
                await obstore.put_async(self._store, key, content, mode="create")
                return True
        return False

    async def put(self, key: str, content: bytes) -> None:
        """Put a small object, whether there is one of that key or not."""
        async with self._calls:
            with _told(), durable(Point.OBJECT_PUT):
                await obstore.put_async(self._store, key, content, use_multipart=False)

    async def send(self, key: str, chunks: AsyncIterator[bytes], sha256: str, size_bytes: int) -> None:
        """Put an object whole or not at all: it is there once every byte of it has been verified.

        Raises:
            InvalidArgumentError: the bytes are not of that size or hash; there is no object.
        """
        parts = _verified(chunks, sha256, size_bytes)
        async with self._sends:
            if size_bytes <= PART_BYTES:
                await self.put(key, b"".join([part async for part in parts]))
            else:
                await self._send(key, parts)

    async def get(self, key: str) -> bytes:
        """A small object.

        Raises:
            FileNotFoundError: it is not there.
        """
        async with self._calls:
            with _told(there=True):
                return bytes(await (await obstore.get_async(self._store, key)).bytes_async())

    async def read(self, key: str, size_bytes: int) -> AsyncGenerator[bytes]:
        """A large object in its parts, some of which are under way while one is looked at. To be closed.

        Raises:
            FileNotFoundError: it is not there, or not any more.
        """
        starts = iter(range(0, size_bytes, PART_BYTES))
        under_way: deque[asyncio.Task[bytes]] = deque()

        def begin(starts: Iterable[int]) -> None:
            for start in starts:
                length = min(PART_BYTES, size_bytes - start)
                under_way.append(asyncio.create_task(self._part(key, start, length)))

        try:
            begin(islice(starts, _PARTS_AT_ONCE))
            while under_way:
                part = await under_way.popleft()
                begin(islice(starts, 1))
                yield part
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    async def delete(self, keys: Iterable[str]) -> None:
        """Delete objects, whether they are there or not."""
        await asyncio.gather(*map(self._delete, keys))

    async def signed(self, method: str, keys: Sequence[str], life: timedelta) -> list[str]:
        """URLs for one request each."""
        if not keys:
            return []
        with _told():
            kind: Any = method
            return list(await obstore.sign_async(self._store, kind, list(keys), life))

    async def _send(self, key: str, parts: AsyncIterator[bytes]) -> None:
        """By parts, which become an object when the last one has come; whatever the parts raise ends it without."""
        how: Any = {"use_multipart": True, "chunk_size": PART_BYTES, "max_concurrency": _PARTS_AT_ONCE}
        with _told(), durable(Point.OBJECT_PUT):
            await obstore.put_async(self._store, key, parts, **how)

    async def _part(self, key: str, start: int, length: int) -> bytes:
        async with self._calls:
            with _told(there=True):
                return bytes(await obstore.get_range_async(self._store, key, start=start, length=length))

    async def _delete(self, key: str) -> None:
        async with self._calls:
            with _told(), suppress(FileNotFoundError), durable(Point.OBJECT_DELETED):
                await obstore.delete_async(self._store, key)


async def _verified(chunks: AsyncIterator[bytes], sha256: str, size_bytes: int) -> AsyncGenerator[bytes]:
    """The bytes in parts of one size; the last part comes only if all of them are the announced ones."""
    promised, gathered = Promised(sha256, size_bytes), bytearray()
    async for chunk in chunks:
        promised.count(len(chunk))
        await asyncio.to_thread(promised.hash, chunk) if len(chunk) > 1 << 20 else promised.hash(chunk)
        gathered += chunk
        while len(gathered) > PART_BYTES:
            yield bytes(gathered[:PART_BYTES])
            del gathered[:PART_BYTES]
    promised.check()
    yield bytes(gathered)


@contextmanager
def _told(*, there: bool = False) -> Generator[None]:
    """The library's errors as the domain's. ``there``: that the object is not there is for the caller."""
    try:
        yield
    except FileNotFoundError as error:
        if there:
            raise
        raise _refused("is not there; its operator has to make it", error) from error
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise _refused("refuses this server; its operator has to see to its keys and rights", error) from error
    except BaseError as error:
        if " 403 " in str(error):  # lists have no error of their own for it
            raise _refused("refuses this server; its operator has to see to its keys and rights", error) from error
        text = "the bucket that holds the files cannot be reached; try again in a moment"
        raise UnavailableError(text, reason=_words(error)) from error


def _refused(what: str, error: Exception) -> UnavailableError:
    return UnavailableError(f"the bucket that holds the files {what}", reason=_words(error), refused=True)


def _words(error: Exception) -> str:
    """The error in one line, without what only the library's authors want to know."""
    return re.sub(r"\s+", " ", str(error).partition("\n\nDebug source")[0]).strip()[:_ERROR_CHARS]
