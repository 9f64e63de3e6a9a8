"""The CONNECT proxy: where it leads, where it does not, and the index of offline mode."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jobsphere.api.audit import Origins
from jobsphere.api.offline import MAX_HOSTS
from jobsphere.api.proxy import UI_DOMAIN, Proxy, ProxyLimits, offline_proxy_url
from jobsphere.api.tls import TlsFiles, ensure_certificates

DEFAULT_LIMITS = ProxyLimits()
NOWHERE = ("127.0.0.1", 9)
"""Nobody listens there."""
MARK = f"Proxy-Authorization: Basic {base64.b64encode(b'offline:').decode()}\r\n"
API = "datasphere.api.cloud.yandex.net:443"
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Serve = Callable[[Reader, Writer], Awaitable[None]]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return ensure_certificates(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def backend(serve: Serve) -> AsyncIterator[tuple[str, int]]:
    """What stands for the gRPC server."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[:2]
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def proxied(target: tuple[str, int], tls: TlsFiles, limits: ProxyLimits = DEFAULT_LIMITS) -> AsyncIterator[int]:
    proxy = Proxy(target, tls, limits)
    port = await proxy.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await proxy.stop()


async def echo(reader: Reader, writer: Writer) -> None:
    """Send everything back, and one more word when the client has said its last."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    writer.write(b"<end>")
    writer.close()
    await writer.wait_closed()


async def ask(port: int, head: str) -> tuple[Reader, Writer, str]:
    """Send a request head; the answer's first line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    return reader, writer, (await reader.readline()).decode().strip()


def connect(authority: str, headers: str = "") -> str:
    return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n"


async def refusal(port: int, head: str) -> tuple[int, str]:
    """Status and sentence of a request that is refused; the proxy closes after it."""
    reader, writer, line = await ask(port, head)
    body = (await reader.read()).decode().partition("\r\n\r\n")[2]
    writer.close()
    return int(line.split()[1]), body.strip()


@pytest.mark.parametrize(
    "authority",
    [API, "api.cloud.yandex.net:443", "IAM.API.cloud.yandex.net:443", "operation.api.cloud.yandex.net.:443"],
)
async def test_the_vendors_hosts_lead_to_the_local_server(tls: TlsFiles, authority: str) -> None:
    async with backend(echo) as target, proxied(target, tls) as port:
        reader, writer, line = await ask(port, connect(authority))
        assert line == "HTTP/1.1 200 Connection established"
        assert await reader.readline() == b"\r\n"
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        writer.close()


async def test_the_servers_own_address_leads_there_too(tls: TlsFiles) -> None:
    async with backend(echo) as target, proxied(target, tls) as port:
        _, writer, line = await ask(port, connect(f"{target[0]}:{target[1]}"))
        assert line.startswith("HTTP/1.1 200")
        writer.close()


async def test_bytes_sent_along_with_the_request_are_not_lost(tls: TlsFiles) -> None:
    async with backend(echo) as target, proxied(target, tls) as port:
        reader, writer, _ = await ask(port, connect(API) + "early")
        await reader.readline()
        assert await reader.readexactly(5) == b"early"
        writer.close()


async def test_each_side_may_say_its_last_word_first(tls: TlsFiles) -> None:
    async with backend(echo) as target, proxied(target, tls) as port:
        reader, writer, _ = await ask(port, connect(API))
        await reader.readline()
        writer.write(b"abc")
        writer.write_eof()
        assert await reader.read() == b"abc<end>"
        writer.close()


async def test_megabytes_pass_unchanged_and_a_slow_reader_holds_the_sender_up(tls: TlsFiles) -> None:
    size = 32 << 20
    sent = 0

    async def pour(_: Reader, writer: Writer) -> None:
        nonlocal sent
        while sent < size:
            writer.write(bytes([sent >> 16 & 0xFF]) * 65_536)
            sent += 65_536
            await writer.drain()
        writer.close()

    async with backend(pour) as target, proxied(target, tls) as port:
        reader, writer, _ = await ask(port, connect(API))
        await reader.readline()
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < size  # nobody has read, and it did not pile up in the proxy
        expected = hashlib.sha256(b"".join(bytes([i & 0xFF]) * 65_536 for i in range(size >> 16)))
        assert hashlib.sha256(await reader.read()).digest() == expected.digest()
        writer.close()


