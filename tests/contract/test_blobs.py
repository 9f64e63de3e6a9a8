"""What every blob store promises, whatever it is made of."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from ports_blobs import FailingBlobStore, Fault, MemoryBlobStore
from tests.integration.s3_server import BUCKET, Service, s3_service

from jobsphere.blob.bucket import BucketBlobStore
from jobsphere.blob.local import LocalBlobStore
from jobsphere.blob.objects import PART_BYTES, Objects, Place
from jobsphere.domain.errors import CorruptedError, InvalidArgumentError, NotFoundError, UnavailableError
from jobsphere.domain.ports import BlobStore, FinishedFile

P, Q = "p" * 20, "q" * 20
CONTENT = b"some bytes"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def chunked(content: bytes, size: int = 3) -> AsyncIterator[bytes]:
    for i in range(0, len(content), size):
        yield content[i : i + size]


async def put(store: BlobStore, content: bytes, project: str = P) -> str:
    await store.receive(project, sha(content), len(content), chunked(content))
    return sha(content)


async def nothing_wanted(_: set[str]) -> set[str]:
    return set()


async def all_wanted(hidden: set[str]) -> set[str]:
    return hidden


async def no_projects() -> set[str]:
    return set()


MAKERS: dict[str, Callable[[Path], BlobStore]] = {
    "memory": MemoryBlobStore,
    "local": LocalBlobStore,
    "failing": lambda path: FailingBlobStore(LocalBlobStore(path), []),
    "objects": lambda path: BucketBlobStore(Objects(MemoryStore()), path, no_projects),
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with s3_service() as running:
        yield running


@pytest.fixture(params=[*MAKERS, "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param != "s3":
        return MAKERS[request.param](tmp_path / "blobs")
    service: Service = request.getfixturevalue("service")
    options = {"endpoint": service.url, "region": "us-east-1"}
    options |= {"access_key_id": service.access_key, "secret_access_key": service.secret_key}
    place = Place("s3", BUCKET, sha(request.node.name.encode()), options)
    return BucketBlobStore(place.open(), tmp_path / "cache", no_projects)


async def test_bytes_come_back_read_only(store: BlobStore) -> None:
    path = await store.read(P, await put(store, CONTENT))
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o444


async def test_nothing_is_a_blob_too(store: BlobStore) -> None:
    assert (await store.read(P, await put(store, b""))).read_bytes() == b""


async def test_what_travels_in_parts_comes_back(store: BlobStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * (PART_BYTES // 256) * 2 + b"and a bit"
    await store.receive(P, sha(content), len(content), chunked(content, 1 << 20))
    assert (await store.read(P, sha(content))).read_bytes() == content
    file = tmp_path / "outbox"
    file.write_bytes(content)
    await store.adopt(Q, [FinishedFile(sha(content), len(content), file)])
    assert (await store.read(Q, sha(content))).read_bytes() == content
    with pytest.raises(InvalidArgumentError):
        await store.receive(P, sha(b"other"), len(content), chunked(content, 1 << 20))
    assert await store.missing(P, [sha(b"other")])


async def test_missing_names_what_the_project_does_not_hold(store: BlobStore) -> None:
    held = await put(store, CONTENT)
    assert await store.missing(P, [held, sha(b"other")]) == {sha(b"other")}


async def test_a_hash_does_not_open_the_bytes_of_another_project(store: BlobStore) -> None:
    held = await put(store, CONTENT, P)
    assert await store.missing(Q, [held]) == {held}
    with pytest.raises(NotFoundError):
        await store.read(Q, held)


async def test_the_same_bytes_may_come_again(store: BlobStore) -> None:
    await put(store, CONTENT)
    assert (await store.read(P, await put(store, CONTENT))).read_bytes() == CONTENT


async def test_the_same_bytes_may_come_at_once(store: BlobStore) -> None:
    content = CONTENT * 1000
    await asyncio.gather(*(put(store, content) for _ in range(5)))
    assert (await store.read(P, sha(content))).read_bytes() == content


@pytest.mark.parametrize("sent", [CONTENT[:-1], CONTENT + b"x", b"S" + CONTENT[1:], b""])
async def test_other_bytes_than_announced_are_refused(store: BlobStore, sent: bytes) -> None:
    with pytest.raises(InvalidArgumentError):
        await store.receive(P, sha(CONTENT), len(CONTENT), chunked(sent))
    assert await store.missing(P, [sha(CONTENT)])


async def test_the_right_bytes_of_another_size_are_refused(store: BlobStore) -> None:
    with pytest.raises(InvalidArgumentError):
        await store.receive(P, sha(CONTENT), len(CONTENT) + 1, chunked(CONTENT))
    assert await store.missing(P, [sha(CONTENT)])


async def test_a_refused_upload_leaves_the_blob_that_was_there(store: BlobStore) -> None:
    held = await put(store, CONTENT)
    with pytest.raises(InvalidArgumentError):
        await store.receive(P, held, len(CONTENT), chunked(b"x" * len(CONTENT)))
    assert (await store.read(P, held)).read_bytes() == CONTENT


@pytest.mark.parametrize("project", ["", ".", "..", "../" + P, "a/b", ".trash", "p\0", P + "\n", "x" * 65])
async def test_a_project_that_is_no_id_is_refused(store: BlobStore, project: str) -> None:
    with pytest.raises(InvalidArgumentError):
        await store.read(project, sha(CONTENT))
    with pytest.raises(InvalidArgumentError):
        await put(store, CONTENT, project)


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n", "/" + "a" * 63])
async def test_a_name_that_is_no_hash_is_refused(store: BlobStore, name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        await store.read(P, name)
    with pytest.raises(InvalidArgumentError):
        await store.missing(P, [name])
    with pytest.raises(InvalidArgumentError):
        await store.remove(P, [name], nothing_wanted)


async def test_adopt_takes_over_a_file(store: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "outbox"
    file.write_bytes(CONTENT)
    await store.adopt(P, [FinishedFile(sha(CONTENT), len(CONTENT), file)])
    file.unlink(missing_ok=True)
    assert (await store.read(P, sha(CONTENT))).read_bytes() == CONTENT


async def test_adopt_may_be_repeated_with_and_without_the_file(store: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "outbox"
    file.write_bytes(CONTENT)
    await store.adopt(P, [FinishedFile(sha(CONTENT), len(CONTENT), file)])
    await store.adopt(P, [FinishedFile(sha(CONTENT), len(CONTENT), file)])
    file.unlink(missing_ok=True)
    await store.adopt(P, [FinishedFile(sha(CONTENT), len(CONTENT), file)])
    assert (await store.read(P, sha(CONTENT))).read_bytes() == CONTENT


async def test_adopt_needs_no_file_that_has_no_bytes(store: BlobStore, tmp_path: Path) -> None:
    for project in (P, Q, P):
        await store.adopt(project, [FinishedFile(sha(b""), 0, tmp_path / "never")])
        assert (await store.read(project, sha(b""))).read_bytes() == b""


async def test_adopt_of_what_is_nowhere_is_refused(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        await store.adopt(P, [FinishedFile(sha(CONTENT), len(CONTENT), tmp_path / "never")])
    assert await store.missing(P, [sha(CONTENT)])


async def test_adopt_refuses_a_file_of_another_size(store: BlobStore, tmp_path: Path) -> None:
    file = tmp_path / "outbox"
    file.write_bytes(CONTENT + b"more")
    with pytest.raises(CorruptedError):
        await store.adopt(P, [FinishedFile(sha(CONTENT), len(CONTENT), file)])
    assert await store.missing(P, [sha(CONTENT)])


async def test_adopt_follows_no_link(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(CONTENT)
    (tmp_path / "outbox").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidArgumentError):
        await store.adopt(P, [FinishedFile(sha(CONTENT), len(CONTENT), tmp_path / "outbox")])


async def test_remove_frees_what_nobody_wants(store: BlobStore) -> None:
    gone, kept = await put(store, b"gone"), await put(store, b"kept")
    await store.remove(P, [gone], nothing_wanted)
    assert await store.missing(P, [gone, kept]) == {gone}


async def test_remove_asks_while_the_blob_is_out_of_reach(store: BlobStore) -> None:
    held = await put(store, CONTENT)
    asked: list[tuple[set[str], set[str]]] = []

    async def wanted(hidden: set[str]) -> set[str]:
        asked.append((hidden, await store.missing(P, [held])))
        return hidden

    await store.remove(P, [held], wanted)
    assert asked == [({held}, {held})]
    assert (await store.read(P, held)).read_bytes() == CONTENT


async def test_remove_puts_all_back_when_the_question_fails(store: BlobStore) -> None:
    held = await put(store, CONTENT)

    async def broken(_: set[str]) -> set[str]:
        raise UnavailableError("no answer")

    with pytest.raises(UnavailableError):
        await store.remove(P, [held], broken)
    assert (await store.read(P, held)).read_bytes() == CONTENT


async def test_remove_may_be_repeated(store: BlobStore) -> None:
    held = await put(store, CONTENT)
    await store.remove(P, [held], nothing_wanted)
    await store.remove(P, [held, sha(b"never there")], nothing_wanted)
    assert await store.missing(P, [held]) == {held}


async def test_remove_leaves_the_same_bytes_of_another_project(store: BlobStore) -> None:
    held = await put(store, CONTENT, P)
    await put(store, CONTENT, Q)
    await store.remove(P, [held], nothing_wanted)
    assert (await store.read(Q, held)).read_bytes() == CONTENT


async def test_an_upload_during_removal_stays(store: BlobStore) -> None:
    held = await put(store, CONTENT)

    async def somebody_uploads_it_again(_: set[str]) -> set[str]:
        await put(store, CONTENT)
        return set()

    await store.remove(P, [held], somebody_uploads_it_again)
    assert (await store.read(P, held)).read_bytes() == CONTENT


async def test_a_project_that_is_gone_takes_its_bytes_along_and_nobody_elses(store: BlobStore) -> None:
    held = await put(store, CONTENT, P)
    await put(store, CONTENT, Q)
    assert sorted(await store.projects()) == sorted([P, Q])
    await store.drop(P)
    await store.drop(P)
    assert await store.missing(P, [held]) == {held}
    assert await store.projects() == [Q]
    assert (await store.read(Q, held)).read_bytes() == CONTENT


@pytest.mark.parametrize("fault", Fault)
async def test_every_step_may_be_repeated_after_a_failure(tmp_path: Path, fault: Fault) -> None:
    store = FailingBlobStore(LocalBlobStore(tmp_path), [fault, None, fault, None])
    with pytest.raises(UnavailableError):
        await put(store, CONTENT)
    held = await put(store, CONTENT)
    with pytest.raises(UnavailableError):
        await store.remove(P, [held], nothing_wanted)
    await store.remove(P, [held], nothing_wanted)
    assert await store.missing(P, [held]) == {held}
