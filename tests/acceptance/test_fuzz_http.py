"""Hostile HTTP to a real server: signed URLs in all their parts, headers, bodies. It answers, and not with 500."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as pb
from yandex.cloud.datasphere.v2.jobs.jobs_pb2 import File, FileDesc, JobParameters

from tests.fuzzing import fuzz
from tests.grpc_client import Api, file_of
from tests.live import HANG_S, Client, LiveServer

CONTENT = b"what is to be kept\n" * 100
REFUSALS = {400, 403, 404, 405, 408, 411, 412, 413, 414, 416, 417, 431, 501, 505}
"""Everything but a success and a 500."""
_WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
_HOSTILE = st.sampled_from(
    ["", "\0", "\r\nX-Evil: 1", "..", "../" * 20, "%2e%2e%2f", "%00", "%0d%0a", "%ff", "%", "a" * 9000, "é", "9" * 40,
     "-1", "1e9", "\x1b[2J", "//", "?", "#", "{project}", "[", "\ud7ff"]
)  # fmt: skip
RAW = st.one_of(_HOSTILE, _WORDS)
HEADERS = st.lists(
    st.sampled_from(
        ["Range: bytes=0-", "Range: bytes=-1", "Range: bytes=5-2", "Range: bytes=0-0,2-3,9-",
         "Range: bytes=" + "0-1," * 900,
         "Range: bytes=99999999999999999999-", "Range: lines=1-2", "If-Range: x", "If-None-Match: *", "If-Match: x",
         "If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "If-Modified-Since: \x01", "If-Unmodified-Since: 0",
         "Content-Length: 5", "Content-Length: -1", "Content-Length: 1, 2", "Content-Length: 99999999999999999999",
         "Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: \x0bchunked",
         "Content-Encoding: br", "Expect: 100-continue", "Expect: magic", "Host: \x1b]0;t\x07", "Host: a:b:c",
         "Connection: upgrade", "Upgrade: websocket", "Upgrade: h2c", "Accept-Encoding: br, gzip", "X: " + "y" * 9000,
         "Cookie: " + ";" * 500, "X\x00: 1", " folded", ": nameless", "Content-Type: multipart/form-data; boundary=",
         "X-Forwarded-For: 1.2.3.4", "Authorization: Bearer jsp_x"]
    ),
    max_size=4,
)  # fmt: skip
BODIES = st.sampled_from(
    [b"", b"x", CONTENT, CONTENT[:-1], CONTENT + b"x", b"0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"-1\r\nx\r\n",
     b"ffffffffffffffffffff\r\nx", b"5;" + b"e=v;" * 3000 + b"\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX",
     b"0\r\nX: 1\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n", b"\xff" * 100]
)  # fmt: skip
METHODS = st.sampled_from(
    ["GET", "PUT", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "", "PUT\t", "Ü"]
)


@dataclass
class Http:
    """The port of a server, a URL to fetch from and one to bring to."""

    server: LiveServer
    get: str
    put: str

    def exchange(self, data: bytes) -> list[int]:
        """Send bytes and an end; the statuses of what comes back."""
        with socket.create_connection(("127.0.0.1", self.server.ports["http"]), timeout=HANG_S) as connection:
            answer = bytearray()
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1 << 16):
                    answer += part
            except ConnectionError:
                pass  # refused before all was sent
        assert b"X-Evil" not in answer.partition(b"\r\n\r\n")[0]
        return [int(s) for s in re.findall(rb"HTTP/1\.[01] ([0-9]{3}) [^\r\n]*\r\n", answer)]

    def check(self, data: bytes) -> None:
        statuses = self.exchange(data)
        assert all(s in REFUSALS or s < 400 for s in statuses), (statuses, data)
        assert self.server.process
        assert self.server.process.poll() is None

    def memory(self) -> int:
        assert self.server.process
        found = re.search(r"VmHWM:\s+([0-9]+)", Path(f"/proc/{self.server.process.pid}/status").read_text())
        assert found
        return int(found[1]) << 10


@pytest.fixture(scope="module")
def http(server: LiveServer, client: Client) -> Iterator[Http]:
    api, project = Api.of(server), client.project
    kept = api.create(project, "true", {"kept": CONTENT})
    request = pb.DownloadProjectJobFilesRequest(job_id=kept, files=[file_of("kept", CONTENT)])
    get = api.call(api.jobs.DownloadJobFiles, request).download_files[0].url
    other = hashlib.sha256(b"never brought").hexdigest()
    spec = JobParameters(cmd="true", input_files=[File(desc=FileDesc(path="n"), sha256=other, size_bytes=len(CONTENT))])
    spec.cloud_instance_types.add(name="c1.4")
    made = pb.CreateProjectJobResponse()
    api.call(api.jobs.Create, pb.CreateProjectJobRequest(project_id=project, job_parameters=spec)).response.Unpack(made)
    yield Http(server, get, made.upload_files[0].url)
    api.close()


def head(method: str, target: str, headers: list[str]) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode("utf-8", "replace")


@fuzz(150)
@given(method=METHODS, put=st.booleans(), headers=HEADERS, body=BODIES)
def test_methods_headers_and_bodies(http: Http, method: str, put: bool, headers: list[str], body: bytes) -> None:
    url = urlsplit(http.put if put else http.get)
    http.check(head(method, f"{url.path}?{url.query}", ["Connection: close", *headers]) + body)


@fuzz(150)
@given(st.data())
def test_paths_and_queries(http: Http, data: st.DataObject) -> None:
    """One part of a signed URL is another: it opens nothing."""
    url = urlsplit(data.draw(st.sampled_from([http.get, http.put])))
    path, pairs = url.path.split("/"), [pair.partition("=")[::2] for pair in url.query.split("&")]
    place = data.draw(st.integers(0, len(path) + len(pairs) - 1))
    text = data.draw(RAW)
    shown = data.draw(st.sampled_from([text, quote(text, safe="")]))
    if place < len(path):
        was, path[place] = path[place], shown
    else:
        key, was = pairs[place - len(path)]
        pairs[place - len(path)] = (key, shown)
    target = "/".join(path) + "?" + "&".join(f"{k}={v}" for k, v in pairs)
    sent = head("GET" if url == urlsplit(http.get) else "PUT", target, ["Connection: close", "Content-Length: 0"])
    http.check(sent)
    if text not in {was, ""} and not set(text) & set("#?/ \r\n&;="):
        assert not [s for s in http.exchange(sent) if s < 300], target


@fuzz(100)
@given(st.binary(max_size=400), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]))
def test_bytes_that_are_no_request(http: Http, data: bytes, before: bytes) -> None:
    http.check(before + data)


def test_a_hundred_thousand_headers_and_an_endless_line_are_refused(http: Http) -> None:
    before = http.memory()
    http.check(b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 100_000)
    http.check(b"GET /" + b"a" * (32 << 20))
    assert http.memory() - before < 64 << 20


def test_nothing_of_it_is_in_the_log(http: Http) -> None:
    """And what was kept is what it was."""
    url = urlsplit(http.get)
    with socket.create_connection(("127.0.0.1", http.server.ports["http"]), timeout=HANG_S) as connection:
        connection.sendall(head("GET", f"{url.path}?{url.query}", ["Connection: close"]))
        assert connection.makefile("rb").read().endswith(b"\r\n\r\n" + CONTENT)
    assert "Traceback" not in http.server.log
    assert "\x1b" not in http.server.log
