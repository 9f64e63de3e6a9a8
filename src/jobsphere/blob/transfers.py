"""Uploads and downloads by URLs that lead straight to the bucket."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import timedelta

from jobsphere.blob.bucket import INCOMING_OBJECTS, BucketBlobStore
from jobsphere.blob.objects import Found, Objects
from jobsphere.blob.paths import checked_hash, checked_project
from jobsphere.domain.errors import InvalidArgumentError
from jobsphere.domain.ports import BlobGrant, Clock

Admit = Callable[[str, int], AbstractAsyncContextManager[None]]
Settle = Callable[[str, str], Awaitable[None]]
Unreferenced = Callable[[str, Iterable[str]], Awaitable[set[str]]]
KEPT = timedelta(hours=48)
"""How long what a client has brought stays at least: twice as long as the URL for it lives."""


class BucketTransfers:
    """The :class:`jobsphere.domain.blob_ports.Transfers` by which clients speak to the bucket.

    A URL can be used for as long as it lives, and its object be written again: so an upload goes to an object of its
    own, and the bytes become a blob by being read, verified and written where no client can write.

    Args:
        objects: The bucket.
        blobs: The blobs in it.
        clock: Says how long a grant has still to live.
        admit: Held while so many bytes come in for a project; raises ResourceExhaustedError.
        settle: Told of each blob that has come in, by project and SHA-256: it may be nobody's by now.
    """

    def __init__(self, objects: Objects, blobs: BucketBlobStore, clock: Clock, admit: Admit, settle: Settle) -> None:
        self._objects = objects
        self._blobs = blobs
        self._clock = clock
        self._admit = admit
        self._settle = settle
        self._turns: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)

    async def urls(self, grants: Sequence[BlobGrant]) -> Sequence[str]:
        """URLs that lead to the bucket."""
        keys = await asyncio.gather(*map(self._key, grants))
        signed = [
            await self._objects.signed(grant.method, [key], grant.expires_at - self._clock.now())
            for grant, key in zip(grants, keys, strict=True)
        ]
        return [url for urls in signed for url in urls]

    async def take_in(self, project_id: str, sizes: Mapping[str, int]) -> Mapping[str, str]:
        """Verify what was brought, and make blobs of it; the same may be asked for several times at once."""
        problems = {h: await self._take_in(project_id, h, size) for h, size in sizes.items()}
        return {h: problem for h, problem in problems.items() if problem is not None}

    async def sweep(self, unreferenced: Unreferenced) -> None:
        """Remove what was brought and never taken in, of jobs that are gone or that have their blob by now."""
        until = self._clock.now() - KEPT
        for project_id in await self._objects.folders(INCOMING_OBJECTS):
            found = await self._objects.listed(f"{INCOMING_OBJECTS}/{project_id}")
            old = [object_ for object_ in found if object_.modified_at < until]
            hashes = {_hash_of(object_) for object_ in old}
            idle = await unreferenced(project_id, hashes)
            idle |= (hashes - idle) - await self._blobs.missing(project_id, hashes - idle)
            await self._objects.delete(object_.key for object_ in old if _hash_of(object_) in idle)

    async def _key(self, grant: BlobGrant) -> str:
        if grant.method == "PUT":
            return f"{_folder(grant.project_id, grant.sha256)}/{secrets.token_hex(16)}"
        return await self._blobs.key_of(grant.project_id, grant.sha256)

    async def _take_in(self, project_id: str, sha256: str, size_bytes: int) -> str | None:
        """What is wrong, with what there is; None once it is a blob."""
        turn = self._turns[project_id, sha256]
        try:
            async with turn:
                if not await self._blobs.missing(project_id, [sha256]):
                    return None
                return await self._try_all(project_id, sha256, size_bytes)
        finally:
            if not turn.locked():
                self._turns.pop((project_id, sha256), None)

    async def _try_all(self, project_id: str, sha256: str, size_bytes: int) -> str | None:
        problem = ""
        brought = await self._objects.listed(_folder(project_id, sha256))
        for object_ in sorted(brought, key=lambda o: o.modified_at, reverse=True):
            try:
                await self._make_blob(project_id, sha256, size_bytes, object_)
            except InvalidArgumentError as error:
                problem = error.public
                await self._objects.delete([object_.key])
            except FileNotFoundError:  # another server has taken it in
                continue
            else:
                await self._objects.delete(o.key for o in brought)
                return None
        return problem if await self._blobs.missing(project_id, [sha256]) else None

    async def _make_blob(self, project_id: str, sha256: str, size_bytes: int, object_: Found) -> None:
        if object_.size_bytes != size_bytes:
            raise InvalidArgumentError(f"{object_.size_bytes} bytes came, while {size_bytes} were announced")
        async with (
            self._admit(project_id, size_bytes),
            aclosing(self._objects.read(object_.key, size_bytes)) as chunks,
        ):
            await self._blobs.receive(project_id, sha256, size_bytes, chunks)
        await self._settle(project_id, sha256)


def _folder(project_id: str, sha256: str) -> str:
    return f"{INCOMING_OBJECTS}/{checked_project(project_id)}/{checked_hash(sha256)}"


def _hash_of(object_: Found) -> str:
    return object_.key.split("/")[-2]
