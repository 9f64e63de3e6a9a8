"""A workbench of tests, and a package index of tests: wheels made here, served on loopback."""

from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Bench:
    """Runs programs plainly and keeps what was said and done."""

    lines: list[str] = field(default_factory=list)
    programs: list[tuple[str, ...]] = field(default_factory=list)

    def log(self, line: str) -> None:
        self.lines.append(line)

    def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        self.programs.append(tuple(argv))
        with subprocess.Popen(
            argv, env=env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as child:
            assert child.stdout
            for line in child.stdout:
                on_line(line)
        return child.returncode

    def fenced(self, read: Sequence[Path], write: Sequence[Path]) -> Bench:
        return self

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def text(self) -> str:
        return "\n".join(self.lines)


def settle() -> None:
    """Until what was built here is durable and ready for others."""
    for thread in threading.enumerate():
        if thread.name == "environment":
            thread.join()


def make_wheel(folder: Path, name: str, version: str, requires: Sequence[str] = ()) -> Path:
    """A wheel of one module that knows its version."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {r}\n" for r in requires)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


_BACKEND = """
import zipfile
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    said = {say}
    name = {name!r} + "-1.0-py3-none-any.whl"
    info = {name!r} + "-1.0.dist-info/"
    with zipfile.ZipFile(wheel_directory + "/" + name, "w") as wheel:
        wheel.writestr({name!r} + ".py", "said = " + repr(said))
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: " + {name!r} + "\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def make_source(folder: Path, name: str, say: str) -> Path:
    """A source package that needs no other to be built. ``say``: an expression; its module tells the build's value."""
    members = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": _BACKEND.format(name=name, say=say),
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
    }
    path = folder / f"{name}-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for member, text in members.items():
            entry = tarfile.TarInfo(f"{name}-1.0/{member}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


@dataclass
class Index:
    """A simple index over the wheels of a folder. ``gate``, once set, holds back the wheels until it is released."""

    folder: Path
    login: str = ""
    port: int = 0
    downloads: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def url(self, with_login: bool = True) -> str:
        login = f"{self.login}@" if self.login and with_login else ""
        return f"http://{login}127.0.0.1:{self.port}/simple/"

    def add(self, name: str, version: str, requires: Sequence[str] = ()) -> None:
        make_wheel(self.folder, name, version, requires)

    def answer(self, method: str, path: str, authorization: str | None) -> tuple[int, bytes]:
        expected = "Basic " + base64.b64encode(self.login.encode()).decode()
        if self.login and authorization != expected:
            return 401, b"login, please"
        *_, kind, name = ["", *path.strip("/").split("/")]
        if kind == "files" and (self.folder / name).exists():
            if method == "GET":
                self.downloads.append(name)
                self.gate.wait(60)
            return 200, (self.folder / name).read_bytes()
        files = sorted(self.folder.glob(f"{name}-*")) if kind == "simple" else []
        return (200, "".join(map(_link, files)).encode()) if files else (404, b"no such package")


def _link(file: Path) -> str:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return f'<a href="/files/{file.name}#sha256={digest}">{file.name}</a>\n'


@contextmanager
def serving(index: Index) -> Iterator[Index]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = index.answer(self.command, self.path, self.headers.get("Authorization"))
            self.send_response(status)
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="test"')
            self.send_header("Content-Type", "text/html" if "/simple/" in self.path else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    index.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield index
    finally:
        index.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
