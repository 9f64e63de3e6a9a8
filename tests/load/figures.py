"""What a server takes of its machine, and what is left of jobs when none is there any more."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jobsphere.runner import cgroups
from jobsphere.runner.processes import attempt_mark
from tests.crash.place import Place
from tests.live import BIN, HANG_S, processes_of, wait_for

OF_THE_MACHINE = {"Sandbox and limits", "Containers", "Disk space", "Open files"}
"""What the doctor looks at that is not the server's."""


@dataclass(frozen=True)
class Taken:
    """What the server takes: resident memory in MiB, open descriptors, threads."""

    mib: int
    descriptors: int
    threads: int

    @classmethod
    def by(cls, pid: int) -> Taken:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return cls(int(status["VmRSS"].split()[0]) // 1024, len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]))


def left_behind(place: Place) -> Iterator[str]:
    """What should not be there when all jobs have ended: processes, groups, mounts, files, findings of the doctor."""
    mark = attempt_mark(str(place.data_dir / "attempts" / "x")).partition(".")[2]
    yield from (f"process {pid}: {command}" for pid, command in processes_of(f".{mark}").items())
    for folder in dict.fromkeys(cgroups.find().folders.values()):
        yield from (f"group {path}" for path in Path(folder).glob(f"jobsphere-*.{mark}"))
    yield from (line for line in Path("/proc/self/mounts").read_text().splitlines() if str(place.data_dir) in line)
    yield from place.unsettled()


def check_nothing_left(place: Place) -> None:
    """Wait until nothing is left of any job, and have the doctor look."""
    wait(lambda: not list(left_behind(place)), lambda: "left over: " + "; ".join([*left_behind(place)][:20]))
    place.check_blobs()
    command = [BIN / "jobsphere", "doctor", "--json", "--data-dir", place.data_dir]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, check=False).stdout)
    wrong = [result for result in found if result["wrong"] and result["looked_at"] not in OF_THE_MACHINE]
    assert not wrong, wrong


def wait(condition: Callable[[], object], words: Callable[[], str]) -> None:
    """Wait for a condition; if it never comes, say what there is instead."""
    try:
        wait_for(condition, "")
    except AssertionError as error:
        raise AssertionError(f"{error}{words()}") from error
