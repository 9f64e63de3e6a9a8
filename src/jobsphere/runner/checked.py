"""Which stored files were found to be what their hash says, so that large inputs are not hashed again for every job.

It is an extended attribute of the file itself, and goes with it. It holds while the file is as it was then (its size
and the time of its last change), and for a day: what a disk spoils without anybody's writing is found by then. Where
files have no such attributes they are hashed each time.
"""

from __future__ import annotations

import os
import time

ATTRIBUTE = "user.jobsphere.checked"
HOLDS_S = 24 * 3600


def is_checked(fd: int, sha256: str) -> bool:
    """Whether the open file was found to have this hash, not long ago, and has not been written since."""
    try:
        known, size, changed, at = os.getxattr(fd, ATTRIBUTE).decode("ascii").split()
        recent = 0 <= time.time() - float(at) < HOLDS_S
    except (OSError, ValueError):
        return False
    return recent and f"{known} {size} {changed}" == f"{sha256} {looks(fd)}"


def remember(fd: int, sha256: str, looked: str) -> None:
    """The open file has this hash. ``looked``: what :func:`looks` said of it before it was read."""
    try:
        os.setxattr(fd, ATTRIBUTE, f"{sha256} {looked} {int(time.time())}".encode("ascii"))
    except OSError:  # its file system has none, or it is not this user's to write: it is hashed the next time too
        return


def looks(fd: int) -> str:
    """What would be another if somebody wrote to the file."""
    status = os.fstat(fd)
    return f"{status.st_size} {status.st_mtime_ns}"
