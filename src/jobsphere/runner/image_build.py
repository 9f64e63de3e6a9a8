"""Building in an image: each program of a build in a container of its own, that sees of this host what it is lent.

The container is named by the attempt, so that whoever closes the books of a lost one finds it. It is on this host's
network, as the builds of other jobs are: package indexes and proxies are where the operator's settings say.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from jobsphere.domain.attempt import AttemptPlan, ImagePlan
from jobsphere.domain.ports import EnvironmentBuildError, Workbench
from jobsphere.runner.archive import remove_tree
from jobsphere.runner.bench import Bench
from jobsphere.runner.command_line import SYSTEM_PATH
from jobsphere.runner.image_pull import Image, client, engine_environment
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

_VARIABLES, _SCRATCH = "build.list", "build.tmp"
_SCRATCH_INSIDE = "/tmp"  # noqa: S108 - of the container, and its own
_MARKS = "JOBSPHERE_"


class ImageBuild:
    """The :class:`jobsphere.domain.ports.InsideImage` of one attempt.

    Args:
        bench: Of the attempt.
        plan: Its image and the engine.
        image: The image as it is on this host.
    """

    def __init__(self, bench: Bench, plan: ImagePlan, image: Image) -> None:
        self.image_id = image.id
        self._bench = bench
        self._plan = plan
        self._owner = owner_of(plan)

    def bench(self, read: Sequence[Path], write: Sequence[Path]) -> Workbench:
        """See :meth:`jobsphere.domain.ports.InsideImage.bench`."""
        return _BenchInside(self._bench, self._plan, self.image_id, read, write)

    def lend(self, folder: Path) -> None:
        """See :meth:`jobsphere.domain.ports.InsideImage.lend`."""
        if self._owner is not None and os.stat(folder).st_uid != self._owner:
            change_owner([str(folder)], self._owner)

    def take_back(self, folder: Path) -> None:
        """See :meth:`jobsphere.domain.ports.InsideImage.take_back`."""
        if self._owner is not None:
            change_owner([str(folder)], os.geteuid())
        _open_to_readers(str(folder))


class _BenchInside:
    """The workbench of programs that see these paths of this host."""

    def __init__(
        self, bench: Bench, plan: ImagePlan, image_id: str, read: Sequence[Path], write: Sequence[Path]
    ) -> None:
        self._bench = bench
        self._plan = plan
        self._image_id = image_id
        self._read = read
        self._write = write

    def log(self, line: str) -> None:
        """To the job's system log."""
        self._bench.log(line)

    def pause(self, seconds: float) -> None:
        """On this host."""
        self._bench.pause(seconds)

    def fenced(self, read: Sequence[Path], write: Sequence[Path]) -> _BenchInside:  # noqa: ARG002 - as the port has it
        """Itself: it is one."""
        return self

    def run(self, argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None]) -> int:
        """In a container that is gone afterwards, however it ended.

        Raises:
            EnvironmentBuildError: a variable or a path that no container can be given.
            OSError: the engine does not remove the container.
        """
        # What marks the processes of a build marks the engine's own as well: nothing of it outlives its end.
        marks = {name: value for name, value in env.items() if name.startswith(_MARKS)}
        try:
            return self._bench.run(self._command(argv, env), engine_environment() | marks, on_line)
        finally:
            end_build(self._bench.run_directory.path, self._bench.plan, self._plan)

    def _command(self, argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
        engine, plan = self._plan.engine, self._bench.plan
        scratch, variables = (self._bench.run_directory.at(name) for name in (_SCRATCH, _VARIABLES))
        _make_scratch(scratch, owner_of(self._plan))
        options = ["run", "--name", _name(plan), "--label", f"jobsphere.attempt={plan.attempt_id}"]
        options += [*common_options(engine), *network_options(engine, "host"), "--workdir", "/"]
        options += ["--cap-drop", "all", "--cap-add", "DAC_OVERRIDE"]  # to read what the image keeps for its users
        options += [*user_options(engine, owner_of(self._plan)), *limit_options(plan.limits)]
        try:
            write_private(variables, _listed(env))
            options += ["--env-file", variables, *bind(scratch, _SCRATCH_INSIDE), *self._mounts()]
        except ValueError as error:
            raise EnvironmentBuildError(str(error)) from error
        options += [*engine.run_args, "--entrypoint", argv[0]]
        return client(engine, *options, self._image_id, *argv[1:])

    def _mounts(self) -> Iterator[str]:
        mounts = {**dict.fromkeys(self._read, True), **dict.fromkeys(self._write, False)}
        for path, read_only in sorted(mounts.items()):  # a folder before what lies in it
            yield from bind(str(path), read_only=read_only)


def end_build(run_directory: str, plan: AttemptPlan, image_plan: ImagePlan) -> None:
    """Remove the container of a build, if there is one, and what was made for it.

    Raises:
        OSError: the engine does not remove it.
    """
    NamedContainer(image_plan.engine, _name(plan)).remove()
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(run_directory, _VARIABLES))
    scratch = os.path.join(run_directory, _SCRATCH)
    if os.path.isdir(scratch):
        remove_tree(scratch)


def _make_scratch(path: str, owner: int | None) -> None:
    os.makedirs(path, 0o755, exist_ok=True)
    if owner is not None:
        os.chown(path, owner, owner)


def _name(plan: AttemptPlan) -> str:
    return f"jobsphere-{plan.attempt_id}-build"


def _listed(env: Mapping[str, str]) -> str:
    """The variables as a file: index URLs carry logins, and a command line can be read by anybody."""
    values = {**env, "HOME": _SCRATCH_INSIDE, "TMPDIR": _SCRATCH_INSIDE}
    for name, value in values.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"the server's variable {name} has several lines, which no container can be given")
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _open_to_readers(top: str) -> None:
    """Everybody may read, and nobody runs a file as somebody else. Links are left alone, and no tree is too deep."""
    argv = ["chmod", "-R", "u=rwX,go=rX,a-s", "--", top]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={"PATH": SYSTEM_PATH})
    if done.returncode:
        raise OSError(f"the environment cannot be made readable: {done.stderr.strip()[-300:]}")
