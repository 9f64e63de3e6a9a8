"""What a job took and left, and datasets, to save."""

from __future__ import annotations

import asyncio
import tarfile
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote

import structlog
from aiohttp import web

from jobsphere.domain.artifact import Compression, File
from jobsphere.domain.attempt import SYSTEM_LOG, LogFrame, LogStream
from jobsphere.domain.errors import InvalidArgumentError, NotFoundError
from jobsphere.domain.job import Job
from jobsphere.web.pages.visit import SECURITY, Visit

_QUIET_S = 0.5
"""The log of a job that goes on ends, as a file, when nothing comes for so long."""
_CHUNK = 1 << 18
_AHEAD = 8
_log = structlog.get_logger("jobsphere.web")


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job. ``kind`` says what it is to it, ``number`` is its place in :func:`files_of`."""

    kind: str
    number: int
    file: File


def files_of(job: Job) -> list[JobFile]:
    """All files of a job that have bytes; none once they are cleared."""
    if job.data_cleared:
        return []
    modules = job.spec.env.python_env.local_modules if job.spec.env.python_env else ()
    kinds = (
        ("Input", job.spec.input_files),
        ("Local module", modules),
        ("Output", job.artifacts.outputs),
        ("Log", job.artifacts.logs),
        ("Diagnostic", job.artifacts.diagnostics),
    )
    return [JobFile(*numbered) for numbered in _numbered(kinds)]


def _numbered(kinds: Any) -> list[tuple[str, int, File]]:
    flat = [(kind, file) for kind, files in kinds for file in files]
    return [(kind, number, file) for number, (kind, file) in enumerate(flat)]


async def file(visit: Visit) -> web.Response:
    """Lead to a file's bytes, by a URL that the API gives."""
    job = await visit.behind.board.job(visit.who, visit.at["job"])
    named = [f.file for f in files_of(job) if str(f.number) == visit.at["number"]]
    if not named:
        raise NotFoundError("the job has no such file; it may be cleared")
    request = {"jobId": job.id, "files": [_published(named[0])]}
    answer = await visit.call("ProjectJobService/DownloadJobFiles", request)
    return visit.go(answer["downloadFiles"][0]["url"])


def _published(file: File) -> dict[str, Any]:
    kind = file.compression if file.compression is not Compression.UNSPECIFIED else Compression.NONE
    return {
        "desc": {"path": file.desc.path, "var": file.desc.var},
        "sha256": file.sha256,
        "sizeBytes": str(file.size_bytes),
        "compressionType": kind.value,
    }


async def log(visit: Visit) -> web.StreamResponse:
    """One stream of the log (``stdout``, ``stderr``, ``system``) or the program's two, as a text file."""
    which = visit.asked("stream") or "all"
    if which not in {"all", "stdout", "stderr", "system"}:
        raise InvalidArgumentError("stream: must be all, stdout, stderr or system")
    job = await visit.behind.board.job(visit.who, visit.at["job"])
    chunks = aiter(visit.behind.logs.stream(visit.who, job.id, 0))
    first = await _next(chunks, job)
    response = _attachment(f"{job.name or job.id}.{which}.log", "text/plain")
    await response.prepare(visit.request)
    async with aclosing(cast(Any, chunks)):
        while first is not None:
            await response.write(b"".join(f.content for f in first.frames if _is(f, which)))
            first = await _next(chunks, job)
    await response.write_eof()
    return response


async def _next(chunks: AsyncIterator[Any], job: Job) -> Any | None:
    """The next chunk; None at the end, or when a log that is still written has nothing new."""
    try:
        async with asyncio.timeout(None if job.status.terminal else _QUIET_S):
            return await anext(chunks)
    except (StopAsyncIteration, TimeoutError):
        return None


def _is(frame: LogFrame, which: str) -> bool:
    if frame.stream is LogStream.FILE:
        return which == "system" and frame.path == SYSTEM_LOG
    return which in {"all", "stdout" if frame.stream is LogStream.OUT else "stderr"}


async def dataset(visit: Visit) -> web.StreamResponse:
    """A dataset's files as one archive, packed while it is sent."""
    found = await visit.behind.datasets.find(visit.who, visit.at["project"], visit.at["dataset"])
    folder = visit.behind.datasets.folder(found)
    response = _attachment(f"{found.name}.tar", "application/x-tar")
    await response.prepare(visit.request)
    pipe = _Pipe(asyncio.get_running_loop())
    threading.Thread(target=_pack, args=(folder, found.name, pipe), daemon=True).start()
    try:
        while chunk := await pipe.chunks.get():
            await response.write(chunk)
    finally:
        pipe.leave()
    if pipe.broken and visit.request.transport is not None:
        # Cut off rather than ended: half an archive must not pass for a whole one.
        visit.request.transport.abort()
    await response.write_eof()
    return response


class _Pipe:
    """Bytes from the thread that packs to the loop that sends; a little ahead, not more. An empty one is the last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._left = False
        self.chunks: asyncio.Queue[bytes] = asyncio.Queue(_AHEAD)
        self.broken = False

    def write(self, data: bytes) -> int:
        """Pass bytes on, from the thread.

        Raises:
            BrokenPipeError: nobody takes them any more.
        """
        if self._left:
            raise BrokenPipeError
        asyncio.run_coroutine_threadsafe(self.chunks.put(data), self._loop).result()
        return len(data)

    def leave(self) -> None:
        """Take no more, from the loop; whoever waits for room gets it, and learns it at the next write."""
        self._left = True
        while not self.chunks.empty():
            self.chunks.get_nowait()


def _pack(folder: Path, name: str, pipe: _Pipe) -> None:
    try:
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", pipe), mode="w|", bufsize=_CHUNK) as archive:
                archive.add(folder, arcname=name)
        except BrokenPipeError:
            raise
        except OSError as error:
            _log.warning("dataset cannot be packed", folder=str(folder), cause=error.strerror)
            pipe.broken = True
        pipe.write(b"")
    except BrokenPipeError:
        return


def _attachment(name: str, kind: str) -> web.StreamResponse:
    disposition = f"attachment; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
    return web.StreamResponse(headers={**SECURITY, "Content-Type": kind, "Content-Disposition": disposition})