@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        (connect("pypi.example:443"), 403, "pypi.example:443 is not served here"),
        (connect("evil-api.cloud.yandex.net.example:443"), 403, "not served"),
        (connect("evilapi.cloud.yandex.net:443"), 403, "not served"),
        (connect("datasphere.api.cloud.yandex.net:22"), 403, "not served"),
        (connect("127.0.0.1:22"), 403, "not served"),
        (connect("[::1]:22"), 403, "not served"),
        (connect("pypi.example:80", MARK), 403, "not served"),
        (connect("pypi.example:443", "Proxy-Authorization: Basic !!!\r\n"), 403, "not served"),
        (connect("pypi.example"), 400, "host:port"),
        (connect("a/b:443"), 400, "host:port"),
        (connect("x:99999"), 400, "host:port"),
        ("GET http://pypi.example/ HTTP/1.1\r\n\r\n", 405, "only answers CONNECT"),
        ("nonsense\r\n\r\n", 400, "not an HTTP/1 request"),
        (connect(API, f"X: {'y' * 20_000}\r\n"), 431, "too long"),
        (f"CONNECT {'y' * 8_000_000}", 431, "too long"),
    ],
    ids=str.split("host suffix prefix ssh loopback loopback6 http badmark noport slash port get junk header line"),
)
async def test_everything_else_is_refused_with_a_sentence(tls: TlsFiles, head: str, status: int, words: str) -> None:
    async with proxied(NOWHERE, tls) as port:
        told = await refusal(port, head)
    assert told[0] == status
    assert words in told[1]


async def test_a_server_that_is_down_is_a_502(tls: TlsFiles) -> None:
    async with proxied(NOWHERE, tls) as port:
        assert (await refusal(port, connect(API)))[0] == 502


async def test_a_client_that_never_ends_its_request_is_cut_off(tls: TlsFiles) -> None:
    async with proxied(NOWHERE, tls, ProxyLimits(request_s=0.2)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"CONNECT x")
        assert await reader.read() == b""
        writer.close()


async def test_a_client_that_never_shakes_hands_is_cut_off(tls: TlsFiles) -> None:
    async with proxied(NOWHERE, tls, ProxyLimits(request_s=0.2)) as port:
        reader, writer, line = await ask(port, connect("pypi.example:443", MARK))
        assert line.startswith("HTTP/1.1 200")
        assert await reader.read() == b"\r\n"
        writer.close()


async def test_too_many_connections_are_turned_away_and_places_come_back(tls: TlsFiles) -> None:
    async with backend(echo) as target, proxied(target, tls, ProxyLimits(connections=1)) as port:
        reader, writer, _ = await ask(port, connect(API))
        assert (await refusal(port, connect(API)))[0] == 503
        writer.write_eof()
        await reader.read()
        writer.close()
        while (status := (await refusal(port, "junk\r\n\r\n"))[0]) == 503:
            pass
        assert status == 400  # let in, and only then refused


async def test_whom_a_connection_to_the_server_is_for_is_known_while_it_lasts(tls: TlsFiles) -> None:
    origins, peers = Origins(), []

    async def serve(reader: Reader, writer: Writer) -> None:
        host, port = writer.get_extra_info("peername")
        peers.append(f"ipv4:{host}:{port}")
        await echo(reader, writer)

    async with backend(serve) as target:
        proxy = Proxy(target, tls, origins=origins)
        port = await proxy.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.3", 0))
        ours = ":".join(map(str, writer.get_extra_info("sockname")))
        writer.write(connect(API).encode() + b"x")
        await reader.readuntil(b"x")
        assert origins.of(peers[0]) == ours
        writer.write_eof()
        await reader.read()
        writer.close()
        await proxy.stop()
    assert origins.of(peers[0]) == peers[0].removeprefix("ipv4:")


