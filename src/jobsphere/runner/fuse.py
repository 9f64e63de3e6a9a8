"""The programs that mount a bucket as a folder: which of them this host has, and how each is told what to do.

All of them stay in the foreground and take the keys from their environment. Those that may write have written an object
when the closing of its file returns.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobsphere.domain.attempt import S3Mount

DEVICE = "/dev/fuse"
_SETTINGS = Path("/etc/fuse.conf")
_HELPERS = ("fusermount3", "fusermount")
_CAP_SYS_ADMIN = 21
_REGION = "us-east-1"
_CONNECT_S, _IDLE_S, _RETRIES = 10, 60, 5


@dataclass(frozen=True, slots=True)
class Place:
    """Where a bucket is to appear.

    Args:
        folder: The mount point.
        scratch: A folder for the program's temporary files.
        owner: The user (and group) that the files belong to, by number.
        shared: Whether other users may see them.
    """

    folder: str
    scratch: str
    owner: int
    shared: bool


@dataclass(frozen=True, slots=True)
class MountProgram:
    """A program that mounts buckets.

    Args:
        name: What it is called.
        argv: Its command line, without itself.
        keys: The variables that hold the access key and the secret key.
        failure: A line of its output that says that a request has failed for good.
        writes: Whether files can be changed in every way that programs use, and are in the bucket once they are closed.
    """

    name: str
    argv: Callable[[S3Mount, Place], list[str]]
    keys: tuple[str, str]
    failure: re.Pattern[str]
    writes: bool = True


def find_program(read_only: bool) -> MountProgram | None:
    """The first program of this host that can mount a bucket of that kind."""
    usable = (p for p in PROGRAMS if p.writes or read_only)
    return next((p for p in usable if shutil.which(p.name)), None)


def why_not(device: str = DEVICE, read_only: bool = True) -> str:
    """Why no bucket can be mounted on this host, and what to do about it; empty if it can."""
    if not os.path.exists(device):
        return f"there is no {device} here (a container needs --device {device})"
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"{device} cannot be opened ({error.strerror}); let the server's user open it"
    if os.geteuid() == 0 and not _may_mount():
        return "mounting is forbidden here (a container needs --cap-add SYS_ADMIN)"
    if os.geteuid() != 0 and helper() is None:
        return "fusermount is not installed (Debian: apt-get install fuse3)"
    if find_program(read_only) is None:
        names = ", ".join(p.name for p in PROGRAMS if p.writes or read_only)
        return f"none of {names} is installed (Debian: apt-get install s3fs)"
    return ""


def helper() -> str | None:
    """What unmounts for users without the right to do so."""
    return next((path for name in _HELPERS if (path := shutil.which(name))), None)


def may_share() -> bool:
    """Whether mounts may be seen by other users: root's always, those of others where the host says so."""
    if os.geteuid() == 0:
        return True
    try:
        return any(line.strip() == "user_allow_other" for line in _SETTINGS.read_text().splitlines())
    except OSError:
        return False


def _may_mount() -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> _CAP_SYS_ADMIN & 1)


def _endpoint(mount: S3Mount) -> str:
    return mount.endpoint or f"https://s3.{mount.region or _REGION}.amazonaws.com"


def _s3fs(mount: S3Mount, place: Place) -> list[str]:
    options = {
        "url": _endpoint(mount),
        "endpoint": mount.region or _REGION,
        "tmpdir": place.scratch,
        "uid": str(place.owner),
        "gid": str(place.owner),
        "umask": "0022",
        "mp_umask": "0022",
        "connect_timeout": str(_CONNECT_S),
        "readwrite_timeout": str(_IDLE_S),
        "retries": str(_RETRIES),
        "dbglevel": "err",
    }
    if not mount.access_key_sealed:
        options["public_bucket"] = "1"
    words = [f"{name}={_escaped(value)}" for name, value in options.items()]
    words += ["use_path_request_style", "sigv4", "nosuid", "nodev"]
    words += ["allow_other"] * place.shared + ["ro"] * mount.read_only
    source = f"{mount.bucket}:/{mount.prefix}" if mount.prefix else mount.bucket
    return [source, place.folder, "-f", *(word for option in words for word in ("-o", option))]


def _geesefs(mount: S3Mount, place: Place) -> list[str]:
    argv = ["-f", "--endpoint", _endpoint(mount), "--region", mount.region or _REGION, "--fsync-on-close"]
    argv += ["--uid", str(place.owner), "--gid", str(place.owner)]
    argv += ["--setuid", str(os.geteuid()), "--setgid", str(os.getegid())]
    argv += ["-o", "allow_other"] * place.shared + ["-o", "ro"] * mount.read_only
    return [*argv, f"{mount.bucket}:{mount.prefix}" if mount.prefix else mount.bucket, place.folder]


def _rclone(mount: S3Mount, place: Place) -> list[str]:
    argv = ["mount", f":s3:{mount.bucket}/{mount.prefix}", place.folder, "--config", "", "--log-level", "ERROR"]
    argv += ["--s3-provider", "Other", "--s3-endpoint", _endpoint(mount), "--s3-region", mount.region or _REGION]
    argv += ["--s3-no-check-bucket", "--cache-dir", place.scratch, "--read-only"]
    argv += ["--contimeout", f"{_CONNECT_S}s", "--timeout", f"{_IDLE_S}s"]
    argv += ["--uid", str(place.owner), "--gid", str(place.owner), "--umask", "022"]
    return argv + ["--allow-other"] * place.shared


def _mount_s3(mount: S3Mount, place: Place) -> list[str]:
    argv = [mount.bucket, place.folder, "--foreground", "--read-only", "--region", mount.region or _REGION]
    argv += ["--endpoint-url", mount.endpoint, "--force-path-style"] if mount.endpoint else []
    argv += ["--prefix", f"{mount.prefix}/"] if mount.prefix else []
    argv += ["--uid", str(place.owner), "--gid", str(place.owner)] if place.owner else []
    return argv + ["--no-sign-request"] * (not mount.access_key_sealed) + ["--allow-other"] * place.shared


def _escaped(value: str) -> str:
    """A value in a list of options, as libfuse reads it."""
    return re.sub(r"([\\,])", r"\\\1", value)


_AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_ERROR = re.compile(r"\bERROR\b")
PROGRAMS = (
    MountProgram("geesefs", _geesefs, _AWS_KEYS, _ERROR),
    MountProgram(
        "s3fs",
        _s3fs,
        ("AWSACCESSKEYID", "AWSSECRETACCESSKEY"),
        # "Not found" is an answer like any other to it, and is not told.
        re.compile(r"RequestPerform\(\d+\): (HTTP response code \d+, returning|### giving up)"),
    ),
    MountProgram("rclone", _rclone, ("RCLONE_S3_ACCESS_KEY_ID", "RCLONE_S3_SECRET_ACCESS_KEY"), _ERROR, writes=False),
    MountProgram("mount-s3", _mount_s3, _AWS_KEYS, _ERROR, writes=False),
)
"""In the order of preference."""
