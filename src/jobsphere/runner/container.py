"""A program in a container: the job's root mounted, the image's own system around it, none of this host's rights.

The engine's client is the supervisor's child, and the program's output goes through it into the pipes. The container is
named by the attempt, so that whoever closes the books of a lost one finds it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from jobsphere.domain.attempt import AttemptPlan, EngineKind, ImagePlan, Mount
from jobsphere.domain.capacity import gib
from jobsphere.runner.archive import remove_tree
from jobsphere.runner.command_line import SYSTEM_PATH
from jobsphere.runner.confinement import Command
from jobsphere.runner.image_pull import LOGIN_FOLDER, Image, client, engine_environment
from jobsphere.runner.named_container import (
    NamedContainer,
    bind,
    change_owner,
    common_options,
    limit_options,
    network_options,
    owner_of,
    user_options,
    write_private,
)
from jobsphere.runner.processes import ATTEMPT_VARIABLE, attempt_mark, child_of, signal_group
from jobsphere.runner.rundir import ROOT_DIRECTORIES

ROOT = "/job"
_VARIABLES, _SCRIPT = "variables.list", "variables.sh"
_RUN = 'if command -v bash >/dev/null 2>&1; then exec bash -c "$1"; else exec sh -c "$1"; fi'
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEVER_STARTED, _KILLED = "0001-01-01", 128 + 9
_USE_LESS = "Use less, or an instance type with more memory."


class Container:
    """The :class:`jobsphere.runner.confinement.Confinement` of one attempt in a container.

    Args:
        run_directory: The attempt's run directory on this host.
        plan: The attempt.
        image_plan: Its image and the engine.
        image: The image as it is on this host; None for an attempt whose container is only to be ended.
        prefix: The environment that the program runs in, seen by its own path, read-only.
    """

    def __init__(
        self,
        run_directory: str,
        plan: AttemptPlan,
        image_plan: ImagePlan,
        image: Image | None,
        prefix: str | None = None,
    ) -> None:
        self.root = ROOT
        self.seen_as: Mapping[str, str] = {ROOT: ""}
        self._container = NamedContainer(image_plan.engine, f"jobsphere-{plan.attempt_id}")
        self._run_directory = run_directory
        self._plan = plan
        self._image_plan = image_plan
        self._engine = image_plan.engine
        self._image = image
        self._prefix = prefix
        self._owner = owner_of(image_plan)
        self._state: dict[str, Any] = {}

    def command(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Command:
        """The engine's client. Of ``argv`` the last counts: the shell's text, for the image has shells of its own.

        Raises:
            ValueError: a variable that no container can be given.
        """
        image = self._image.id if self._image else self._image_plan.reference
        options = ["run", "--name", self._container.name, "--label", f"jobsphere.attempt={self._plan.attempt_id}"]
        options += [*common_options(self._engine), "--init", "--hostname", "job", "--workdir", cwd]
        options += [*user_options(self._engine, self._owner), *self._mounts(), *self._limits()]
        options += self._variables(environment)
        if not self._image_plan.network:
            options += network_options(self._engine, "none")
        text = f". {ROOT}/{_SCRIPT}; {_RUN}" if os.path.exists(self._at(_SCRIPT)) else _RUN
        options += [*self._engine.run_args, "--entrypoint", "/bin/sh", image, "-c", text, "sh", argv[-1]]
        self._give_files(self._owner)
        marked = engine_environment() | {ATTEMPT_VARIABLE: attempt_mark(self._run_directory)}
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
        init = int(self._container.inspect().get("Pid") or 0)
        if not init:
            raise ProcessLookupError(f"container {self._container.name} does not run")
        program = child_of(init)
        if program is None:
            raise ProcessLookupError(f"no program in {self._container.name}")
        try:
            signal_group(program, number)
        except PermissionError:
            self._container.call("kill", "--signal", str(number), self._container.name)

    def end(self) -> None:
        """Remove the container, whatever state it is in, and what was made for it; the files are the server's again.

        Raises:
            OSError: the engine does not remove it.
        """
        self._state = self._container.remove() or self._state
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
        of = f": its limit is {gib(limits.memory_bytes)}" if limits else ""
        if self._state.get("OOMKilled"):
            return f"Out of memory{of}. {_USE_LESS}"
        if limits and self._state.get("ExitCode") == _KILLED:
            # Engines miss it on hosts with cgroups of both versions.
            return f"The program was killed by SIGKILL, most likely for being out of memory{of}. {_USE_LESS}"
        return ""

    def _mounts(self) -> Iterator[str]:
        for name in ROOT_DIRECTORIES:
            if os.path.isdir(self._at(name)):
                yield from bind(self._at(name), f"{ROOT}/{name}")
        for mount in self._plan.mounts:
            yield from bind(mount.source, self.seen(mount), read_only=mount.read_only)
        if self._prefix is not None:
            yield from bind(self._prefix, read_only=True)

    def _limits(self) -> Iterator[str]:
        limits = self._plan.limits
        if limits is None:
            return
        yield from limit_options(limits)
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
        write_private(self._at(_VARIABLES), "".join(f"{name}={value}\n" for name, value in simple.items()))
        options = ["--env-file", self._at(_VARIABLES)]
        if len(simple) < len(values):
            quoted = {n: "'" + v.replace("'", "'\\''") + "'" for n, v in values.items() if n not in simple}
            write_private(self._at(_SCRIPT), "".join(f"export {n}={v}\n" for n, v in quoted.items()))
            if self._owner is not None:
                os.chown(self._at(_SCRIPT), self._owner, self._owner)
            options += bind(self._at(_SCRIPT), f"{ROOT}/{_SCRIPT}", read_only=True)
        return options

    def _merged(self, environment: Mapping[str, str]) -> dict[str, str]:
        """The image knows best where its programs are, unless the job itself says so."""
        own, image = dict(self._plan.variables), self._image.environment if self._image else {}
        kept = {name: image[name] for name in ("PATH", "LANG") if name in image and name not in own}
        if self._prefix and "PATH" in kept:
            kept["PATH"] = f"{self._prefix}/bin:{kept['PATH']}"
        return {"PATH": SYSTEM_PATH, **environment, **kept}

    def _give_files(self, owner: int | None) -> None:
        if owner is None:
            return
        change_owner([os.path.realpath(self._at(n)) for n in ROOT_DIRECTORIES if os.path.isdir(self._at(n))], owner)

    def _at(self, name: str) -> str:
        return os.path.join(self._run_directory, name)
