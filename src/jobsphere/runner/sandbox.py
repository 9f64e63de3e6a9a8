"""A fence of namespaces, by bubblewrap: the program sees its own files, the system read-only, and nothing else.

What it sees::

    /job/{work,inputs,outputs,modules,home,tmp}   the job's root, writable; /tmp is /job/tmp
    /usr, /bin, /lib*, /sbin                       the system, read-only
    /etc                                           what programs need to find names, hosts, certificates; read-only
    /proc, /dev                                    of its own: its own processes, the harmless devices, its GPUs
    the environment's prefix and its interpreter   read-only, where they are

It does not see the data directory (nor where that lies in one of these folders), other jobs, other processes, the
server's environment or anybody's home. It has no capability, and its user is none of this host's users with more rights
than the server's.
"""

from __future__ import annotations

import functools
import glob
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from jobsphere.domain.attempt import Mount, SandboxPlan
from jobsphere.runner.archive import is_inside
from jobsphere.runner.confinement import Command, PrivateFile
from jobsphere.runner.processes import ATTEMPT_VARIABLE, child_of, signal_group
from jobsphere.runner.rundir import ROOT_DIRECTORIES
from jobsphere.runner.system_files import HOSTNAME, USER_ID, system_files

ROOT = "/job"
PROGRAM = "bwrap"
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_KERNEL = ("/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs")
_DEVICES = "/dev"
_CPUS = "/sys/devices/system/cpu"
_GPUS = ("nvidia*", "dri", "kfd")
_GPU_CONTROLS = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset", "kfd")
_INSTALLATION = ("bin", "lib", "lib64", "include")
NAMESPACES = (
    "--unshare-user", "--uid", str(USER_ID), "--gid", str(USER_ID), "--unshare-pid", "--unshare-ipc", "--unshare-uts",
    "--unshare-cgroup-try", "--hostname", HOSTNAME, "--cap-drop", "ALL", "--die-with-parent", "--new-session",
)  # fmt: skip


