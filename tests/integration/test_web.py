"""Blobs over real sockets, as clients of all kinds bring and fetch them."""

import asyncio
import contextlib
import hashlib
import http.client
import logging
import os
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs

from jobsphere.blob.local import LocalBlobStore
from jobsphere.blob.signing import HmacUrlSigner
from jobsphere.domain.ports import BlobGrant
from jobsphere.web.app import build_app, serve

P, Q = "p" * 20, "q" * 20
CONTENT = b"some bytes"
MIB = 1 << 20


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class Web:
    """A server on a port of its own, and a client."""

    root: Path
    port: int
    store: LocalBlobStore
    signer: HmacUrlSigner
    client: aiohttp.ClientSession
    ready: list[bool]
    leads: list[bool]

    def url(self, method: str, content: bytes = CONTENT, **changes: object) -> str:
        expires = datetime.now(UTC) + timedelta(minutes=5)
        grant = BlobGrant(method, P, hashlib.sha256(content).hexdigest(), len(content), expires)
        return self.signer.sign(replace(grant, **changes))  # type: ignore[arg-type]

    async def put(self, content: bytes = CONTENT) -> None:
        async with self.client.put(self.url("PUT", content), data=content) as response:
            assert response.status == 200, await response.text()

    def files(self) -> list[str]:
        return sorted(p.name for p in self.root.rglob("*") if not p.is_dir())


@pytest.fixture
async def web(tmp_path: Path) -> AsyncIterator[Web]:
    ready, leads = [True], [True]
    store = LocalBlobStore(tmp_path / "blobs")
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    signer = HmacUrlSigner(os.urandom(32), f"http://127.0.0.1:{port}", WallClock())
    app = build_app(
        signer, store, lambda: ready[0], lambda: leads[0], idle_timeout_s=0.5, request_s=0.5, connections=20
    )
    runner = await serve(app, listening)
    async with aiohttp.ClientSession() as client:
        yield Web(tmp_path / "blobs", port, store, signer, client, ready, leads)
    await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the disk has no events
            await asyncio.sleep(0.005)


async def refused(web: Web, method: str, url: str, **how: object) -> tuple[int, str]:
    async with web.client.request(method, url, **how) as response:  # type: ignore[arg-type]
        assert response.content_type == "text/plain"
        return response.status, await response.text()


async def test_bytes_go_in_and_come_out(web: Web) -> None:
    await web.put()
    async with web.client.get(web.url("GET", name='o/отчёт "1".txt')) as response:
        assert await response.read() == CONTENT
        assert response.headers["Content-Type"] == "application/octet-stream"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Content-Disposition"] == (
            "attachment; filename=\" 1.txt\"; filename*=UTF-8''%D0%BE%D1%82%D1%87%D1%91%D1%82%20%221%22.txt"
        )


async def test_a_name_cannot_add_headers(web: Web) -> None:
    await web.put()
    async with web.client.get(web.url("GET", name="a\r\nSet-Cookie: x=1")) as response:
        assert response.status == 200
        assert "Set-Cookie" not in response.headers


async def test_a_range_and_the_size_alone(web: Web) -> None:
    await web.put()
    async with web.client.get(web.url("GET"), headers={"Range": "bytes=5-"}) as response:
        assert (response.status, await response.read()) == (206, CONTENT[5:])
    async with web.client.head(web.url("GET")) as response:
        assert (response.status, response.content_length) == (200, len(CONTENT))


async def test_an_empty_file_as_requests_sends_it(web: Web) -> None:
    def put_chunked() -> int:
        split = urlsplit(web.url("PUT", b""))
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
        connection.request("PUT", f"{split.path}?{split.query}", body=iter(()), encode_chunked=True)
        status = connection.getresponse().status
        connection.close()
        return status

    assert await asyncio.to_thread(put_chunked) == 200
    async with web.client.get(web.url("GET", b"")) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_a_chunked_upload_needs_no_length(web: Web) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield CONTENT[:4]
        yield CONTENT[4:]

    async with web.client.put(web.url("PUT"), data=pieces()) as response:
        assert response.status == 200


