"""Blobs as objects of a bucket, which several servers with one database may share.

::

    owner.json                               the projects of the database that these blobs belong to
    blobs/<project>/<sha256>/<name>          a copy of a blob: complete, verified, never written again
    blobs/<project>/<sha256>/<name>.gone     the copy is out of reach while it is asked whether it may go
    blobs/<project>/<sha256>/<name>.damaged  the copy was found to hold other bytes: for the operator to look at
    incoming/<project>/<sha256>/<name>       what a client brought by a URL: not verified, nobody's (transfers.py)

Each copy has a name of its own, so that whoever removes one removes what they looked at, and never what another server
has just put. A copy that was put out of reach never comes back: what is wanted again is copied under a new name.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from typing import TypeVar, cast

import structlog

from jobsphere.blob.cache import used
from jobsphere.blob.durable import make_directories
from jobsphere.blob.incoming import Incoming, remove_stale
from jobsphere.blob.local import check_file
from jobsphere.blob.objects import PART_BYTES, Found, Objects
from jobsphere.blob.paths import INCOMING, blob_path, checked_hash, checked_project
from jobsphere.domain.artifact import EMPTY_SHA256
from jobsphere.domain.errors import (
    CorruptedError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
)
from jobsphere.domain.ports import FinishedFile

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
INCOMING_OBJECTS = "incoming"
_BLOBS, _OWNER, _GONE, _DAMAGED = "blobs", "owner.json", ".gone", ".damaged"
_LOOKS = 5
"""A copy may go between the look and the reading of it so many times: each takes a removal that was refused."""
_LOOK_AGAIN_S = 60.0
T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Copy:
    """One object that holds, or held, a blob. ``key`` may be gone where ``hidden``."""

    key: str
    sha256: str
    size_bytes: int
    hidden: bool = False
    damaged: bool = False

    @property
    def within_reach(self) -> bool:
        """Whether the project holds the blob by it."""
        return not self.hidden and not self.damaged


class BucketBlobStore:
    """The :class:`jobsphere.domain.ports.BlobStore` of one machine or many.

    Args:
        objects: The bucket.
        cache: The folder of this host for copies that are read; made if it is not there.
        projects: Tells the ids of the database's projects: asked once, before anything is removed.
    """

    far = True

    def __init__(self, objects: Objects, cache: Path, projects: Callable[[], Awaitable[Iterable[str]]]) -> None:
        self._objects = objects
        self._cache = cache
        self._projects = projects
        self._claimed = False
        self._sizes: dict[str, tuple[float, int]] = {}
        make_directories(cache)
        remove_stale(cache / INCOMING)

    async def claim(self) -> None:
        """Make sure that the blobs there are those of this database's projects, and nobody else's.

        Raises:
            FailedPreconditionError: they belong to another database, or the bucket refuses this server.
            UnavailableError: the bucket cannot be asked now.
        """
        if self._claimed:
            return
        own = sorted(await self._projects())
        content = json.dumps({"projects": own}).encode()
        try:
            if not await self._objects.create(_OWNER, content):
                known: list[str] = json.loads(await self._objects.get(_OWNER))["projects"]
                if known and not set(known) & set(own):
                    raise FailedPreconditionError(
                        "setting blobs: the bucket holds, below this prefix, the files of another server's database; "
                        f"choose another prefix, or remove {_OWNER} from it if that database is no more"
                    )
                await self._objects.put(_OWNER, content)
        except UnavailableError as error:
            if error.context.get("refused"):
                raise FailedPreconditionError(f"setting blobs: {error.public}", **error.context) from error
            raise
        self._claimed = True

    async def missing(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        """Those of the hashes whose bytes the project does not hold.

        The empty blob is made when it is asked for: a bucket takes no upload of unknown length, as clients send it.
        """
        hashes = list({checked_hash(h) for h in sha256s})
        held = await _all(self._holds(project_id, h) for h in hashes)
        missing = {h for h, is_held in zip(hashes, held, strict=True) if not is_held}
        if EMPTY in missing:
            await self.receive(project_id, EMPTY, 0, _nothing())
        return missing - {EMPTY}

    async def held(self, project_id: str) -> set[str]:
        """Every hash that the project holds. What a crash left out of reach comes back, to be asked about."""
        found = await self._objects.listed(f"{_BLOBS}/{checked_project(project_id)}")
        copies = _copies(found)
        hidden = [copy for copy in copies if copy.hidden and not copy.damaged]
        if alone := _marks_alone(found):
            await self._objects.delete(alone)
        for sha256 in {copy.sha256 for copy in hidden}:
            await self._bring_back(project_id, [copy for copy in hidden if copy.sha256 == sha256])
        return {copy.sha256 for copy in copies}

    async def receive(self, project_id: str, sha256: str, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        """Take the bytes in. Holds some parts in memory at most.

        Raises:
            InvalidArgumentError: they are not of that size or hash; nothing is kept.
        """
        await self._objects.send(_new_key(project_id, sha256), chunks, sha256, size_bytes)
        self._count(project_id, size_bytes)

    async def adopt(self, project_id: str, files: Sequence[FinishedFile]) -> None:
        """Send finished files of this host to the bucket, each verified on the way.

        Raises:
            NotFoundError: neither a file nor its blob is there.
            CorruptedError: a file is not a regular file of that size and hash.
        """
        await _all(self._adopt(project_id, file) for file in files)

    async def read(self, project_id: str, sha256: str) -> Path:
        """The blob as a read-only file of this host: brought from the bucket unless it is here already.

        Raises:
            NotFoundError: the project does not hold it.
            CorruptedError: what the bucket holds are other bytes; the project does not hold it any more.
        """
        path = blob_path(self._cache, project_id, sha256)
        if not used(path):
            await self._fetch(project_id, sha256, path)
        return path

    async def remove(
        self, project_id: str, sha256s: Iterable[str], wanted: Callable[[set[str]], Awaitable[set[str]]]
    ) -> None:
        """Free the bytes of blobs that nobody refers to; see the port. A refusal of ``wanted`` puts all back.

        Whoever begins to refer to a blob looks after that whether it is there. If they saw a copy, it was not out of
        reach yet, and ``wanted`` is asked later still: it knows of them. What a crash leaves out of reach stays so
        until the next :meth:`held`.
        """
        hashes = {checked_hash(h) for h in sha256s}
        await self.claim()
        copies = [c for found in await _all(self._look(project_id, h) for h in hashes) for c in found]
        await _all(self._objects.put(c.key + _GONE, b"") for c in copies if not c.hidden)
        asked = {copy.sha256 for copy in copies}
        keep = asked
        try:
            keep = asked and await wanted(set(asked))
        finally:
            await asyncio.shield(self._settle(project_id, copies, keep))

    async def stored_bytes(self, project_id: str) -> int:
        """See :class:`jobsphere.domain.quota_ports.StoredBytes`: looked up now and then, counted in between."""
        looked_at, size = self._sizes.get(project_id, (-_LOOK_AGAIN_S, 0))
        if time.monotonic() - looked_at > _LOOK_AGAIN_S:
            found = await self._objects.listed(f"{_BLOBS}/{checked_project(project_id)}")
            size = sum({copy.sha256: copy.size_bytes for copy in _copies(found)}.values())
            self._sizes[project_id] = (time.monotonic(), size)
        return self._sizes[project_id][1]

    async def projects(self) -> Sequence[str]:
        """The ids of all projects that may hold a blob."""
        return sorted(await self._objects.folders(_BLOBS))

    async def drop(self, project_id: str) -> None:
        """Free all bytes of a project that is gone, and what clients brought for it."""
        await self.claim()
        self._sizes.pop(project_id, None)
        for folder in (_BLOBS, INCOMING_OBJECTS):
            found = await self._objects.listed(f"{folder}/{checked_project(project_id)}")
            await self._objects.delete(object_.key for object_ in found)

    async def key_of(self, project_id: str, sha256: str) -> str:
        """The object to read the blob by, whether the project holds it or not."""
        copies = await self._readable(project_id, sha256)
        return copies[0].key if copies else _new_key(project_id, sha256)

    async def _holds(self, project_id: str, sha256: str) -> bool:
        return any(copy.within_reach for copy in await self._look(project_id, sha256))

    async def _look(self, project_id: str, sha256: str) -> list[Copy]:
        return _copies(await self._objects.listed(_folder(project_id, sha256)))

    async def _readable(self, project_id: str, sha256: str) -> list[Copy]:
        """Copies with the right bytes. What is out of reach is read too: it may be on its way back."""
        copies = [copy for copy in await self._look(project_id, sha256) if not copy.damaged]
        return sorted(copies, key=lambda copy: copy.hidden)

    async def _adopt(self, project_id: str, file: FinishedFile) -> None:
        if await self._holds(project_id, file.sha256):
            return
        empty = file.sha256 == EMPTY_SHA256
        try:
            if not empty:
                check_file(file.path, file.size_bytes)
            fd = os.open(os.devnull if empty else file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError("the file to be kept is gone", path=str(file.path)) from None
        with open(fd, "rb", buffering=0) as reader:
            try:
                async with aclosing(_chunks_of(reader)) as chunks:
                    await self.receive(project_id, file.sha256, file.size_bytes, chunks)
            except InvalidArgumentError as error:
                text = f"the file to be kept is not what was recorded: {error.public}"
                raise CorruptedError(text, path=str(file.path)) from error

    async def _fetch(self, project_id: str, sha256: str, path: Path) -> None:
        """From any of its copies. One that went meanwhile had another put in its place before: that is looked for."""
        for _ in range(_LOOKS):
            copies = await self._readable(project_id, sha256)
            if not copies:
                break
            if await self._fetched(copies, path):
                return
        raise NotFoundError("its bytes are not stored any more; create the job again to upload them")

    async def _fetched(self, copies: Iterable[Copy], path: Path) -> bool:
        """Bring a blob from the first of its copies that can be read; False if all of them are gone."""
        damaged = False
        for copy in copies:
            incoming = Incoming(self._cache / INCOMING / secrets.token_hex(16), copy.sha256, copy.size_bytes)
            try:
                await asyncio.to_thread(incoming.open)
                async with aclosing(self._objects.read(copy.key, copy.size_bytes)) as chunks:
                    await incoming.take(chunks)
                await asyncio.to_thread(incoming.finish, path)
            except FileNotFoundError:
                continue
            except InvalidArgumentError:
                damaged = True
                await self._objects.put(copy.key + _DAMAGED, b"")
            else:
                return True
            finally:
                await asyncio.shield(asyncio.to_thread(incoming.discard))
        if damaged:
            raise CorruptedError("its bytes in the bucket are not what they were; create the job again to upload them")
        return False

    async def _settle(self, project_id: str, copies: list[Copy], keep: set[str]) -> None:
        go = [copy for copy in copies if copy.sha256 not in keep]
        await self._free(go)
        self._count(project_id, -sum(copy.size_bytes for copy in go))
        for sha256 in keep:
            await self._bring_back(project_id, [copy for copy in copies if copy.sha256 == sha256])

    async def _bring_back(self, project_id: str, copies: list[Copy]) -> None:
        """Copy a blob under a new name from the first of its hidden copies that can be read; they go then."""
        for copy in (copy for copy in copies if not copy.damaged):
            try:
                async with aclosing(self._objects.read(copy.key, copy.size_bytes)) as chunks:
                    key = _new_key(project_id, copy.sha256)
                    await self._objects.send(key, chunks, copy.sha256, copy.size_bytes)
                break
            except FileNotFoundError:  # another server has decided before us
                continue
            except InvalidArgumentError:
                log.error("a blob is damaged in the bucket", key=copy.key)
                await self._objects.put(copy.key + _DAMAGED, b"")
                return
        await self._free(copies)

    async def _free(self, copies: Iterable[Copy]) -> None:
        """The copies before what says that they are out of reach: never the other way round."""
        found = list(copies)
        await self._objects.delete(copy.key for copy in found)
        await self._objects.delete(copy.key + end for copy in found for end in (_GONE, _DAMAGED))

    def _count(self, project_id: str, more: int) -> None:
        if project_id in self._sizes:
            looked_at, size = self._sizes[project_id]
            self._sizes[project_id] = (looked_at, max(size + more, 0))


def _copies(found: Sequence[Found]) -> list[Copy]:
    keys = {object_.key for object_ in found}
    return [
        Copy(o.key, o.key.split("/")[-2], o.size_bytes, o.key + _GONE in keys, o.key + _DAMAGED in keys)
        for o in found
        if not o.key.endswith((_GONE, _DAMAGED))
    ]


def _marks_alone(found: Sequence[Found]) -> list[str]:
    """What says something of a copy that is gone: a crash came between the two."""
    keys = {object_.key for object_ in found}
    return [key for key in keys if key.endswith((_GONE, _DAMAGED)) and key.rpartition(".")[0] not in keys]


def _folder(project_id: str, sha256: str) -> str:
    return f"{_BLOBS}/{checked_project(project_id)}/{checked_hash(sha256)}"


def _new_key(project_id: str, sha256: str) -> str:
    return f"{_folder(project_id, sha256)}/{secrets.token_hex(16)}"


async def _nothing() -> AsyncGenerator[bytes]:
    for chunk in ():
        yield chunk


async def _chunks_of(file: RawIOBase) -> AsyncGenerator[bytes]:
    while chunk := await asyncio.to_thread(file.read, PART_BYTES):
        yield chunk


async def _all(work: Iterable[Awaitable[T]]) -> list[T]:
    """All of them to their end, then the results or the first error: nothing goes on behind the caller's back."""
    done = await asyncio.gather(*work, return_exceptions=True)
    for result in done:
        if isinstance(result, BaseException):
            raise result
    return cast("list[T]", done)
