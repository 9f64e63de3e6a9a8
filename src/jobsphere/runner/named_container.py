"""A container as its engine knows it: by name, whoever started it and whatever has become of that one since.

Root in there is nobody out here: a rootless engine and podman's user namespaces map it away; a docker daemon that is
root runs the program as a user without rights.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobsphere.domain.attempt import ContainerEngine, EngineKind, ImagePlan
from jobsphere.domain.capacity import Limits
from jobsphere.runner.cgroups import cpu_shares
from jobsphere.runner.command_line import SYSTEM_PATH
from jobsphere.runner.image_pull import client, engine_environment

HOST_IDS = 1_879_048_192
"""The first of the 65536 user ids that containers of a privileged engine run as: beyond what any host gives away."""
_REMOVE_TRIES, _REMOVE_PAUSE_S, _CALL_S = 20, 0.25, 60
_CGROUPS = "/sys/fs/cgroup"


class NamedContainer:
    """A container that may or may not be there.

    Args:
        engine: The engine that has it.
        name: Its name.
    """

    def __init__(self, engine: ContainerEngine, name: str) -> None:
        self.engine = engine
        self.name = name

    def inspect(self) -> dict[str, Any]:
        """The container's state; empty if there is none."""
        told = self.call("container", "inspect", "--format", "{{.Id}} {{json .State}}", self.name)
        if told.returncode:
            return {}
        container_id, _, state = told.stdout.partition(" ")
        return {"Id": container_id, **json.loads(state)}

    def remove(self) -> dict[str, Any]:
        """Remove it, whatever state it is in: the state that it was in last, empty if there was none.

        Raises:
            OSError: the engine does not remove it.
        """
        state = self.inspect()
        self._remove()
        self._remove_cgroups(state)
        return state

    def call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A short call of the engine.

        Raises:
            TimeoutError: it did not answer.
        """
        return call_engine(self.engine, *argv)

    def _remove(self) -> None:
        """Again if need be: an engine whose own processes were killed needs a second look to notice."""
        at_once = ("--time", "0") if self.engine.kind is EngineKind.PODMAN else ()
        tries = 0
        while True:
            removed = self.call("rm", "--force", *at_once, "--volumes", self.name)
            if removed.returncode == 0 or not self.inspect():
                return
            tries += 1
            if tries == _REMOVE_TRIES:
                raise OSError(f"{self.engine.kind} does not remove the container: {removed.stderr.strip()[-300:]}")
            time.sleep(_REMOVE_PAUSE_S)

    def _remove_cgroups(self, state: dict[str, Any]) -> None:
        """Those that podman forgets where its own processes were killed; empty by now, else they stay."""
        if "Id" not in state or self.engine.kind is EngineKind.DOCKER or self.engine.own_users:
            return
        for path in glob.glob(f"{_CGROUPS}/**/libpod-{state['Id']}*", recursive=True):
            with suppress(OSError):
                Path(path).rmdir()


def call_engine(engine: ContainerEngine, *argv: str, patience_s: float = _CALL_S) -> subprocess.CompletedProcess[str]:
    """A call of the engine, with its output.

    Raises:
        TimeoutError: it did not answer.
    """
    try:
        return subprocess.run(
            client(engine, *argv), capture_output=True, text=True, check=False, cwd="/",
            env=engine_environment(), stdin=subprocess.DEVNULL, timeout=patience_s,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{engine.kind} {argv[0]} did not answer in {patience_s:g} s") from error


def owner_of(plan: ImagePlan) -> int | None:
    """The user of this host that files for the container belong to meanwhile; None: they stay the server's."""
    return HOST_IDS if os.geteuid() == 0 and not plan.engine.own_users else None


def common_options(engine: ContainerEngine) -> Iterator[str]:
    """What holds for every container of this server."""
    yield from ("--pull", "never", "--log-driver", "none")
    yield from ("--security-opt", "no-new-privileges", "--security-opt", "label=disable")
    if engine.kind is EngineKind.PODMAN:
        yield "--http-proxy=false"  # it hands over the server's own, logins and all


def user_options(engine: ContainerEngine, owner: int | None) -> list[str]:
    """The program is root in there, and ``owner`` out here."""
    if owner is None:
        return ["--user", "0:0"]
    if engine.kind is EngineKind.DOCKER:
        return ["--userns", "host", "--user", f"{owner}:{owner}"]
    mapping = f"0:{owner}:65536"
    return ["--user", "0:0", "--uidmap", mapping, "--gidmap", mapping]


def network_options(engine: ContainerEngine, network: str) -> list[str]:
    """The network, unless the operator names one for all containers: engines refuse to be told two."""
    named = any(option.partition("=")[0] in {"--network", "--net"} for option in engine.run_args)
    return [] if named else ["--network", network]


def limit_options(limits: Limits | None) -> Iterator[str]:
    """Memory without swap, processes and CPUs."""
    if limits is not None:
        memory = str(limits.memory_bytes)
        yield from ("--memory", memory, "--memory-swap", memory, "--pids-limit", str(limits.pids))
        if limits.cpu_burst:
            yield from ("--cpu-shares", str(cpu_shares(limits)))
        else:
            yield from ("--cpus", f"{limits.cpus:g}")


def bind(path: str, inside: str = "", *, read_only: bool = False) -> Iterator[str]:
    """A file or folder of this host, seen as ``inside`` or by its own path.

    Raises:
        ValueError: an engine would read its path as more than a path.
    """
    if "," in path or '"' in path:
        raise ValueError(f"{path!r} cannot be mounted into a container: it holds a comma or a quote")
    yield from ("--mount", f"type=bind,src={path},dst={inside or path}{',readonly' * read_only}")


def change_owner(folders: Sequence[str], owner: int) -> None:
    """Of whole trees, deeper than this language can walk; links themselves, not what they point at.

    Raises:
        OSError: it cannot be done.
    """
    argv = ["chown", "-R", "-h", "-P", f"{owner}:{owner}", "--", *folders]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": SYSTEM_PATH})
    if done.returncode:
        raise OSError(f"the job's files cannot be given to their user: {done.stderr.strip()[-300:]}")


def write_private(path: str, text: str) -> None:
    """A new file that its owner alone may read; an old one of the name goes."""
    with suppress(FileNotFoundError):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)
