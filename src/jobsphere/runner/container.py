"""A program in a container: the job's root mounted, the image's own system around it, none of this host's rights.

The engine's client is the supervisor's child, and the program's output goes through it into the pipes. The container is
named by the attempt, so that whoever closes the books of a lost one finds it. Root in there is nobody out here: a
rootless engine and podman's user namespaces map it away; a docker daemon that is root runs the program as a user
without rights.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobsphere.domain.attempt import AttemptPlan, EngineKind, ImagePlan, Mount
from jobsphere.runner.archive import remove_tree
from jobsphere.runner.command_line import SYSTEM_PATH
from jobsphere.runner.confinement import Command
from jobsphere.runner.image_pull import LOGIN_FOLDER, Image, client, engine_environment
from jobsphere.runner.processes import ATTEMPT_VARIABLE, child_of, signal_group
from jobsphere.runner.rundir import ROOT_DIRECTORIES

ROOT = "/job"
HOST_IDS = 1_879_048_192
"""The first of the 65536 user ids that containers of a privileged engine run as: beyond what any host gives away."""
_VARIABLES, _SCRIPT = "variables.list", "variables.sh"
_RUN = 'if command -v bash >/dev/null 2>&1; then exec bash -c "$1"; else exec sh -c "$1"; fi'
_REMOVE_TRIES, _REMOVE_PAUSE_S, _CALL_S = 20, 0.25, 60
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEVER_STARTED, _KILLED = "0001-01-01", 128 + 9
_USE_LESS = "Use less, or an instance type with more memory."
_CGROUPS = "/sys/fs/cgroup"


class Container:
    """The :class:`jobsphere.runner.confinement.Confinement` of one attempt in a container.

    Args:
        run_directory: The attempt's run directory on this host.
        plan: The attempt.
        image_plan: Its image and the engine.
        image: The image as it is on this host; None for an attempt whose container is only to be ended.
    """

    def __init__(self, run_directory: str, plan: AttemptPlan, image_plan: ImagePlan, image: Image | None) -> None:
        self.root = ROOT
        self.name = f"jobsphere-{plan.attempt_id}"
        self._run_directory = run_directory
        self._plan = plan
        self._image_plan = image_plan
        self._engine = image_plan.engine
        self._image = image
        self._owner = _owner(image_plan)
        self._state: dict[str, Any] = {}

    def command(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Command:
        """The engine's client. Of ``argv`` the last counts: the shell's text, for the image has shells of its own.

        Raises:
            ValueError: a variable that no container can be given.
        """
        image = self._image.id if self._image else self._image_plan.reference
        options = ["run", "--name", self.name, "--label", f"jobsphere.attempt={self._plan.attempt_id}"]
        options += ["--init", "--pull", "never", "--log-driver", "none", "--hostname", "job", "--workdir", cwd]
        options += ["--security-opt", "no-new-privileges", "--security-opt", "label=disable"]
        options += [*self._users(), *self._mounts(), *self._limits(), *self._variables(environment)]
        if self._engine.kind is EngineKind.PODMAN:
            options.append("--http-proxy=false")  # it hands over the server's own, logins and all
        if not self._image_plan.network:
            options += ["--network", "none"]
        text = f". {ROOT}/{_SCRIPT}; {_RUN}" if os.path.exists(self._at(_SCRIPT)) else _RUN
        options += [*self._engine.run_args, "--entrypoint", "/bin/sh", image, "-c", text, "sh", argv[-1]]
        self._give_files(self._owner)
        marked = engine_environment() | {ATTEMPT_VARIABLE: self._plan.attempt_id}
        return Command(tuple(client(self._engine, *options)), marked, "/")

    def seen(self, mount: Mount) -> str:
        """Its place below the job's root."""
        return f"{ROOT}/{mount.target}"

    def signal(self, pid: int, number: int) -> None:
        """To the program's process group in the container; through the engine where its processes are not ours.

        Raises:
            ProcessLookupError: the container does not run (yet, or any more).
        """
        del pid  # the client's: it would pass the signal to the program alone
        init = int(self._inspect().get("Pid") or 0)
        if not init:
            raise ProcessLookupError(f"container {self.name} does not run")
        program = child_of(init)
        if program is None:
            raise ProcessLookupError(f"no program in {self.name}")
        try:
            signal_group(program, number)
        except PermissionError:
            self._call("kill", "--signal", str(number), self.name)

    def end(self) -> None:
        """Remove the container, whatever state it is in, and what was made for it; the files are the server's again.

        Raises:
            OSError: the engine does not remove it.
        """
        self._state = self._inspect() or self._state
        self._remove()
        self._remove_cgroups()
        for name in (_VARIABLES, _SCRIPT):
            with suppress(FileNotFoundError):
                os.unlink(self._at(name))
        if os.path.isdir(self._at(LOGIN_FOLDER)):
            remove_tree(self._at(LOGIN_FOLDER))
        if self._owner is not None:
            self._give_files(os.geteuid())

    def verdict(self) -> str:
        """Out of memory, or never started; empty if the program had its way."""
        if str(self._state.get("StartedAt", _NEVER_STARTED)).startswith(_NEVER_STARTED):
            return f"{self._engine.kind} could not start the program in {self._image_plan.reference}; its words:"
        limits = self._plan.limits
        of = f": its limit is {limits.memory_bytes / (1 << 30):.3g} GiB" if limits else ""
        if self._state.get("OOMKilled"):
            return f"Out of memory{of}. {_USE_LESS}"
        if limits and self._state.get("ExitCode") == _KILLED:
            # Engines miss it on hosts with cgroups of both versions.
            return f"The program was killed by SIGKILL, most likely for being out of memory{of}. {_USE_LESS}"
        return ""

    def _users(self) -> list[str]:
        if self._owner is None:
            return ["--user", "0:0"]
        if self._engine.kind is EngineKind.DOCKER:
            return ["--userns", "host", "--user", f"{self._owner}:{self._owner}"]
        mapping = f"0:{self._owner}:65536"
        return ["--user", "0:0", "--uidmap", mapping, "--gidmap", mapping]

    def _mounts(self) -> Iterator[str]:
        for name in ROOT_DIRECTORIES:
            if os.path.isdir(self._at(name)):
                yield from ("--mount", f"type=bind,src={self._at(name)},dst={ROOT}/{name}")
        for mount in self._plan.mounts:
            yield from ("--mount", f"type=bind,src={mount.source},dst={self.seen(mount)},readonly")

    def _limits(self) -> Iterator[str]:
        limits = self._plan.limits
        if limits is None:
            return
        memory = str(limits.memory_bytes)
        yield from ("--memory", memory, "--memory-swap", memory, "--pids-limit", str(limits.pids))
        yield from ("--cpus", f"{limits.cpus:g}")
        if limits.gpus and self._engine.kind is EngineKind.DOCKER:
            yield from ("--gpus", '"device=' + ",".join(map(str, limits.gpus)) + '"')
        elif limits.gpus:
            yield from (o for gpu in limits.gpus for o in ("--device", f"nvidia.com/gpu={gpu}"))

    def _variables(self, environment: Mapping[str, str]) -> list[str]:
        """By files, for a command line can be read by anybody: a list, and a script for values of several lines."""
        values = self._merged(environment)
        simple = {name: value for name, value in values.items() if not re.search(r"[\r\n]", value)}
        for name in values:
            if name.startswith("#") or name != name.strip() or (name not in simple and not _IDENTIFIER.fullmatch(name)):
                raise ValueError(f"the variable {name!r} cannot be given to a container; choose another name")
        _write_private(self._at(_VARIABLES), "".join(f"{name}={value}\n" for name, value in simple.items()))
        options = ["--env-file", self._at(_VARIABLES)]
        if len(simple) < len(values):
            quoted = {n: "'" + v.replace("'", "'\\''") + "'" for n, v in values.items() if n not in simple}
            _write_private(self._at(_SCRIPT), "".join(f"export {n}={v}\n" for n, v in quoted.items()))
            if self._owner is not None:
                os.chown(self._at(_SCRIPT), self._owner, self._owner)
            options += ["--mount", f"type=bind,src={self._at(_SCRIPT)},dst={ROOT}/{_SCRIPT},readonly"]
        return options

    def _merged(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The image knows best where its programs are, unless the job itself says so."""
        own, image = dict(self._plan.variables), self._image.environment if self._image else {}
        kept = {name: image[name] for name in ("PATH", "LANG") if name in image and name not in own}
        return {"PATH": SYSTEM_PATH, **environment, **kept}

    def _give_files(self, owner: int | None) -> None:
        if owner is None:
            return
        for name in ROOT_DIRECTORIES:
            if os.path.isdir(self._at(name)):
                _change_owner(self._at(name), owner)

    def _inspect(self) -> dict[str, Any]:
        """The container's state; empty if there is none."""
        told = self._call("container", "inspect", "--format", "{{.Id}} {{json .State}}", self.name)
        if told.returncode:
            return {}
        container_id, _, state = told.stdout.partition(" ")
        return {"Id": container_id, **json.loads(state)}

    def _remove(self) -> None:
        """Again if need be: an engine whose own processes were killed needs a second look to notice."""
        at_once = ("--time", "0") if self._engine.kind is EngineKind.PODMAN else ()
        tries = 0
        while True:
            removed = self._call("rm", "--force", *at_once, "--volumes", self.name)
            if removed.returncode == 0 or not self._inspect():
                return
            tries += 1
            if tries == _REMOVE_TRIES:
                raise OSError(f"{self._engine.kind} does not remove the container: {removed.stderr.strip()[-300:]}")
            time.sleep(_REMOVE_PAUSE_S)

    def _remove_cgroups(self) -> None:
        """Those that podman forgets where its own processes were killed; empty by now, else they stay."""
        if "Id" not in self._state or self._engine.kind is EngineKind.DOCKER or self._engine.own_users:
            return
        for path in glob.glob(f"{_CGROUPS}/**/libpod-{self._state['Id']}*", recursive=True):
            with suppress(OSError):
                Path(path).rmdir()

    def _call(self, *argv: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                client(self._engine, *argv), capture_output=True, text=True, check=False, cwd="/",
                env=engine_environment(), stdin=subprocess.DEVNULL, timeout=_CALL_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self._engine.kind} {argv[0]} did not answer in {_CALL_S} s") from error

    def _at(self, name: str) -> str:
        return os.path.join(self._run_directory, name)


def _owner(plan: ImagePlan) -> int | None:
    """The user of this host that the job's files belong to meanwhile; None: they stay the server's."""
    return HOST_IDS if os.geteuid() == 0 and not plan.engine.own_users else None


def _change_owner(top: str, owner: int) -> None:
    """Of a whole tree; links themselves, not what they point at."""
    for _, folders, files, fd in os.fwalk(top, follow_symlinks=False):
        for name in (*folders, *files):
            os.chown(name, owner, owner, dir_fd=fd, follow_symlinks=False)
        os.fchown(fd, owner, owner)


def _write_private(path: str, text: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        file.write(text)
