"""Real podman with a store of its own, a tiny image, and a real registry with a password on loopback."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobsphere.runner.images import EngineSettings, find_engine

TINY, GLIBC, PYTHON = "localhost/tiny:1", "localhost/glibc:1", "localhost/python:1"
USER, PASSWORD = "ann", "hunter2-planted-7f3a"
PROGRAMS = ("podman", "runc", "catatonit", "busybox", "docker-registry", "htpasswd")
_APPLETS = ("sh", "cat", "id", "kill", "ls", "sleep", "dd", "touch", "env", "pwd", "seq", "test", "chmod", "wc", "head")
INTERPRETER = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
_LIBRARY = Path(os.__file__).parent
_NOT_NEEDED = (
    r"/(__pycache__|test|tests|site-packages|idlelib|lib2to3|tkinter|turtledemo|ensurepip|config-[^/]*|sitecustomize.py)"
    r"(/|$)"
)
_RUNTIME = """#!{python}
# Drops the limits that a host without CAP_SYS_RESOURCE lets nobody raise, and hands over to runc.
import json, os, sys
args = sys.argv[1:]
if "create" in args and "--bundle" in args:
    path = os.path.join(args[args.index("--bundle") + 1], "config.json")
    with open(path) as file:
        config = json.load(file)
    config["process"].pop("rlimits", None)
    with open(path, "w") as file:
        json.dump(config, file)
os.execvp("runc", ["runc", *args])
"""


def missing() -> list[str]:
    """The programs that these tests need and this host lacks."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


class Podman:
    """Podman on a store below ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.run = Path(tempfile.mkdtemp(prefix="js-"))  # podman takes no more than 50 characters
        runtime = folder / "runtime"
        runtime.write_text(_RUNTIME.format(python=sys.executable))
        runtime.chmod(0o755)
        self.args = (
            "--root", str(folder / "root"), "--runroot", str(self.run), "--tmpdir", str(folder / "tmp"),
            "--runtime", str(runtime), "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs",
            "--events-backend", "none",
        )  # fmt: skip
        self.parent = f"js-tests-{os.getpid()}-{id(self)}"
        parent = ("--cgroup-parent", f"/{self.parent}") if os.geteuid() == 0 else ()
        self.engine = find_engine(EngineSettings("podman", self.args, parent))

    def __call__(self, *argv: str, check: bool = True) -> str:
        done = subprocess.run([self.engine.program, *self.args, *argv], capture_output=True, text=True, timeout=60)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def containers(self) -> list[str]:
        return self("ps", "--all", "--external", "--format", "{{.Names}}").split()

    def cgroups(self) -> list[Path]:
        """Of containers of this store."""
        return [folder for folder in self._groups() if folder.name.startswith("libpod-")]

    def _groups(self) -> list[Path]:
        """All control groups below the store's own; those of others come and go meanwhile."""
        tops = (Path(top) for top, _, _ in os.walk("/sys/fs/cgroup"))
        return [folder for folder in tops if self.parent in folder.parts]

    def make_tiny(self, reference: str = TINY) -> None:
        """Import a root file system of busybox alone."""
        archive = self.folder / "tiny.tar"
        with tarfile.open(archive, "w") as tar:
            _add_busybox(tar)
        self("import", "--change", "ENV PATH=/opt/own:/bin", "--change", "ENV OF_IMAGE=yes", str(archive), reference)

    def make_glibc(self, reference: str = GLIBC, python: str = "", user: int = 0) -> None:
        """Import a root file system of busybox and what the interpreter of these tests needs, itself in ``python``.

        That folder is for ``user`` only. A module ``of_image`` is installed there.
        """
        archive = self.folder / "glibc.tar"
        with tarfile.open(archive, "w") as tar:
            _add_busybox(tar)
            for path in sorted(_libraries([INTERPRETER, *_LIBRARY.glob("lib-dynload/*.so")])):
                loader = path.name.startswith("ld-")
                tar.add(path.resolve(), str(path).lstrip("/") if loader else f"lib/{path.name}")
            if python:
                folder = tarfile.TarInfo(python)
                folder.type, folder.mode, folder.uid = tarfile.DIRTYPE, 0o700, user
                tar.addfile(folder)
                add_python(tar, python)
                tar.addfile(tarfile.TarInfo(f"{python}/lib/{INTERPRETER.name}/site-packages/of_image.py"))
        self("import", "--change", "ENV PATH=/usr/local/bin:/bin", str(archive), reference)

    def close(self) -> None:
        self("rm", "--all", "--force", "--time", "0", check=False)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        left = [m for m in mounts if m.startswith((f"{self.folder}/", f"{self.run}/"))]
        for mount in reversed(left):  # the store's own, which podman keeps as long as the machine is up
            subprocess.run(["umount", mount], check=True)
        shutil.rmtree(self.run)
        for found in sorted(self._groups(), reverse=True):
            found.rmdir()


