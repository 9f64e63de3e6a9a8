"""Environments by fingerprint: found in a moment, or built once however many ask.

::

    <data>/environments/<fingerprint>/              the prefix, built where it stays: it cannot be moved
    <data>/environments/<fingerprint>.ready         there once the prefix is complete; its time: the last use
    <data>/environments/<fingerprint>.lock          held (flock, exclusive) by who builds; says who that is
    <data>/environments/<fingerprint>.use           held (flock, shared) by each user of the prefix, to its end
    <data>/environments/<fingerprint>.requirements  what the installer was given
    <data>/environments/builds.lock                 held (flock, shared) by each build: it works with the caches
    <data>/cache/uv/, <data>/cache/conda/           the installers' caches: on the same disk, so that files are cloned
    <data>/cache/images/<image id>/                 uv's cache of what is built in that image
    <data>/cache/portable/                          what the host's uv needs to run in images

A crash at any point leaves a prefix without ``.ready``: the next one to ask builds it again from nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import sys
import sysconfig
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

from jobsphere.domain.environment import PythonEnvironment
from jobsphere.domain.ports import BuiltEnvironment, EnvironmentBuilder, InsideImage, Workbench
from jobsphere.durable import lock_is_free, open_lock, share
from jobsphere.environments import conda
from jobsphere.environments.conda import DEFAULT_ALIAS
from jobsphere.environments.disk import seal, sync_file_system, write_durably
from jobsphere.environments.eviction import BUILDS_LOCK, clear
from jobsphere.environments.interpreters import DEFAULT_SEARCH_PATH

POLL_S = 0.1


def open_builder(
    data_dir: Path,
    search_path: Sequence[str] = DEFAULT_SEARCH_PATH,
    channel_alias: str = DEFAULT_ALIAS,
) -> EnvironmentBuilder:
    """The builder of a node. Opening it touches nothing.

    Args:
        data_dir: The node's data directory, by an absolute path that stays the same.
        search_path: Where interpreters are looked for; see :mod:`jobsphere.environments.interpreters`.
        channel_alias: The URL that conda channels without one are folders of.
    """
    return CachedEnvironments(data_dir, search_path, channel_alias)


class CachedEnvironments:
    """The :class:`jobsphere.domain.ports.EnvironmentBuilder` of one host; any number of processes may share it."""

    def __init__(self, data_dir: Path, search_path: Sequence[str], channel_alias: str) -> None:
        self._root = data_dir / "environments"
        self._cache = data_dir / "cache"
        self._search_path = search_path
        self._channel_alias = channel_alias
        self._platform = f"{sysconfig.get_platform()} {' '.join(platform.libc_ver())}"
        self._in_use: dict[str, int] = {}

    def ensure(
        self, environment: PythonEnvironment, bench: Workbench, inside: InsideImage | None = None
    ) -> BuiltEnvironment:
        """The prefix, held against removal until this process ends. Without a version: the server's own.

        Raises:
            EnvironmentBuildError: no such interpreter, or the requirements cannot be satisfied.
        """
        environment = self._settled(environment, inside)
        fingerprint = environment.fingerprint(f"image {inside.image_id}" if inside else self._platform)
        prefix = self._root / fingerprint
        self._root.mkdir(parents=True, exist_ok=True)
        self._hold(fingerprint, bench)
        if self._is_ready(prefix):
            return BuiltEnvironment(prefix, hit=True)
        with ExitStack() as locks:
            locks.enter_context(self._building(fingerprint, bench))
            locks.enter_context(self._working_with_caches(bench))
            # Somebody else may have built it while this one waited.
            if self._is_ready(prefix):
                return BuiltEnvironment(prefix, hit=True)
            record = self._build(environment, prefix, bench, inside)
            # Its own program need not wait for the disk; everybody else does, by the locks.
            Thread(target=_publish, args=(locks.pop_all(), prefix, record), name="environment").start()
        return BuiltEnvironment(prefix, hit=False)

    def _settled(self, environment: PythonEnvironment, inside: InsideImage | None) -> PythonEnvironment:
        """The same with what the node decides: the version where none is named, the places of the channels."""
        if environment.conda is not None:
            return replace(environment, conda=conda.resolve(environment.conda, self._channel_alias))
        if not environment.python_version and inside is None:
            return replace(environment, python_version=f"{sys.version_info[0]}.{sys.version_info[1]}")
        return environment

    def _hold(self, fingerprint: str, bench: Workbench) -> None:
        """Take the shared lock. It is never given back: the program of this process runs in the prefix."""
        if fingerprint in self._in_use:
            return
        self._in_use[fingerprint] = share(self._root / f"{fingerprint}.use", lambda: bench.pause(POLL_S))

    def _is_ready(self, prefix: Path) -> bool:
        """Whether the prefix is complete, is where it was built, and has its interpreter still. Notes the use.

        A conda prefix may have none.
        """
        ready = prefix.with_suffix(".ready")
        try:
            record = json.loads(ready.read_bytes())
            os.utime(ready)
        except FileNotFoundError:
            return False
        python_is_there = _has_python(prefix, in_image=record.get("in_image", False))
        return record["prefix"] == str(prefix) and python_is_there is record.get("python", True)

    @contextmanager
    def _building(self, fingerprint: str, bench: Workbench) -> Generator[None]:
        """Be the only one that builds it; tell the user, once, what is waited for."""
        fd = open_lock(self._root / f"{fingerprint}.lock")
        try:
            told = False
            while not lock_is_free(fd, fcntl.LOCK_EX):
                if not told:
                    bench.log(f"waiting for the same environment, being built for another job{_builder(fd)}")
                    told = True
                bench.pause(POLL_S)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"process {os.getpid()} since {time.strftime('%H:%M:%S')}".encode(), 0)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def _working_with_caches(self, bench: Workbench) -> Generator[None]:
        """Nobody drops the installers' caches meanwhile."""
        fd = share(self._root / BUILDS_LOCK, lambda: bench.pause(POLL_S))
        try:
            yield
        finally:
            os.close(fd)

    def _build(
        self, environment: PythonEnvironment, prefix: Path, bench: Workbench, inside: InsideImage | None
    ) -> dict[str, object]:
        """Fill and seal it: its record, to be published once it is durable."""
        from jobsphere.environments.filling import fill_in_image, fill_on_host  # who finds one does not pay for it

        began = time.monotonic()
        clear(prefix)
        what = _summary(environment, inside)
        bench.log(f"building environment {prefix.name[:12]}: {what}")
        if inside:
            fill_in_image(environment, prefix, self._cache, inside, bench)
        else:
            fill_on_host(environment, prefix, self._cache, self._search_path, bench)
        size = seal(prefix)
        return {
            "prefix": str(prefix),
            "bytes": size,
            "seconds": round(time.monotonic() - began, 3),
            "python": _has_python(prefix, in_image=inside is not None),
            "in_image": inside is not None,
            "what": what,
        }


def _publish(locks: ExitStack, prefix: Path, record: dict[str, object]) -> None:
    """Make the prefix durable and then ready; one that cannot be is built again by the next one to ask."""
    with locks:
        sync_file_system(prefix)
        write_durably(prefix.with_suffix(".ready"), json.dumps(record).encode())


def _has_python(prefix: Path, *, in_image: bool) -> bool:
    """One of an image is where only the image has it: a link of that content, named by the fingerprint, holds."""
    python = prefix / "bin" / "python"
    return python.is_symlink() or python.exists() if in_image else python.exists()


def _summary(environment: PythonEnvironment, inside: InsideImage | None) -> str:
    """What is in it, in a few words that hold no secret."""
    requirements = f"{len(environment.requirements)} requirements"
    if inside:
        requirements += f", in image {inside.image_id[:12]}"
    if environment.conda:
        return f"conda, {len(environment.conda.specs)} specs, {requirements}"
    return f"Python {environment.python_version or 'of the image'}, {requirements}"


def _builder(fd: int) -> str:
    """Who builds: what its lock file says, if it came to write it."""
    who = os.pread(fd, 100, 0).decode(errors="replace")
    return f" ({who})" if who else ""