def why_not() -> str:
    """Why no sandbox can be made on this host, and what to do about it; empty if it can."""
    program = shutil.which(PROGRAM)
    if program is None:
        return "bubblewrap is not installed (Debian: apt-get install bubblewrap)"
    tried = subprocess.run(
        [program, *NAMESPACES, *_system_mounts(), "--proc", "/proc", "--dev", "/dev", "/bin/true"],
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
    bubblewrap()
    _system_mounts()
    _kernel_mounts()
    _device_mounts(None, _DEVICES)


class Sandbox:
    """The :class:`jobsphere.runner.confinement.Confinement` of one attempt in a sandbox.

    Args:
        run_directory: The attempt's run directory on this host.
        plan: What the operator lets programs see and reach.
        data_folder: The data directory: hidden, but for the prefix.
        prefix: The environment's prefix, if the attempt has one.
        gpus: The indices of the GPUs that are its own; None: all.
        devices: Where this host's device nodes are.
        mounts: More folders that it sees below its root.
        files: Files that are in no folder of this host: they are in memory, and end with the sandbox.
    """

    def __init__(
        self,
        run_directory: str,
        plan: SandboxPlan,
        data_folder: str,
        prefix: str | None,
        gpus: tuple[int, ...] | None = None,
        devices: str = _DEVICES,
        mounts: Sequence[Mount] = (),
        files: Sequence[PrivateFile] = (),
    ) -> None:
        self.root = ROOT
        self.seen_as: Mapping[str, str] = {ROOT: "", "/tmp": "tmp"}  # noqa: S108 - the program's own
        self._run_directory = run_directory
        self._plan = plan
        self._data_folder = data_folder
        self._prefix = prefix
        self._mounts = mounts
        self._files = files
        self._gpus = gpus
        self._devices = devices

    def command(self, argv: Sequence[str], environment: Mapping[str, str], cwd: str) -> Command:
        """The program inside. Its variables go through a descriptor, and bubblewrap's own environment is empty.

        They are in no argv, and none of them (LD_PRELOAD, LD_AUDIT) runs code in bubblewrap, still on the host.
        """
        options = [*NAMESPACES, *_system_mounts(), *self._etc_mounts(), *self._job_mounts(), *self._read_only_mounts()]
        options += ["--proc", "/proc", *_kernel_mounts(), "--dev", "/dev", *_device_mounts(self._gpus, self._devices)]
        files = [(_in_memory(file.text), f"{ROOT}/{file.target}") for file in self._files]
        options += [word for fd, path in files for word in ("--perms", "0600", "--ro-bind-data", str(fd), path)]
        if not self._plan.network:
            options.append("--unshare-net")
        variables = [word for pair in environment.items() for word in ("--setenv", *pair)]
        told = _in_memory("".join(f"{word}\0" for word in ("--clearenv", *variables)))
        gate = _gate()
        options += ["--remount-ro", "/", "--chdir", cwd, "--args", str(told), "--block-fd", str(gate), "--"]
        outside = {k: v for k, v in environment.items() if k == ATTEMPT_VARIABLE}  # by which leftovers are found
        return Command((bubblewrap(), *options, *argv), outside, "/", (told, *(fd for fd, _ in files)), gate)

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
            yield from ("--ro-bind" if mount.read_only else "--bind", mount.source, self.seen(mount))

    def _read_only_mounts(self) -> Iterator[str]:
        """Folders around those that are hidden, an empty one over these in each, and then what may be seen in them."""
        homes, links = interpreter_sights(self._prefix) if self._prefix else ([], [])
        shown = [*self._plan.read_only, *homes, *([self._prefix] if self._prefix else [])]
        secret = outermost((self._data_folder, *self._plan.hidden))
        pairs = [(p, folder) for p in (*_SYSTEM, *shown) for folder in secret if is_inside(folder, os.path.realpath(p))]
        around = {p for p, _ in pairs}
        hidden = {
            os.path.normpath(os.path.join(p, os.path.relpath(folder, os.path.realpath(p)))) for p, folder in pairs
        }
        for path in shown:
            if path in around:
                yield from ("--ro-bind", path, path)
        for path in sorted(hidden):
            yield from ("--tmpfs", path)
        for path in shown:
            if path not in around:
                yield from ("--ro-bind", path, path)
        for target, path in links:
            yield from ("--symlink", target, path)
        for path in sorted(hidden):
            yield from ("--remount-ro", path)

    def _etc_mounts(self) -> Iterator[str]:
        yield from ("--ro-bind", system_files(os.path.join(self._data_folder, "run")), "/etc")
        yield from ("--ro-bind-try", os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf")


def outermost(folders: Iterable[str]) -> list[str]:
    """The real paths of folders, without those that lie in another of them."""
    real = sorted({os.path.realpath(folder) for folder in folders if folder})
    return [path for path in real if not any(path != other and is_inside(path, other) for other in real)]


def interpreter_sights(prefix: str) -> tuple[list[str], list[tuple[str, str]]]:
    """What a prefix's interpreter needs outside of the prefix and the system: its installation, and the links to it.

    The links (target, path) are made anew: the folders that they lie in (``~/.local/bin``) are not for programs to see.
    """
    path = os.path.join(prefix, "bin", "python")
    links: list[tuple[str, str]] = []
    while os.path.islink(path):
        target = os.readlink(path)
        links.append((target, path))
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    home = os.path.dirname(os.path.dirname(path))  # of /bin/python it would be the root
    homes = [] if _is_below(path, _SYSTEM) else dict.fromkeys([home, os.path.realpath(home)])
    folders = [part for h in homes if not _is_below(h, (*_SYSTEM, prefix)) for part in _parts(h)]
    return folders, [link for link in links if not _is_below(link[1], (*_SYSTEM, "/etc", prefix, *folders))]


def _parts(home: str) -> list[str]:
    """An installation, or those of its parts that are no user's: one can be made into ``~`` or ``~/.local``."""
    user = os.path.realpath(Path("~").expanduser())
    if is_inside(user, home) or home == os.path.join(user, ".local"):
        return [p for name in _INSTALLATION if os.path.isdir(p := os.path.join(home, name))]
    return [home]


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(is_inside(path, folder) for folder in folders)


def _in_memory(text: str) -> int:
    """A descriptor that gives ``text`` from its start."""
    fd = os.memfd_create("jobsphere", os.MFD_CLOEXEC)
    view = memoryview(os.fsencode(text))
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _gate() -> int:
    """A pipe with both ends in one descriptor."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    os.close(writer)
    try:
        return os.open(f"/proc/self/fd/{reader}", os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(reader)


@functools.cache
def bubblewrap() -> str:
    """The program, by its path."""
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
def _device_mounts(gpus: tuple[int, ...] | None, folder: str) -> tuple[str, ...]:
    """Those of all GPUs, or of some by their indices with the nodes that control them."""
    if gpus is None:
        paths = [path for pattern in _GPUS for path in sorted(glob.glob(os.path.join(folder, pattern)))]
    else:
        renders = sorted(glob.glob(os.path.join(folder, "dri", "renderD*")), key=lambda path: (len(path), path))
        paths = [os.path.join(folder, f"nvidia{n}") for n in gpus] + [renders[n] for n in gpus if n < len(renders)]
        paths += [os.path.join(folder, name) for name in _GPU_CONTROLS] if gpus else []
    present = [(path, os.path.relpath(path, folder)) for path in paths if os.path.exists(path)]
    return tuple(option for path, name in present for option in ("--dev-bind", path, f"/dev/{name}"))
