"""1 GiB up and down, against the least that has to be done with it."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from tests.grpc_client import Api
from tests.live import live_server
from yandex.cloud.datasphere.v2.jobs import jobs_pb2 as pb
from yandex.cloud.datasphere.v2.jobs import project_job_service_pb2 as service_pb

from benchmarks.figures import Figure
from benchmarks.memory import MIB, forget_peak, peak_mib, resident_mib

SIZE = 1 << 30
_BLOCK = 1 << 20
_ROUNDS = 3
_LOOP, _STATIC_FILE = "read, hash and write in one loop", "the same file from aiohttp"


def run() -> list[Figure]:
    """In turns, the median of each: a change of the host's pace hits all. What is read is in the page cache."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jobsphere-bench-")))
        server = stack.enter_context(live_server(folder / "data"))
        assert server.process
        api, pid, project = Api.of(server), server.process.pid, server.client().project
        stack.callback(api.close)
        loops, uploads, downloads, statics = list[float](), list[float](), list[float](), list[float]()
        memory = 0.0
        for number in range(_ROUNDS):
            file = _input(folder / f"input-{number}")
            sha, loop = _read_hash_write(file, folder / "copy")
            loops.append(loop)
            forget_peak(pid)
            before = resident_mib(pid)
            upload, job_id, described = _upload(api, project, file, sha)
            uploads.append(upload)
            request = service_pb.DownloadProjectJobFilesRequest(job_id=job_id, files=[described])
            url = api.call(api.jobs.DownloadJobFiles, request).download_files[0].url
            blob = next((server.shared / "blobs" / project).rglob(sha))
            _download(url)  # so that neither of the two is the first to read it
            downloads.append(_download(url))
            statics.append(_static(blob))
            memory = max(memory, peak_mib(pid) - before)
            file.unlink()
    return [
        Figure("upload of 1 GiB", median(uploads), "MiB/s", median(loops), _LOOP, target=0.6),
        Figure("download of 1 GiB", median(downloads), "MiB/s", median(statics), _STATIC_FILE, target=0.8),
        Figure("memory while at it", memory, "MiB", target=64, at_most=True),
    ]


def _input(path: Path) -> Path:
    with path.open("wb") as out:
        for _ in range(SIZE // _BLOCK):
            out.write(os.urandom(_BLOCK))
    return path


def _rate(begin: float) -> float:
    return SIZE / MIB / (time.perf_counter() - begin)


def _read_hash_write(file: Path, copy: Path) -> tuple[str, float]:
    digest, begin = hashlib.sha256(), time.perf_counter()
    with file.open("rb", buffering=0) as source, copy.open("wb", buffering=0) as target:
        while block := source.read(_BLOCK):
            digest.update(block)
            target.write(block)
        os.fdatasync(target.fileno())
    rate = _rate(begin)
    copy.unlink()
    return digest.hexdigest(), rate


def _upload(api: Api, project: str, file: Path, sha: str) -> tuple[float, str, pb.File]:
    described = pb.File(desc=pb.FileDesc(path="input.bin"), sha256=sha, size_bytes=SIZE, compression_type=pb.NONE)
    parameters = pb.JobParameters(
        cmd="true", input_files=[described], cloud_instance_types=[pb.CloudInstanceType(name="c1.4")]
    )
    request = service_pb.CreateProjectJobRequest(project_id=project, job_parameters=parameters, name="transfer")
    response = service_pb.CreateProjectJobResponse()
    api.call(api.jobs.Create, request).response.Unpack(response)
    begin = time.perf_counter()
    with file.open("rb") as source:
        _head(_request(response.upload_files[0].url, "PUT", source))
    return _rate(begin), response.job_id, described


def _request(url: str, method: str, body: object = None) -> socket.socket:
    """A request at the least cost for its sender: the kernel moves the body."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    connection = socket.create_connection((parts.hostname, parts.port), timeout=600)
    length = f"Content-Length: {SIZE}\r\n" if body else ""
    head = f"{method} {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n{length}Connection: close\r\n\r\n"
    connection.sendall(head.encode())
    if body:
        connection.sendfile(body)  # type: ignore[arg-type]
    return connection


def _head(connection: socket.socket) -> int:
    """Read up to the body; how many bytes of the body came along."""
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    assert head.split()[1] in (b"200", b"201", b"204"), head
    return len(head.partition(b"\r\n\r\n")[2])


def _download(url: str) -> float:
    begin, block = time.perf_counter(), bytearray(_BLOCK)
    connection = _request(url, "GET")
    left = SIZE - _head(connection)
    while left:
        got = connection.recv_into(block)
        assert got, "cut short"
        left -= got
    connection.close()
    return _rate(begin)


_STATIC = """
import sys
from aiohttp import web
app = web.Application()
app.router.add_static("/files", sys.argv[1])
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=lambda *_: print("up", flush=True))
"""


def _static(file: Path) -> float:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-c", _STATIC, str(file.parent), str(port)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout
        server.stdout.readline()
        return _download(f"http://127.0.0.1:{port}/files/{file.name}")
    finally:
        server.kill()
        server.wait()