async def test_compressed_bytes_are_taken_as_they_travel(web: Web) -> None:
    async with web.client.put(web.url("PUT"), data=CONTENT, headers={"Content-Encoding": "gzip"}) as response:
        assert response.status == 200
    assert (await web.store.read(P, hashlib.sha256(CONTENT).hexdigest())).read_bytes() == CONTENT


async def test_a_large_upload_needs_little_memory(web: Web) -> None:
    block = os.urandom(MIB)
    whole = hashlib.sha256()
    for _ in range(50):
        whole.update(block)

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield block

    url = web.url("PUT", sha256=whole.hexdigest(), size_bytes=50 * MIB)
    tracemalloc.start()
    async with web.client.put(url, data=blocks(), headers={"Content-Length": str(50 * MIB)}) as response:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert response.status == 200
    assert peak < 16 * MIB
    assert (await web.store.read(P, whole.hexdigest())).stat().st_size == 50 * MIB


@pytest.mark.fault("uploads cut in the middle and repeated")
async def test_the_same_upload_may_be_repeated(web: Web) -> None:
    await web.put()
    await web.put()
    assert web.files() == [hashlib.sha256(CONTENT).hexdigest()]


@pytest.mark.fault("uploads cut in the middle and repeated")
async def test_other_bytes_are_refused_with_a_sentence(web: Web) -> None:
    status, text = await refused(web, "PUT", web.url("PUT"), data=b"S" + CONTENT[1:])
    assert (status, web.files()) == (400, [])
    assert "SHA-256" in text


@pytest.mark.parametrize("sent", [CONTENT + b"x", CONTENT[:-1], b""])
async def test_a_length_that_was_not_announced_is_refused(web: Web, sent: bytes) -> None:
    status, text = await refused(web, "PUT", web.url("PUT"), data=sent)
    assert (status, web.files()) == (400, [])
    assert "while 10 were announced" in text


async def test_a_chunked_body_ends_at_the_granted_size(web: Web) -> None:
    async def far_too_much() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 1000

    status, text = await refused(web, "PUT", web.url("PUT"), data=far_too_much())
    assert (status, web.files()) == (400, [])
    assert "more bytes came" in text


