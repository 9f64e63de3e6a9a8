"""A fence of namespaces, by bubblewrap: the program sees its own files, the system read-only, and nothing else.

What it sees::

    /job/{work,inputs,outputs,modules,home,tmp}   the job's root, writable; /tmp is /job/tmp
    /usr, /bin, /lib*, /sbin                       the system, read-only
    /etc                                           what programs need to find names, hosts, certificates; read-only
    /proc, /dev                                    of its own: its own processes, the harmless devices, GPUs
    the environment's prefix and its interpreter   read-only, where they are

It does not see the data directory, other jobs, other processes, the server's environment or anybody's home. It has no
capability, and its user is none of this host's users with more rights than the server's.
"""

from __future__ import annotations

import functools
import glob
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from jobsphere.domain.attempt import Mount, SandboxPlan
from jobsphere.runner.confinement import Command
from jobsphere.runner.processes import ATTEMPT_VARIABLE, child_of, signal_group
from jobsphere.runner.rundir import ROOT_DIRECTORIES
from jobsphere.runner.system_files import USER_ID, system_files

ROOT = "/job"
PROGRAM = "bwrap"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_KERNEL = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
_CPUS = "/sys/devices/system/cpu"
_GPUS = ("/dev/nvidia*", "/dev/dri", "/dev/kfd")
_NAMESPACES = (
    "--unshare-user", "--uid", str(USER_ID), "--gid", str(USER_ID), "--unshare-pid", "--unshare-ipc", "--unshare-uts",
    "--unshare-cgroup-try", "--hostname", "job", "--cap-drop", "ALL", "--die-with-parent", "--new-session",
)  # fmt: skip


def why_not() -> str:
    """Why no sandbox can be made on this host, and what to do about it; empty if it can."""
    program = shutil.which(PROGRAM)
    if program is None:
        return "bubblewrap is not installed (Debian: apt-get install bubblewrap)"
    tried = subprocess.run(
        [program, *_NAMESPACES, *_system_mounts(), "--proc", "/proc", "--dev", "/dev", "/bin/true"],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    if tried.returncode == 0:
        return ""
    return f"bubblewrap cannot make one ({tried.stderr.strip()}): this host forbids user namespaces"


def warm() -> None:
    """Look once for what every sandbox shows: done by the warm parent, a supervisor's fork finds it done."""
    _program()
    _system_mounts()
    _kernel_mounts()
    _device_mounts()


class Sandbox:
    """The :class:`jobsphere.runner.confinement.Confinement` of one attempt in a sandbox.

    Args:
        run_directory: The attempt's run directory on this host.
        plan: What the operator lets programs see and reach.
        run_folder: Where what all sandboxes of this host share is kept.
        prefix: The environment's prefix, if the attempt has one.
        mounts: More folders that it sees below its root.
    """

    def __init__(
        self,
        run_directory: str,
        plan: SandboxPlan,
        run_folder: str,
        prefix: str | None,
        mounts: Sequence[Mount] = (),
    ) -> None:
        self.root = ROOT
        self._run_directory = run_directory
        self._plan = plan
        self._run_folder = run_folder
        self._prefix = prefix
        self._mounts = mounts

    def command(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Command:
        """The program inside. Its variables go through a descriptor, and bubblewrap's own environment is empty.

        They are in no argv, and none of them (LD_PRELOAD, LD_AUDIT) runs code in bubblewrap, still on the host.
        """
        options = [*_NAMESPACES, *_system_mounts(), *self._etc_mounts(), *self._job_mounts()]
        options += ["--proc", "/proc", *_kernel_mounts(), "--dev", "/dev", *_device_mounts()]
        if not self._plan.network:
            options.append("--unshare-net")
        variables = [word for pair in environment.items() for word in ("--setenv", *pair)]
        told = _in_memory("\0".join(["--clearenv", *variables]))
        options += ["--remount-ro", "/", "--chdir", cwd, "--args", str(told), "--"]
        outside = {k: v for k, v in environment.items() if k == ATTEMPT_VARIABLE}  # by which leftovers are found
        return Command((_program(), *options, *argv), outside, "/", (told,))

    def seen(self, mount: Mount) -> str:
        """Its place below the job's root."""
        return f"{ROOT}/{mount.target}"

    def signal(self, pid: int, number: int) -> None:
        """To the program's own session: bubblewrap's first process watches, its child is the init in there.

        While bubblewrap is still at its work there is no program to be signalled: the order is taken again then.

        Raises:
            ProcessLookupError: no program (yet, or any more).
        """
        init = child_of(pid)
        program = child_of(init) if init is not None else None
        if program is None:
            raise ProcessLookupError(f"no program below {pid}")
        signal_group(program, number)

    def end(self) -> None:
        """Nothing survives its namespace: it ends with its first process, and that with the supervisor."""

    def verdict(self) -> str:
        """Nobody here ends it from outside."""
        return ""

    def _job_mounts(self) -> Iterator[str]:
        for name in ROOT_DIRECTORIES:
            source = os.path.join(self._run_directory, name)
            if os.path.isdir(source):
                yield from ("--bind", source, f"{ROOT}/{name}")
        yield from ("--symlink", "job/tmp", "/tmp")  # noqa: S108 - the program's own
        for mount in self._mounts:
            yield from ("--ro-bind", mount.source, self.seen(mount))
        for path in (*self._plan.read_only, *prefix_folders(self._prefix)):
            yield from ("--ro-bind", path, path)

    def _etc_mounts(self) -> Iterator[str]:
        yield from ("--ro-bind", system_files(self._run_folder), "/etc")
        yield from ("--ro-bind-try", os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf")


def prefix_folders(prefix: str | None) -> list[str]:
    """The prefix and every folder outside the system that its interpreter is reached through.

    A prefix's interpreter is a link, maybe of several hops, to one that lies anywhere: each hop's installation counts.
    """
    if prefix is None:
        return []
    folders = [prefix]
    path = os.path.join(prefix, "bin", "python")
    while os.path.islink(path):
        path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        home = os.path.dirname(os.path.dirname(path))
        inside = any(home == f or home.startswith(f"{f}/") for f in (*_SYSTEM, *folders))
        if not inside:
            folders += [home, os.path.realpath(home)] if os.path.realpath(home) != home else [home]
    return folders


def _in_memory(text: str) -> int:
    """A descriptor that gives ``text`` from its start."""
    fd = os.memfd_create("jobsphere", os.MFD_CLOEXEC)
    view = memoryview(os.fsencode(text))
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


@functools.cache
def _program() -> str:
    return shutil.which(PROGRAM) or PROGRAM


@functools.cache
def _system_mounts() -> tuple[str, ...]:
    options: list[str] = []
    for path in _SYSTEM:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            options += ["--ro-bind", path, path]
    if os.path.isdir(_CPUS):
        options += ["--ro-bind", _CPUS, _CPUS]
    return tuple(options)


@functools.cache
def _kernel_mounts() -> tuple[str, ...]:
    """The kernel's switches, read-only: a server that runs as root is root to them, whatever the namespace says."""
    return tuple(o for path in _KERNEL if os.path.exists(path) for o in ("--ro-bind", path, path))


@functools.cache
def _device_mounts() -> tuple[str, ...]:
    return tuple(o for pattern in _GPUS for path in glob.glob(pattern) for o in ("--dev-bind", path, path))
