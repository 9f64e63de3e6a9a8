"""The local blob store: what is on the disk before, during and after."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from jobsphere.blob import incoming
from jobsphere.blob.local import LocalBlobStore
from jobsphere.domain.errors import InvalidArgumentError, ResourceExhaustedError
from jobsphere.domain.ports import FinishedFile

P = "p" * 20
CONTENT = b"some bytes"
SHA = hashlib.sha256(CONTENT).hexdigest()


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def put(store: LocalBlobStore, content: bytes = CONTENT) -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    await store.receive(P, sha256, len(content), once(content))
    return sha256


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the disk has no events
            await asyncio.sleep(0.005)


async def test_a_blob_lies_where_supervisors_look_for_it(tmp_path: Path) -> None:
    await put(LocalBlobStore(tmp_path))
    assert files(tmp_path) == [f"{P}/{SHA[:2]}/{SHA}"]


async def test_a_refused_upload_leaves_no_file(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)
    with pytest.raises(InvalidArgumentError):
        await store.receive(P, SHA, len(CONTENT), once(b"x" * len(CONTENT)))
    assert files(tmp_path) == []


async def test_too_many_bytes_end_the_upload_at_once(tmp_path: Path) -> None:
    pulled = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pulled
        while True:
            pulled += 1
            yield b"x" * 4

    with pytest.raises(InvalidArgumentError, match="more bytes"):
        await LocalBlobStore(tmp_path).receive(P, SHA, len(CONTENT), endless())
    assert pulled == 3
    assert files(tmp_path) == []


async def test_a_cancelled_upload_leaves_no_file(tmp_path: Path) -> None:
    async def stalls() -> AsyncIterator[bytes]:
        yield b"x" * (2 * incoming.BATCH_BYTES)
        await asyncio.Event().wait()

    upload = asyncio.create_task(LocalBlobStore(tmp_path).receive(P, SHA, 1 << 30, stalls()))
    await until(lambda: any((tmp_path / ".incoming").iterdir()))
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await until(lambda: files(tmp_path) == [])


async def test_what_cannot_fit_is_refused_before_a_byte_is_read(tmp_path: Path) -> None:
    pulled: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        pulled.append(1)
        yield b"x"

    with pytest.raises(ResourceExhaustedError, match="left, and the file has"):
        await LocalBlobStore(tmp_path).receive(P, SHA, 1 << 60, chunks())
    assert pulled == []


async def test_a_disk_that_fills_up_on_the_way_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = LocalBlobStore(tmp_path)
    monkeypatch.setattr(incoming.os, "write", full)
    with pytest.raises(ResourceExhaustedError, match="disk is full"):
        await store.receive(P, SHA, len(CONTENT), once(CONTENT))
    monkeypatch.undo()
    assert files(tmp_path) == []


async def test_only_uploads_that_nobody_carries_on_are_swept(tmp_path: Path) -> None:
    store, on_the_way, go_on = LocalBlobStore(tmp_path), asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        on_the_way.set()
        await go_on.wait()
        yield CONTENT

    upload = asyncio.create_task(store.receive(P, SHA, len(CONTENT), slowly()))
    await on_the_way.wait()
    (tmp_path / ".incoming" / "of-a-killed-server").write_bytes(b"half")
    LocalBlobStore(tmp_path)
    assert len(files(tmp_path)) == 1
    go_on.set()
    await upload
    assert (await store.read(P, SHA)).read_bytes() == CONTENT


async def test_adopting_links_instead_of_copying(tmp_path: Path) -> None:
    file = tmp_path / "outbox"
    file.write_bytes(CONTENT)
    store = LocalBlobStore(tmp_path / "blobs")
    await store.adopt(P, [FinishedFile(SHA, len(CONTENT), file)])
    assert (await store.read(P, SHA)).samefile(file)


async def test_adopting_copies_where_no_link_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    file = tmp_path / "outbox"
    file.write_bytes(CONTENT)
    store = LocalBlobStore(tmp_path / "blobs")
    monkeypatch.setattr("jobsphere.blob.local.os.link", refuse)
    await store.adopt(P, [FinishedFile(SHA, len(CONTENT), file)])
    assert not (await store.read(P, SHA)).samefile(file)
    assert (await store.read(P, SHA)).read_bytes() == CONTENT
    assert (await store.read(P, SHA)).stat().st_mode & 0o777 == 0o444
    assert files(tmp_path / "blobs") == [f"{P}/{SHA[:2]}/{SHA}"]


async def crash_while_asking(root: Path) -> None:
    """Leave a blob out of reach, as a killed server does."""
    await put(LocalBlobStore(root))
    trash = root / ".trash" / P
    trash.mkdir(parents=True)
    (root / P / SHA[:2] / SHA).rename(trash / SHA)


async def test_a_blob_left_out_of_reach_is_back_after_the_next_start(tmp_path: Path) -> None:
    await crash_while_asking(tmp_path)
    assert (await LocalBlobStore(tmp_path).read(P, SHA)).read_bytes() == CONTENT


@pytest.mark.parametrize("somebody_wants_it", [True, False])
async def test_the_next_removal_settles_what_a_crash_left(tmp_path: Path, somebody_wants_it: bool) -> None:
    await crash_while_asking(tmp_path)
    store = LocalBlobStore(tmp_path)
    asked: list[set[str]] = []

    async def wanted(hidden: set[str]) -> set[str]:
        asked.append(hidden)
        return hidden if somebody_wants_it else set()

    await store.remove(P, [], wanted)
    assert asked == [{SHA}]
    assert await store.missing(P, [SHA]) == (set() if somebody_wants_it else {SHA})


@pytest.mark.parametrize("somebody_wants_it", [True, False])
async def test_what_a_disk_failed_to_remove_or_put_back_is_within_reach_of_the_next_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, somebody_wants_it: bool
) -> None:
    store = LocalBlobStore(tmp_path)
    await put(store)

    async def wanted(hidden: set[str]) -> set[str]:
        return hidden if somebody_wants_it else set()

    with monkeypatch.context() as failing:

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        failing.setattr(Path, "unlink", full)
        if somebody_wants_it:  # it is out of reach already when the disk begins to fail
            held = store._hide(P, {SHA})
            failing.setattr(os, "rename", full)
            assert held == {SHA}
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            await store.remove(P, [SHA], wanted)
    assert await store.missing(P, [SHA]) == {SHA}
    assert await store.held(P) == {SHA}
    await store.remove(P, [SHA], wanted)
    assert await store.missing(P, [SHA]) == (set() if somebody_wants_it else {SHA})
    assert not list((tmp_path / ".trash" / P).iterdir())


async def test_what_is_adopted_anew_while_it_is_asked_about_leaves_nothing_out_of_reach(tmp_path: Path) -> None:
    """The file of the outbox and the blob out of reach are one file under two names."""
    store, file = LocalBlobStore(tmp_path / "blobs"), FinishedFile(SHA, len(CONTENT), tmp_path / "outbox")
    file.path.write_bytes(CONTENT)
    await store.adopt(P, [file])

    async def adopted_anew(hidden: set[str]) -> set[str]:
        await store.adopt(P, [file])
        return hidden

    await store.remove(P, [SHA], adopted_anew)
    assert files(tmp_path / "blobs") == [f"{P}/{SHA[:2]}/{SHA}"]


async def test_removed_bytes_are_gone_from_the_disk(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)

    async def nothing(_: set[str]) -> set[str]:
        return set()

    await store.remove(P, [await put(store)], nothing)
    assert files(tmp_path) == []


async def test_a_removed_blob_can_still_be_read_by_who_has_it_open(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path)

    async def nothing(_: set[str]) -> set[str]:
        return set()

    with (await store.read(P, await put(store))).open("rb") as file:
        await store.remove(P, [SHA], nothing)
        assert file.read() == CONTENT
