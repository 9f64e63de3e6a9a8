"""Several stores on one bucket, URLs that clients use, and what a bucket refuses."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from obstore.store import MemoryStore
from tests.integration.s3_server import BUCKET, Service, s3_service
from tests.live import wait_for

from jobsphere.blob.bucket import BucketBlobStore
from jobsphere.blob.objects import Objects, Place
from jobsphere.blob.transfers import BucketTransfers
from jobsphere.domain.errors import FailedPreconditionError, UnavailableError
from jobsphere.domain.ports import BlobGrant

P, Q = "p" * 20, "q" * 20
CONTENT = b"some bytes"
SHA = hashlib.sha256(CONTENT).hexdigest()
ROUNDS = 400 if os.environ.get("JOBSPHERE_SOAK") else 40


class Jittered(Objects):
    """Others have their turn before and after each call, for as long as chance says."""

    def __init__(self, store: object, chance: random.Random) -> None:
        super().__init__(store)
        self._chance = chance

    async def _wait(self) -> None:
        await asyncio.sleep(self._chance.choice([0, 0, 0.001, 0.004]))

    async def listed(self, prefix):
        await self._wait()
        found = await super().listed(prefix)
        await self._wait()
        return found

    async def put(self, key, content):
        await self._wait()
        await super().put(key, content)
        await self._wait()

    async def _delete(self, key):
        await self._wait()
        await super()._delete(key)
        await self._wait()


class Clock:
    """The time, or later."""

    def __init__(self, later: timedelta = timedelta()) -> None:
        self.later = later

    def now(self) -> datetime:
        return datetime.now(UTC) + self.later


async def of(project: str = P) -> list[str]:
    return [project]


async def content(bytes_: bytes = CONTENT) -> AsyncIterator[bytes]:
    yield bytes_


async def settled(_: str, __: str) -> None:
    return None


async def nothing(_: set[str]) -> set[str]:
    return set()


@pytest.fixture
def bucket() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def one(bucket: MemoryStore, tmp_path: Path) -> BucketBlobStore:
    return BucketBlobStore(Objects(bucket), tmp_path / "one", of)


@pytest.fixture
def two(bucket: MemoryStore, tmp_path: Path) -> BucketBlobStore:
    return BucketBlobStore(Objects(bucket), tmp_path / "two", of)


def names(bucket: MemoryStore) -> list[str]:
    return sorted(str(meta["path"]) for chunk in bucket.list("blobs") for meta in chunk)


async def test_what_another_server_puts_meanwhile_stays(one: BucketBlobStore, two: BucketBlobStore) -> None:
    await one.receive(P, SHA, len(CONTENT), content())

    async def wanted(_: set[str]) -> set[str]:
        assert await two.missing(P, [SHA]) == {SHA}
        await two.receive(P, SHA, len(CONTENT), content())
        return set()

    await one.remove(P, [SHA], wanted)
    assert not await one.missing(P, [SHA])
    assert (await two.read(P, SHA)).read_bytes() == CONTENT


async def test_what_is_out_of_reach_can_still_be_read(one: BucketBlobStore, two: BucketBlobStore) -> None:
    await one.receive(P, SHA, len(CONTENT), content())

    async def wanted(hidden: set[str]) -> set[str]:
        assert (await two.read(P, SHA)).read_bytes() == CONTENT
        return hidden

    await one.remove(P, [SHA], wanted)
    assert not await two.missing(P, [SHA])


async def test_two_that_remove_the_same_free_it_and_leave_nothing(
    one: BucketBlobStore, two: BucketBlobStore, bucket: MemoryStore
) -> None:
    await one.receive(P, SHA, len(CONTENT), content())

    async def wanted(_: set[str]) -> set[str]:
        await two.remove(P, [SHA], nothing)
        return set()

    await one.remove(P, [SHA], wanted)
    assert await one.missing(P, [SHA])
    assert names(bucket) == []


async def test_what_a_killed_server_left_out_of_reach_comes_back(
    one: BucketBlobStore, two: BucketBlobStore, bucket: MemoryStore
) -> None:
    await one.receive(P, SHA, len(CONTENT), content())
    (copy,) = names(bucket)
    bucket.put(f"{copy}.gone", b"")
    bucket.put(f"blobs/{P}/{SHA}/{'0' * 32}.gone", b"")
    assert await two.missing(P, [SHA]) == {SHA}
    assert await two.held(P) == {SHA}
    assert not await two.missing(P, [SHA])
    assert len(names(bucket)) == 1
    assert names(bucket) != [copy]


async def test_who_decides_late_removes_only_what_they_looked_at(
    one: BucketBlobStore, two: BucketBlobStore, bucket: MemoryStore
) -> None:
    """One server has decided that a blob goes and is slow to remove it; the other takes its mark for a dead one's."""
    await one.receive(P, SHA, len(CONTENT), content())

    async def wanted(_: set[str]) -> set[str]:
        await two.held(P)  # the sweep of a start
        assert not await two.missing(P, [SHA])
        return set()

    await one.remove(P, [SHA], wanted)
    assert not await two.missing(P, [SHA])
    assert (await two.read(P, SHA)).read_bytes() == CONTENT
    assert len(names(bucket)) == 1