async def send_head(web: Web, url: str, size: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    split = urlsplit(url)
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    head = f"PUT {split.path}?{split.query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
    writer.write(head.encode())
    await writer.drain()
    return reader, writer


@pytest.mark.fault("uploads cut in the middle and repeated")
async def test_a_cut_upload_leaves_nothing(web: Web) -> None:
    size = 4 * MIB
    _, writer = await send_head(web, web.url("PUT", size_bytes=size), size)
    writer.write(b"x" * (size // 2))
    await writer.drain()
    await until(lambda: web.files() != [])
    writer.transport.abort()
    await until(lambda: web.files() == [])


@pytest.mark.fault("uploads cut in the middle and repeated")
async def test_an_upload_that_stalls_is_given_up(web: Web) -> None:
    reader, writer = await send_head(web, web.url("PUT"), len(CONTENT))
    writer.write(CONTENT[:3])
    await writer.drain()
    async with asyncio.timeout(20):
        answer = await reader.readuntil(b"send it again\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400")
    assert web.files() == []


async def test_a_forged_url_opens_nothing(web: Web) -> None:
    url = web.url("PUT")
    forged = url[:-1] + ("0" if url[-1] != "0" else "1")
    status, text = await refused(web, "PUT", forged, data=CONTENT)
    assert (status, web.files()) == (403, [])
    assert "not made by this server" in text


async def test_an_expired_url_opens_nothing(web: Web) -> None:
    url = web.url("GET", expires_at=datetime.now(UTC) - timedelta(seconds=2))
    status, text = await refused(web, "GET", url)
    assert status == 403
    assert "expired" in text


async def test_a_url_is_for_its_method_only(web: Web) -> None:
    await web.put()
    assert (await refused(web, "GET", web.url("PUT")))[0] == 403
    assert (await refused(web, "PUT", web.url("GET"), data=CONTENT))[0] == 403


async def test_another_project_does_not_see_the_blob(web: Web) -> None:
    await web.put()
    status, text = await refused(web, "GET", web.url("GET", project_id=Q))
    assert status == 404
    assert "does not hold" in text


@pytest.mark.parametrize(
    "path",
    [
        "/v1/blobs/../" + "a" * 64,
        "/v1/blobs/..%2f..%2fetc/passwd",
        f"/v1/blobs/{P}/..%2f..%2fetc%2fpasswd",
        "/v1/%2e%2e",
    ],
)
async def test_a_path_leads_nowhere_else(web: Web, path: str) -> None:
    def get() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
        connection.request("GET", path + "?" + urlsplit(web.url("GET")).query)
        status = connection.getresponse().status
        connection.close()
        return status

    assert await asyncio.to_thread(get) in {403, 404}


async def test_a_signed_url_of_a_strange_project_is_refused(web: Web) -> None:
    status, _ = await refused(web, "PUT", web.url("PUT", project_id=".trash"), data=CONTENT)
    assert (status, web.files()) == (400, [])


@pytest.mark.fault("a file system that fills up")
async def test_a_full_disk_is_said_so(web: Web) -> None:
    size = 1 << 50
    reader, writer = await send_head(web, web.url("PUT", size_bytes=size), size)
    async with asyncio.timeout(20):
        answer = await reader.read(4096)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 507")


async def test_health_and_readiness(web: Web) -> None:
    async with web.client.get(f"http://127.0.0.1:{web.port}/healthz") as response:
        assert response.status == 200
    web.ready[0] = False
    status, text = await refused(web, "GET", f"http://127.0.0.1:{web.port}/readyz")
    assert status == 503
    assert text.startswith("not ready")


async def test_whether_a_server_leads_is_told_to_whoever_asks(web: Web) -> None:
    async with web.client.get(f"http://127.0.0.1:{web.port}/leadz") as response:
        assert (response.status, await response.text()) == (200, "leads\n")
    web.leads[0] = False
    status, text = await refused(web, "GET", f"http://127.0.0.1:{web.port}/leadz")
    assert status == 503
    assert text.startswith("follows")


async def test_no_log_shows_a_signature(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await web.put()
    url = web.url("GET", b"not there")
    await refused(web, "GET", url)
    assert url.rpartition("=")[2] not in caplog.text
    assert "signature" not in caplog.text


@pytest.mark.fault("slow-loris on every port")
@pytest.mark.parametrize("first", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_client_that_never_ends_a_request_is_cut_off(web: Web, first: bytes) -> None:
    """Also one that has ended an earlier one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    writer.write(first)
    if first.endswith(b"\r\n\r\n"):
        assert b"200 OK" in await reader.readuntil(b"ok\n")
        writer.write(b"GET /heal")
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"t")
                await writer.drain()
                if reader.at_eof():
                    break
                await asyncio.sleep(0.01)
    writer.close()


@pytest.mark.fault("slow-loris on every port")
async def test_too_many_silent_connections_keep_nobody_out_for_long(web: Web) -> None:
    silent = [await asyncio.open_connection("127.0.0.1", web.port) for _ in range(30)]

    async def answered() -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with web.client.get(f"http://127.0.0.1:{web.port}/healthz") as response:
                return response.status == 200
        return False

    async with asyncio.timeout(20):
        while not await answered():  # noqa: ASYNC110 - what is waited for is a connection that others hold
            await asyncio.sleep(0.01)
    for _, writer in silent:
        writer.close()


async def test_a_slow_upload_and_a_slow_download_are_no_silence(web: Web) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for byte in CONTENT:
            yield bytes([byte])
            await asyncio.sleep(0.1)

    async with web.client.put(web.url("PUT"), data=slowly()) as response:
        assert response.status == 200
    large = os.urandom(30 * MIB)
    await web.put(large)
    async with web.client.get(web.url("GET", large)) as response:
        received = bytearray(await response.content.read(1000))
        await asyncio.sleep(1)
        received += await response.content.read()
    assert received == large


async def test_a_mistake_of_the_servers_is_told_by_its_reference(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Path:
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(LocalBlobStore, "read", broken)
    with capture_logs() as log:
        status, text = await refused(web, "GET", web.url("GET"))
    assert status == 500
    assert "secret" not in text
    assert [entry["request_id"] for entry in log] == [text.split()[-1]]
