"""What killed supervisors left behind, as whoever looks over a node finds it."""

from __future__ import annotations

import os
from pathlib import Path

from jobsphere.runner.processes import ATTEMPT_VARIABLE, attempt_mark
from jobsphere.runner.rundir import RunDirectory


def orphaned_attempts(attempts: Path) -> dict[str, list[int]]:
    """Processes of attempts of this folder whose supervisor is gone, by the attempt's id.

    A supervisor's fresh successor ends them by itself: only what stays is left behind.
    """
    digest = attempt_mark(str(attempts / "x")).partition(".")[2]
    found: dict[str, list[int]] = {}
    for entry in os.listdir("/proc"):
        attempt_id = _attempt_of(entry, digest) if entry.isdigit() else ""
        if attempt_id and not RunDirectory(str(attempts / attempt_id)).is_locked():
            found.setdefault(attempt_id, []).append(int(entry))
    return found


def _attempt_of(entry: str, digest: str) -> str:
    try:
        with open(f"/proc/{entry}/environ", "rb", buffering=0) as file:
            words = file.readall().split(b"\0")
    except OSError:
        return ""
    prefix, suffix = f"{ATTEMPT_VARIABLE}=".encode(), f".{digest}".encode()
    marks = (word for word in words if word.startswith(prefix) and word.endswith(suffix))
    return os.fsdecode(next(marks, b"").removeprefix(prefix).removesuffix(suffix))
