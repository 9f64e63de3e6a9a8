"""The ``/etc`` of sandboxes: one folder with what programs need of the host's, made once and mounted as a whole.

A mount for each file would cost more than all else about a sandbox (measured: 16 mounts, 3.4 of 8 ms). The folder is
named by what it was made from: a change of the host makes another one beside it, and a sandbox that runs keeps its own.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import shutil
from contextlib import suppress

from jobsphere.durable import Point, durable, locked

USER_ID = 1000
HOME = "/job/home"
HOSTNAME = "job"
_NAMES = (
    "alternatives", "ca-certificates", "fonts", "hosts", "java*", "ld.so.cache", "ld.so.conf", "ld.so.conf.d",
    "localtime", "mime.types", "nsswitch.conf", "OpenCL", "pki", "protocols", "python3*", "services", "ssl", "timezone",
)  # fmt: skip
_NAMED = re.compile("|".join(map(fnmatch.translate, _NAMES))).match
"""One, compiled by the warm parent. With one for each name, three of four calls of a supervisor were made for it."""
_ACCOUNTS = {
    "passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\njobsphere:x:{USER_ID}:{USER_ID}::{HOME}:/bin/bash\n",
    "group": f"root:x:0:\njobsphere:x:{USER_ID}:\n",
}
_OWN_NAME = f"127.0.0.1 {HOSTNAME}\n"
"""A line of ``hosts``: programs (Spark's driver) look their own host's name up, and end if it is nobody's."""
_LATER = "resolv.conf"
"""Mounted over it, since it changes with the network: the file is only there to be covered."""
_DRAFT = "etc.new"
_PRIVATE = shutil.ignore_patterns("private", "*.key", "*-key.pem")


def system_files(run_folder: str, etc: str = "/etc") -> str:
    """The folder for this host as it is now; made if it is not there.

    Args:
        run_folder: Where it is kept.
        etc: The host's.
    """
    sources = [name for name in sorted(os.listdir(etc)) if _NAMED(name)]
    folder = os.path.join(run_folder, f"etc-{_version(etc, sources)}")
    if not os.path.isdir(folder):
        with locked(run_folder):
            if not os.path.isdir(folder):
                _make(folder, etc, sources)
    return folder


def _version(etc: str, sources: list[str]) -> str:
    stats = [(name, os.stat(os.path.join(etc, name))) for name in sources]
    text = repr([(name, s.st_mtime_ns, s.st_size) for name, s in stats]) + repr(_ACCOUNTS) + _OWN_NAME
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _make(folder: str, etc: str, sources: list[str]) -> None:
    draft = os.path.join(os.path.dirname(folder), _DRAFT)
    shutil.rmtree(draft, ignore_errors=True)  # of one that was killed at it, whatever the host had by then
    os.makedirs(draft, mode=0o755)
    texts = {**_ACCOUNTS, _LATER: "", "hosts": _hosts(etc) + _OWN_NAME}
    for name in sources:
        source, target = os.path.join(etc, name), os.path.join(draft, name)
        if os.path.isdir(source):
            shutil.copytree(source, target, symlinks=True, ignore=_PRIVATE)
        elif name not in texts:
            shutil.copy(source, target)
    for name, text in texts.items():
        with open(os.path.join(draft, name), "w", errors="surrogateescape") as file:
            file.write(text)
    with durable(Point.SYSTEM_FILES):
        os.rename(draft, folder)


def _hosts(etc: str) -> str:
    with suppress(FileNotFoundError), open(os.path.join(etc, "hosts"), errors="surrogateescape") as file:
        return file.read().rstrip("\n") + "\n"
    return ""