@pytest.mark.parametrize("seed", range(ROUNDS // 20))
async def test_whoever_refers_to_a_blob_has_it(tmp_path: Path, bucket: MemoryStore, seed: int) -> None:
    """Jobs of two servers come and go, each with the same blob; a third server starts now and then."""
    chance, references = random.Random(seed), Counter[str]()
    stores = [BucketBlobStore(Jittered(bucket, chance), tmp_path / str(n), of) for n in range(3)]
    fresh = iter(range(10_000))

    async def unwanted(hashes: set[str]) -> set[str]:
        return {h for h in hashes if not references[h]}

    async def sweep(store: BucketBlobStore) -> None:
        if gone := await unwanted(await store.held(P)):
            await store.remove(P, gone, kept)

    async def kept(hidden: set[str]) -> set[str]:
        return hidden - await unwanted(hidden)

    async def job(store: BucketBlobStore) -> None:
        await asyncio.sleep(chance.random() * 0.04)
        references[SHA] += 1
        if await store.missing(P, [SHA]):
            await store.receive(P, SHA, len(CONTENT), content())
        await asyncio.sleep(chance.choice([0, 0.002, 0.01]))
        node = BucketBlobStore(Objects(bucket), tmp_path / f"node-{next(fresh)}", of)
        assert (await node.read(P, SHA)).read_bytes() == CONTENT
        references[SHA] -= 1
        if not references[SHA]:
            await store.remove(P, [SHA], kept)

    for _ in range(15):
        await asyncio.gather(*(job(chance.choice(stores)) for _ in range(6)), sweep(stores[2]))
    await sweep(stores[2])
    assert names(bucket) == []


async def test_the_prefix_of_another_database_is_refused(bucket: MemoryStore, tmp_path: Path) -> None:
    await BucketBlobStore(Objects(bucket), tmp_path, lambda: of(P)).claim()
    await BucketBlobStore(Objects(bucket), tmp_path, lambda: of(P)).claim()
    other = BucketBlobStore(Objects(bucket), tmp_path, lambda: of(Q))
    with pytest.raises(FailedPreconditionError, match="the files of another server's database"):
        await other.claim()
    for removal in (other.drop(P), other.remove(P, [SHA], nothing)):
        with pytest.raises(FailedPreconditionError):
            await removal


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with s3_service() as running:
        yield running


@pytest.fixture
def place(service: Service, request: pytest.FixtureRequest) -> Place:
    keys = {"access_key_id": service.access_key, "secret_access_key": service.secret_key}
    return Place("s3", BUCKET, request.node.name, {"endpoint": service.url, "region": "us-east-1", **keys})


def grant(method: str, life: timedelta, sha256: str = SHA, project: str = P) -> BlobGrant:
    return BlobGrant(method, project, sha256, len(CONTENT), datetime.now(UTC) + life)


def ask(method: str, url: str, body: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, method=method), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, b""


async def test_a_url_is_for_one_method_one_object_and_some_time(place: Place, tmp_path: Path) -> None:
    blobs = BucketBlobStore(place.open(), tmp_path, of)
    transfers = BucketTransfers(place.open(), blobs, Clock(), lambda _, __: nullcontext(), settled)
    await blobs.receive(P, SHA, len(CONTENT), content())
    await blobs.receive(Q, SHA, len(CONTENT), content())
    hour = timedelta(hours=1)
    get, put, other = await transfers.urls([grant("GET", hour), grant("PUT", hour), grant("GET", hour, project=Q)])

    assert await asyncio.to_thread(ask, "GET", get) == (200, CONTENT)
    assert (await asyncio.to_thread(ask, "PUT", get, b"x"))[0] == 403
    assert (await asyncio.to_thread(ask, "GET", put))[0] == 403
    moved = f"{other.partition('?')[0]}?{get.partition('?')[2]}"
    assert (await asyncio.to_thread(ask, "GET", moved))[0] == 403
    assert (await asyncio.to_thread(ask, "GET", get.partition("?")[0]))[0] == 403
    (short,) = await transfers.urls([grant("GET", timedelta(seconds=2))])
    assert (await asyncio.to_thread(ask, "GET", short))[0] == 200
    await asyncio.to_thread(wait_for, lambda: ask("GET", short)[0] == 403, "the URL has expired")


async def test_what_was_never_taken_in_goes_when_it_is_old_and_nobodys(bucket: MemoryStore, tmp_path: Path) -> None:
    clock, objects = Clock(), Objects(bucket)
    blobs = BucketBlobStore(objects, tmp_path, of)
    transfers = BucketTransfers(objects, blobs, clock, lambda _, __: nullcontext(), settled)
    waits = "0" * 64
    for sha256 in (SHA, waits):
        await objects.put(f"incoming/{P}/{sha256}/a", CONTENT)

    async def unreferenced(_: str, hashes) -> set[str]:
        return set(hashes) - {waits}

    await transfers.sweep(unreferenced)
    assert len(await objects.listed("incoming")) == 2
    clock.later = timedelta(hours=49)
    await transfers.sweep(unreferenced)
    assert [found.key for found in await objects.listed("incoming")] == [f"incoming/{P}/{waits}/a"]


async def test_a_service_that_refuses_or_is_away_is_told_and_no_key_with_it(
    place: Place, service: Service, tmp_path: Path
) -> None:
    wrong = Place("s3", BUCKET, "x", {**place.options, "secret_access_key": "not-the-secret"})
    blobs = BucketBlobStore(wrong.open(), tmp_path, of)
    with pytest.raises(FailedPreconditionError, match="refuses this server") as refused:
        await blobs.claim()
    nowhere = Place("s3", BUCKET, "x", {**place.options, "endpoint": "http://127.0.0.1:1"})
    with pytest.raises(UnavailableError, match="cannot be reached; try again") as away:
        await BucketBlobStore(nowhere.open(timedelta(seconds=1)), tmp_path, of).missing(P, [SHA])
    for text in (repr(wrong), repr(place), repr(refused.value.context), repr(away.value.context), str(refused.value)):
        assert "not-the-secret" not in text
        assert service.secret_key not in text
