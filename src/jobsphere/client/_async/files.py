"""Files to the server and back, a piece at a time, so that they may be larger than the memory."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import httpx

from jobsphere.client._async.transport import Http, to_thread
from jobsphere.client.places import place_of, unpack
from jobsphere.domain.errors import CorruptedError, FailedPreconditionError, UnavailableError

Progress = Callable[[str, int, int], None]
"""Told the path of a file, how many bytes of it are through, and how many it has."""
PIECE_BYTES = 1 << 20


async def upload(http: Http, files: Sequence[Any], paths: Mapping[str, Path], progress: Progress | None) -> None:
    """Send what the server asked for.

    Args:
        http: The client.
        files: The API's ``StorageFile`` of each.
        paths: Where the bytes of each lie, by its path there.
        progress: Is told of each piece.

    Raises:
        FailedPreconditionError: a file is not there any more, or is another by now.
        UnavailableError: the server does not take it.
    """
    for stored in files:
        await _send(http, stored, paths[stored.file.desc.path], progress)


async def download(http: Http, stored: Any, folder: Path, progress: Progress | None) -> Path:
    """Bring one file, or folder, to its place below ``folder``; one of the same name there is replaced.

    Raises:
        CorruptedError: the bytes are not those that were stored; nothing was written.
        UnavailableError: the server does not give it.
        FailedPreconditionError: it cannot be written.
    """
    path, size = stored.file.desc.path, stored.file.size_bytes
    place = place_of(folder, path)
    part = place.with_name(f"{place.name}.part")
    try:
        await to_thread(place.parent.mkdir, parents=True, exist_ok=True)
        with part.open("wb") as file:
            sha256 = await _receive(http, stored.url, file, lambda done: progress and progress(path, done, size))
        if stored.file.sha256 and sha256 != stored.file.sha256:
            raise CorruptedError(f"{path} did not come whole: its hash is another; try again")
        return await to_thread(unpack, stored.file, part, place)
    except OSError as error:
        raise FailedPreconditionError(f"{place} cannot be written: {error.strerror}") from error
    except httpx.TransportError as error:
        raise UnavailableError(f"{path} could not be downloaded: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            part.unlink()


async def _send(http: Http, stored: Any, source: Path, progress: Progress | None) -> None:
    path, size = stored.file.desc.path, stored.file.size_bytes
    try:
        with source.open("rb") as file:
            pieces = _pieces(file, lambda done: progress and progress(path, done, size))
            answer = await http.put(stored.url, content=pieces, headers={"content-length": str(size)})
    except OSError as error:
        raise FailedPreconditionError(f"{path} cannot be read: {error.strerror}") from error
    except (httpx.TransportError, httpx.StreamError) as error:
        raise UnavailableError(f"{path} could not be uploaded: {error}; did it change meanwhile?") from error
    if answer.is_error:
        raise UnavailableError(f"{path} could not be uploaded: {answer.text.strip() or answer.reason_phrase}")


async def _pieces(file: IO[bytes], told: Callable[[int], object]) -> AsyncIterator[bytes]:
    done = 0
    while piece := await to_thread(file.read, PIECE_BYTES):
        yield piece
        done += len(piece)
        told(done)


async def _receive(http: Http, url: str, file: IO[bytes], told: Callable[[int], object]) -> str:
    """Write what comes; its hash."""
    hashed, done = hashlib.sha256(), 0
    async with http.stream("GET", url) as answer:
        if answer.is_error:
            await answer.aread()
            raise UnavailableError(f"the server does not give the file: {answer.text.strip() or answer.reason_phrase}")
        async for piece in answer.aiter_bytes(PIECE_BYTES):
            await to_thread(file.write, piece)
            hashed.update(piece)
            done += len(piece)
            told(done)
    return hashed.hexdigest()