def add_python(tar: tarfile.TarFile, place: str) -> None:
    """The interpreter of these tests and the standard library."""
    tar.add(INTERPRETER, f"{place}/bin/{INTERPRETER.name}")
    _add_link(tar, f"{place}/bin/python3", INTERPRETER.name)
    tar.add(_LIBRARY, f"{place}/lib/{_LIBRARY.name}", filter=_needed)


def _add_busybox(tar: tarfile.TarFile) -> None:
    busybox = shutil.which("busybox")
    assert busybox
    tar.add(busybox, "bin/busybox")
    for name in _APPLETS:
        _add_link(tar, f"bin/{name}", "busybox")


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname, link.mode = tarfile.SYMTYPE, target, 0o777
    tar.addfile(link)


def _libraries(programs: list[Path]) -> set[Path]:
    """What the loader opens for them, itself among it."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    return {Path(found) for found in re.findall(r"(?:=> |^\t)(/\S+) \(", said, re.MULTILINE)}


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Of the standard library what a package needs: the less there is, the sooner the store has copied it."""
    return None if re.search(_NOT_NEEDED, entry.name) else entry


@contextmanager
def podman_in(folder: Path) -> Iterator[Podman]:
    """Podman with the tiny image. Skips the test on a host that lacks a program, but never in CI."""
    lacking = missing()
    if lacking and "CI" not in os.environ:
        pytest.skip(f"not installed: {', '.join(lacking)}")
    podman = Podman(folder)
    try:
        podman.make_tiny()
        yield podman
    finally:
        podman.close()


class Registry:
    """Debian's docker-registry, which asks for a login; podman is told to speak plain HTTP to it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"
        login = ["htpasswd", "-nbB", USER, PASSWORD]
        (folder / "htpasswd").write_text(subprocess.run(login, capture_output=True, text=True, check=True).stdout)
        (folder / "config.yml").write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
            f"http: {{addr: '{self.host}'}}\nauth: {{htpasswd: {{realm: tests, path: {folder}/htpasswd}}}}\n"
        )
        self.conf = folder / "registries.conf"
        self.conf.write_text(f'[[registry]]\nlocation = "{self.host}"\ninsecure = true\n')
        with (folder / "log").open("w") as log:
            command = ["docker-registry", "serve", str(folder / "config.yml")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def wait(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert self._process.poll() is None
            try:
                urllib.request.urlopen(f"http://{self.host}/v2/", timeout=5)
            except urllib.error.HTTPError as error:
                if error.code == 401:
                    return
                raise
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the registry does not answer")

    def push_own(self, podman: Podman, name: str) -> str:
        """Push an image that nothing else is, and forget it: its reference."""
        reference = f"{self.host}/{name}"
        podman(
            "import", "--change", "ENV PATH=/bin", "--change", f"ENV OWN={name}", f"{podman.folder}/tiny.tar", reference
        )
        podman("push", "--tls-verify=false", "--creds", f"{USER}:{PASSWORD}", reference, f"docker://{reference}")
        podman("rmi", reference)
        return reference

    def push(self, podman: Podman, name: str) -> str:
        """Push the tiny image under ``name``; its reference."""
        reference = f"{self.host}/{name}"
        podman("push", "--tls-verify=false", "--creds", f"{USER}:{PASSWORD}", TINY, f"docker://{reference}")
        return reference

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@contextmanager
def registry_in(folder: Path) -> Iterator[Registry]:
    registry = Registry(folder)
    try:
        registry.wait()
        yield registry
    finally:
        registry.close()
