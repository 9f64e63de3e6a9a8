"""The blob store of tests: one in memory, and one that breaks on demand."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from enum import Enum, auto
from pathlib import Path

from jobsphere.blob.paths import blob_path
from jobsphere.domain.artifact import EMPTY_SHA256
from jobsphere.domain.errors import CorruptedError, InvalidArgumentError, NotFoundError, UnavailableError
from jobsphere.domain.ports import BlobStore, FinishedFile


class MemoryBlobStore:
    """Keeps the bytes in a dict; ``read`` writes them out below ``scratch``, because the port promises a path."""

    far = False

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._held: dict[tuple[str, str], bytes] = {}

    async def missing(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        return {h for h in sha256s if self._key(project_id, h) not in self._held}

    async def held(self, project_id: str) -> set[str]:
        return {sha256 for project, sha256 in self._held if project == project_id}

    async def receive(self, project_id: str, sha256: str, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        key = self._key(project_id, sha256)
        content = b"".join([chunk async for chunk in chunks])
        if len(content) != size_bytes or hashlib.sha256(content).hexdigest() != sha256:
            raise InvalidArgumentError("the bytes are not the announced ones")
        self._held[key] = content

    async def adopt(self, project_id: str, files: Sequence[FinishedFile]) -> None:
        for file in files:
            self._adopt(self._key(project_id, file.sha256), file)

    def _adopt(self, key: tuple[str, str], file: FinishedFile) -> None:
        if key in self._held:
            return
        if file.path.is_symlink():
            raise InvalidArgumentError("only a regular file can be kept")
        try:
            content = b"" if file.sha256 == EMPTY_SHA256 else file.path.read_bytes()
        except FileNotFoundError:
            raise NotFoundError("the file to be kept is gone") from None
        if len(content) != file.size_bytes:
            raise CorruptedError("the file to be kept has another size than was recorded")
        self._held[key] = content

    async def read(self, project_id: str, sha256: str) -> Path:
        content = self._held.get(self._key(project_id, sha256))
        if content is None:
            raise NotFoundError("the project does not hold this file")
        path = blob_path(self._scratch, project_id, sha256)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o444)
        return path

    async def stored_bytes(self, project_id: str) -> int:
        return sum(len(content) for (project, _), content in self._held.items() if project == project_id)

    async def projects(self) -> Sequence[str]:
        return sorted({project for project, _ in self._held})

    async def drop(self, project_id: str) -> None:
        self._held = {key: content for key, content in self._held.items() if key[0] != project_id}

    async def remove(
        self, project_id: str, sha256s: Iterable[str], wanted: Callable[[set[str]], Awaitable[set[str]]]
    ) -> None:
        keys = [self._key(project_id, h) for h in sha256s]
        hidden = {key: self._held.pop(key) for key in keys if key in self._held}
        keep = {sha256 for _, sha256 in hidden}
        try:
            keep = hidden and await wanted(set(keep))
        finally:
            self._held |= {key: content for key, content in hidden.items() if key[1] in keep}

    def _key(self, project_id: str, sha256: str) -> tuple[str, str]:
        blob_path(self._scratch, project_id, sha256)
        return project_id, sha256


class Fault(Enum):
    """Where a call breaks."""

    BEFORE = auto()
    AFTER = auto()


class FailingBlobStore:
    """Wraps a store; each call that changes something uses up the next of ``faults`` (None: this call works)."""

    def __init__(self, inner: BlobStore, faults: Iterable[Fault | None]) -> None:
        self.far = inner.far
        self._inner = inner
        self._faults = list(faults)

    async def missing(self, project_id: str, sha256s: Iterable[str]) -> set[str]:
        return await self._inner.missing(project_id, sha256s)

    async def held(self, project_id: str) -> set[str]:
        return await self._inner.held(project_id)

    async def receive(self, project_id: str, sha256: str, size_bytes: int, chunks: AsyncIterator[bytes]) -> None:
        await self._break(lambda: self._inner.receive(project_id, sha256, size_bytes, chunks))

    async def adopt(self, project_id: str, files: Sequence[FinishedFile]) -> None:
        await self._break(lambda: self._inner.adopt(project_id, files))

    async def read(self, project_id: str, sha256: str) -> Path:
        return await self._inner.read(project_id, sha256)

    async def projects(self) -> Sequence[str]:
        return await self._inner.projects()

    async def drop(self, project_id: str) -> None:
        await self._break(lambda: self._inner.drop(project_id))

    async def remove(
        self, project_id: str, sha256s: Iterable[str], wanted: Callable[[set[str]], Awaitable[set[str]]]
    ) -> None:
        await self._break(lambda: self._inner.remove(project_id, sha256s, wanted))

    async def _break(self, call: Callable[[], Awaitable[None]]) -> None:
        fault = self._faults.pop(0) if self._faults else None
        if fault is Fault.BEFORE:
            raise UnavailableError("broken on purpose, before the call")
        await call()
        if fault is Fault.AFTER:
            raise UnavailableError("broken on purpose, after the call")


class MemoryDiskBytes:
    """:class:`jobsphere.domain.quota_ports.DiskBytes`: as many as the test says."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    async def disk_bytes(self, project_id: str) -> int:
        return self.sizes.get(project_id, 0)
