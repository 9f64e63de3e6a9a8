"""The mounts of this host: is something mounted there, and take it away.

Whatever is mounted for an attempt lies in a folder of the attempt's own beside the run directories, never in one: what
removes a job's files cannot come by it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from jobsphere.runner.fuse import helper

FOLDER = "mounts"
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_CALL_S, _AGAIN_S = 20, 0.05
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(rb"\\([0-7]{3})")
_libc = ctypes.CDLL(None, use_errno=True)


def mounts_folder(run_directory: str) -> str:
    """The folder of an attempt's mount points."""
    attempts, attempt_id = os.path.split(os.path.realpath(run_directory))
    return os.path.join(os.path.dirname(attempts), FOLDER, attempt_id)


def is_mounted(path: str) -> bool:
    """Whether something is mounted at the absolute ``path``. Asks the kernel's table, and so never waits for it."""
    points = (line.split(b" ", 5)[4] for line in _MOUNTS.read_bytes().splitlines())
    return os.fsencode(path) in (_ESCAPED.sub(lambda m: bytes([int(m[1], 8)]), point) for point in points)


def unmount(path: str, patience_s: float) -> bool:
    """Unmount it, once nobody uses it any more; after ``patience_s`` seconds out of sight at least, which is False.

    Raises:
        OSError: it cannot be unmounted.
    """
    until = time.monotonic() + patience_s
    while is_mounted(path):
        detach = time.monotonic() > until
        code = _unmount(path, detach)
        if code == 0:
            return not detach
        if code != errno.EBUSY or detach:
            raise OSError(code, f"cannot be unmounted: {os.strerror(code)}", path)
        time.sleep(_AGAIN_S)
    return True


def end_mounts(run_directory: str) -> list[str]:
    """Take away all that is mounted for an attempt whose processes are gone: what went wrong. May be repeated."""
    top, problems = mounts_folder(run_directory), list[str]()
    try:
        names = os.listdir(top)
    except FileNotFoundError:
        return []
    for name in names:
        try:
            remove_mount_point(os.path.join(top, name), 0)
        except OSError as error:
            problems.append(f"{error.filename} {error.strerror}")
    return problems


def remove_mount_point(path: str, patience_s: float) -> bool:
    """Unmount it and remove the folder, which is empty then or stays; see :func:`unmount`."""
    calm = unmount(path, patience_s)
    for folder in (Path(path), Path(path).parent):
        with suppress(OSError):  # it is gone, or others are in there
            folder.rmdir()
    return calm


def _unmount(path: str, detach: bool) -> int:
    """0, or the number of the error."""
    if os.geteuid() == 0:
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if detach else 0)
        return ctypes.get_errno() if _libc.umount2(os.fsencode(path), flags) else 0
    argv = [helper() or "fusermount", "-u", *(["-z"] if detach else []), "--", path]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/", timeout=_CALL_S
    )
    return (errno.EBUSY if "busy" in done.stderr.lower() else errno.EPERM) if done.returncode else 0
