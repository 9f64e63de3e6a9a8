"""One attempt carried in the foreground, by a process that somebody else watches: a job of Slurm.

This process is the parent that the spawner is elsewhere: what a supervisor leaves behind becomes its own and is ended,
and a supervisor that was killed is followed by one that closes its books, here, where its containers and groups are.
"""

from __future__ import annotations

import json
import os
import signal
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from jobsphere.domain.attempt import Ended, EndReason
from jobsphere.domain.job import Phase
from jobsphere.runner.processes import Reaper, become_subreaper
from jobsphere.runner.rundir import EXIT, FATE, STOP, RunDirectory

ENVIRON = "environ.json"
"""The variables of the supervisor, in the run directory until it begins: only their owner may read them."""
POLL_S = 0.5
_HEARD = (signal.SIGCHLD, signal.SIGTERM)


def carry(path: str, start: Callable[[str], None], close: Callable[[str], None]) -> int:
    """Carry the attempt of a run directory; the exit code: 0 if a supervisor came to its end.

    A stop order is looked for by polling: the FIFO wakes up nobody on another host. SIGTERM is Slurm's end of the job.

    Args:
        path: The run directory.
        start: Carries the attempt, and leaves one that was claimed before; called in a process of its own.
        close: Writes down the end of one that is lost; called in a process of its own.
    """
    run = RunDirectory(path)
    _take_variables(run)
    become_subreaper()
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    if _follow(run, _fork(path, start)) == 0:
        return 0
    Reaper().end_all()
    return _follow(run, _fork(path, close), heed=False)


def _take_variables(run: RunDirectory) -> None:
    """They are gone from the disk before anything else happens."""
    with suppress(FileNotFoundError):
        with open(run.at(ENVIRON), encoding="utf-8") as file:
            os.environ.update(json.load(file))
        os.unlink(run.at(ENVIRON))


def _fork(path: str, work: Callable[[str], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        work(path)
        code = 0
    except BaseException:  # noqa: BLE001  a forked process must not return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(code)


def _follow(run: RunDirectory, supervisor: int, *, heed: bool = True) -> int:
    """Wait for a supervisor's end, with orders passed on: its exit code. ``heed``: end it when Slurm says so."""
    reaper, woken_for = Reaper(), None
    reaper.remember(supervisor)
    while True:
        heard = signal.sigtimedwait(_HEARD, POLL_S)
        reaper.reap()
        if (end := reaper.ended(supervisor)) is not None:
            if heed and end[0] == 128 + signal.SIGTERM:  # Slurm tells all processes of a job at once
                _note_end(run)
            return end[0]
        if heed and heard is not None and heard.si_signo == signal.SIGTERM:
            _note_end(run)
            os.kill(supervisor, signal.SIGKILL)
        elif (order := _changed(run)) != woken_for:
            run.wake()
            woken_for = order


def _changed(run: RunDirectory) -> int | None:
    try:
        return os.stat(run.at(STOP)).st_mtime_ns
    except OSError:
        return None


def _note_end(run: RunDirectory) -> None:
    if run.has(EXIT):
        return
    job = os.environ.get("SLURM_JOB_ID", "")
    message = (
        f"The job was lost: Slurm ended its job {job} (by scancel, its time limit, or for another job), and nobody has "
        f"cancelled it here; `scontrol show job {job}` tells more. It is not started again by itself; create it anew."
    )
    run.record(FATE, Ended(datetime.now(UTC), EndReason.LOST, None, Phase.MACHINE, message))