def test_an_ipv6_peer_is_told_in_its_usual_form() -> None:
    origins = Origins()
    assert origins.of("ipv6:%5B::1%5D:7") == "[::1]:7"
    origins.note(("::1", 7, 0, 0), ("fe80::1", 8, 0, 0))
    assert origins.of("ipv6:%5B::1%5D:7") == "[fe80::1]:8"


async def test_stop_closes_open_tunnels(tls: TlsFiles) -> None:
    async with backend(echo) as target:
        proxy = Proxy(target, tls)
        port = await proxy.start("127.0.0.1", 0)
        reader, writer, _ = await ask(port, connect(API))
        await reader.readline()
        await proxy.stop()
        assert await reader.read() == b""
        writer.close()


async def index(port: int, host: str, request: str, tls: TlsFiles) -> str:
    """One request to the offline index, with the host's certificate checked."""
    reader, writer, line = await ask(port, connect(f"{host}:443", MARK))
    assert line.startswith("HTTP/1.1 200")
    await reader.readline()
    context = ssl.create_default_context(cafile=str(tls.ca_pem))
    await writer.start_tls(context, server_hostname=host)
    writer.write(f"{request} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer


async def test_in_offline_mode_any_host_is_an_index_without_files(tls: TlsFiles) -> None:
    async with proxied(NOWHERE, tls) as port:
        for host in ("pypi.example", "192.0.2.1"):
            answer = await index(port, host, "GET /simple/datasphere/", tls)
            head, _, body = answer.partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/html")
            assert f"Content-Length: {len(body)}" in head
            assert "pypi:repository-version" in body
            assert "<a" not in body


async def test_the_index_can_only_be_read(tls: TlsFiles) -> None:
    async with proxied(NOWHERE, tls) as port:
        assert (await index(port, "pypi.example", "POST /", tls)).startswith("HTTP/1.1 405")
        head, _, body = (await index(port, "pypi.example", "HEAD /simple/", tls)).partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200")
        assert body == ""


async def test_certificates_of_offline_hosts_are_kept_in_memory_and_limited(tls: TlsFiles) -> None:
    before = {p.name for p in Path(tls.ca_key.parent).iterdir()}
    proxy = Proxy(NOWHERE, tls)
    contexts = proxy._played._contexts
    for i in range(MAX_HOSTS + 3):
        proxy._played._context(f"h{i}.example")
    proxy._played._context("h5.example")
    assert len(contexts) == MAX_HOSTS
    assert "h0.example" not in contexts
    assert list(contexts)[-1] == "h5.example"
    assert {p.name for p in Path(tls.ca_key.parent).iterdir()} == before


def test_the_mark_of_offline_mode_has_an_empty_password() -> None:
    assert offline_proxy_url("127.0.0.1", 8080) == "http://offline:@127.0.0.1:8080"


async def test_the_link_that_the_client_prints_leads_to_the_pages_here(tls: TlsFiles) -> None:
    link = "/communities/c/projects/p/job/j?x=%22&y=<\u00e9>"
    proxy = Proxy(NOWHERE, tls, pages="http://127.0.0.1:9080")
    port = await proxy.start("127.0.0.1", 0)
    answer = await index(port, UI_DOMAIN, f"GET {link}", tls)
    refused = await refusal(port, connect("other.yandex.cloud:443"))
    await proxy.stop()
    assert answer.startswith("HTTP/1.1 302 ")
    location = next(line for line in answer.splitlines() if line.startswith("Location: "))
    assert location.startswith("Location: http://127.0.0.1:9080/communities/c/projects/p/job/j?x=%22&y=%3C")
    assert refused[0] == 403
