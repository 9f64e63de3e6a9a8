"""The machine: what it lacks for what the server offers."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from jobsphere.doctor.look import Finding, Known, Level
from jobsphere.domain.errors import JobsphereError
from jobsphere.domain.limits import human_size
from jobsphere.runner import cgroups, sandbox
from jobsphere.runner.images import EngineSettings, find_engine
from jobsphere.store.snapshot import stored_jobs

_LOW_BYTES, _LOW_SHARE = 1 << 30, 0.05
_FILES = 4096
_FAR_S = 60.0
_UNSYNCHRONISED = 5
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.s3fs", "ceph", "glusterfs"})


def fence(known: Known) -> Iterator[Finding]:
    """Jobs can be fenced in and held to their limits."""
    settings = known.look.settings
    reason = "" if settings.sandbox == "none" else sandbox.why_not()
    if reason:
        level = Level.WRONG if settings.sandbox == "bubblewrap" else Level.NOTE
        yield Finding(f"jobs are not fenced in: {reason}", "apt-get install bubblewrap, or set sandbox = 'none'", level)
    if reason := cgroups.why_not():
        yield Finding(f"nothing holds jobs to their CPUs and memory: {reason}", "see docs/operations.md", Level.NOTE)


def containers(known: Known) -> Iterator[Finding]:
    """Jobs with a Docker image can run."""
    settings = known.look.settings
    if settings.container_engine == "none":
        return
    try:
        find_engine(EngineSettings(settings.container_engine, settings.container_engine_args))
    except JobsphereError as error:
        level = Level.NOTE if settings.container_engine == "auto" else Level.WRONG
        yield Finding(error.public, "apt-get install podman; needed only for jobs with an image", level)


def disk_space(known: Known) -> Iterator[Finding]:
    """There is room, on a disk of this machine."""
    for path in {known.look.data_dir, known.look.shared, known.look.settings.working_storage or known.look.data_dir}:
        if not path.is_dir():
            yield Finding(f"there is no folder {path}", "mount its volume")
            continue
        usage = shutil.disk_usage(path)
        if usage.free < max(_LOW_BYTES, usage.total * _LOW_SHARE):
            text = f"{path}: {human_size(usage.free)} of {human_size(usage.total)} are free"
            yield Finding(text, "`jobsphere environments prune`, delete data of old jobs, or enlarge the disk")
        only_shared = path == known.look.shared != known.look.data_dir
        if not only_shared and (kind := _file_system(path)) in _REMOTE:
            yield Finding(f"{path} is on {kind}, where locks and the database are not safe", "use a local disk")


def clock(known: Known) -> Iterator[Finding]:
    """It is kept right, and not behind what was stored."""
    ahead = max((s for s in _stored_times(known)), default=0.0) - time.time()
    if ahead > _FAR_S:
        text = f"the clock is {ahead:.0f} s behind the newest job: it was set back, or was wrong then"
        yield Finding(text, "set it right; data would else expire late, and tokens be taken for too young")
    if ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == _UNSYNCHRONISED:
        yield Finding("nothing keeps the clock right", "apt-get install systemd-timesyncd or chrony", Level.NOTE)


def limits(known: Known) -> Iterator[Finding]:  # noqa: ARG001
    """The server may open enough files, and temporary files have a place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _FILES:
        step = f"LimitNOFILE={_FILES * 16} in the unit, or `ulimit -n {min(hard, _FILES * 16)}`"
        yield Finding(f"a process may open {soft} files; many log readers need more", step, Level.NOTE)


def _stored_times(known: Known) -> Iterator[float]:
    if known.look.database.is_file():
        for job in stored_jobs(known.look.database):
            if not isinstance(job, JobsphereError):
                yield job.created_at.timestamp()


def _file_system(path: Path) -> str:
    """The kind of the file system that a folder is on: of the mounts, the deepest that it is below."""
    real = os.path.realpath(path)
    found = ("", "")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split(" ")
        if os.path.commonpath([real, point]) == point and len(point) >= len(found[0]):
            found = (point, kind)
    return found[1]
